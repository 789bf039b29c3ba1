"""Tools with a body for many calls, in this process and in one of their own. Worker processes import it by its name.

Results tell what ran: "one: a" for a call of its own, "many 3: a" for a call in a batch of three.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import halo

#: Set it, and tools that linger in this process go on.
RELEASED = threading.Event()
#: The call of `fetch` for this key waits until it is set.
HELD = threading.Event()


@halo.tool(effect="pure", timeout="60s", concurrency=1, max_batch=4)
async def fetch(key: str) -> str:
    """Waits a little, so that others gather; may misbehave."""
    await asyncio.sleep(0.01)
    while key == "held" and not HELD.is_set():
        await asyncio.sleep(0.01)
    if key == "bad":
        raise LookupError(key)
    return f"one: {key}"


@fetch.batched
async def fetch_many(calls: list[dict[str, Any]]) -> list[str | Exception]:
    await asyncio.sleep(0.01)
    keys = [call["key"] for call in calls]
    if "poison" in keys:
        raise RuntimeError("the whole batch")
    if "lost" in keys:
        return []
    if "hang" in keys:
        await asyncio.sleep(3600)
    return [LookupError(key) if key == "bad" else f"many {len(calls)}: {key}" for key in keys]


@halo.tool(effect="pure", timeout="60s", concurrency=1, max_batch=4)
def count(number: int, step: int = 1) -> int:
    """In a thread; the default is filled in for batches too."""
    time.sleep(0.01)
    return number + step


@count.batched
def count_many(calls: list[dict[str, Any]]) -> list[int]:
    time.sleep(0.01)
    return [100 * len(calls) + call["number"] + call["step"] for call in calls]


@halo.tool(effect="pure", timeout="60s", concurrency=1, max_batch=8, isolated=True, memory_mb=256)
def crunch(text: str) -> str:
    if text == "exit":
        os._exit(3)
    return f"one {os.getpid()}: {text}"


@crunch.batched
def crunch_many(calls: list[dict[str, Any]]) -> list[Any]:
    return [_crunched(call["text"], len(calls)) for call in calls]


def _crunched(text: str, together: int) -> Any:
    if text == "exit":
        os._exit(3)
    if text == "bad":
        return ValueError("cannot crunch")
    if text == "unwritable":
        return object()
    return "x" * 2_000_000 if text == "flood" else f"many {together} {os.getpid()}: {text}"


@halo.tool(effect="pure", timeout="60s", concurrency=2, max_batch=8, isolated=True, memory_mb=256)
def squeeze(text: str) -> int:
    return os.getpid()


@squeeze.batched
def squeeze_many(calls: list[dict[str, Any]]) -> list[int]:
    return [os.getpid() for _ in calls]


@halo.tool(effect="pure", timeout="60s", concurrency=1, max_batch=8, isolated=True, memory_mb=256)
def trickle(text: str) -> str:
    return f"one: {text}"


@trickle.batched
def trickle_many(calls: list[dict[str, Any]]) -> Iterator[Any]:
    """Gives what it has; may wait for a file, may break, and may end too early."""
    for call in calls:
        text = call["text"]
        if text == "break":
            raise RuntimeError("the rest of the batch")
        if text == "stop":
            return
        while text.startswith("/") and not Path(text).exists():
            time.sleep(0.01)
        yield ValueError("cannot trickle") if text == "bad" else f"many {len(calls)}: {text}"


@halo.tool(effect="pure", timeout="60s", concurrency=1, max_batch=8)
def trickle_here(text: str) -> str:
    return f"one: {text}"


trickle_here.batched(trickle_many)


@halo.tool(effect="pure", timeout="60s", concurrency=1, max_batch=8)
async def trickle_async(text: str) -> str:
    return f"one: {text}"


@trickle_async.batched
async def trickle_async_many(calls: list[dict[str, Any]]) -> AsyncIterator[Any]:
    """The same on the event loop."""
    for call in calls:
        text = call["text"]
        if text == "break":
            raise RuntimeError("the rest of the batch")
        if text == "stop":
            return
        while text.startswith("/") and not Path(text).exists():
            await asyncio.sleep(0.01)
        yield ValueError("cannot trickle") if text == "bad" else f"many {len(calls)}: {text}"


@halo.tool(effect="pure", timeout="60s", concurrency=2, max_batch=8)
async def sort_out(bin: str, item: str) -> str:
    await asyncio.sleep(0.01)
    return f"one: {item}"


@sort_out.batched(together=lambda bin, item: {"alone": None, "odd": []}.get(bin, bin))
async def sort_out_many(calls: list[dict[str, Any]]) -> list[str]:
    await asyncio.sleep(0.01)
    return [f"many {len(calls)}: {call['item']}" for call in calls]


@halo.tool(effect="pure", timeout="600s", concurrency=4, isolated=True, memory_mb=256)
def linger(text: str) -> str:
    """Takes as long as it may."""
    time.sleep(550)
    return text


@halo.tool(effect="pure", timeout="600s", concurrency=40)
def linger_here(text: str) -> str:
    """The same in a thread, until it is told to go on."""
    RELEASED.wait(550)
    return text


@halo.tool(effect="pure", timeout="60s", isolated=True, memory_mb=256)
def quick(text: str) -> str:
    return text.upper()


@halo.tool(effect="pure", timeout="60s")
def quick_here(text: str) -> str:
    return text.upper()
