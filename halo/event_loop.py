"""The event loop: how Halo's own processes run on it, and how they wait on it."""

import asyncio
import gc
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def run_process(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end what this process is there for.

    What was loaded before stays, so it is not looked through for garbage each time: that is a tenth of a second.
    """
    gc.freeze()
    return run_async(work)


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Returns when the event is set, or after `seconds`."""
    with suppress(TimeoutError):  # not `asyncio.wait_for`, which may swallow a cancellation (Python 3.11)
        async with asyncio.timeout(seconds):
            await event.wait()
