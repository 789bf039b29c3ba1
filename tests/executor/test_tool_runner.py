"""Tools that run in this process: whatever they raise is their own failure, and costs nobody else anything."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

import pytest

import halo
from executor.child_process import ToolFailed, ToolFailureCode
from executor.tools import ToolRunner
from planner.ir.values import Json


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message for you")


RAISED: dict[str, tuple[BaseException, str]] = {
    "error": (ValueError("no such table"), "ValueError: no such table"),
    "unreadable": (Unreadable(), "Unreadable: (its message cannot be read)"),
    "stop": (StopIteration("early"), "StopIteration: early"),
    "late": (TimeoutError("its own"), "TimeoutError: its own"),
    "cancelled": (asyncio.CancelledError("its own"), "CancelledError: its own"),
}


@halo.tool(effect="idempotent", timeout="60s")
def misbehave(how: str) -> Any:
    """Raises what it is told to, or leaves."""
    if how == "leave":
        sys.exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt("not from any keyboard")
    raise RAISED[how][0]


@halo.tool(effect="idempotent", timeout="60s")
async def misbehave_async(how: str) -> Any:
    """The same, on the event loop."""
    if how == "leave":
        sys.exit(3)
    raise RAISED[how][0]


@halo.tool(effect="idempotent", timeout="60s")
async def wait_long(how: str) -> Any:
    """Waits until it is stopped."""
    await asyncio.sleep(3600)


async def failure_of(tool: halo.Tool[..., Any], how: str) -> tuple[str, str]:
    with pytest.raises(ToolFailed) as raised:
        await ToolRunner({tool.name: tool}).run(tool.spec, {"how": how})
    return raised.value.failure.code, raised.value.failure.message


@pytest.mark.parametrize("how", RAISED)
async def test_whatever_a_tool_raises_is_its_failure(how: str) -> None:
    assert await failure_of(misbehave, how) == ("tool_raised", f"misbehave raised {RAISED[how][1]}")


@pytest.mark.parametrize("how", [how for how in RAISED if how != "stop"])
async def test_whatever_an_async_tool_raises_is_its_failure(how: str) -> None:
    assert await failure_of(misbehave_async, how) == ("tool_raised", f"misbehave_async raised {RAISED[how][1]}")


@pytest.mark.parametrize("tool", [misbehave, misbehave_async])
async def test_a_tool_that_exits_ends_only_itself(tool: halo.Tool[..., Any]) -> None:
    assert await failure_of(tool, "leave") == ("tool_raised", f"{tool.name} raised SystemExit: 3")


async def test_an_interrupt_in_a_thread_is_the_tools_own() -> None:
    code, _ = await failure_of(misbehave, "interrupt")
    assert code == "tool_raised"


async def test_a_tool_that_is_cancelled_from_outside_is_cancelled() -> None:
    running: asyncio.Task[Json] = asyncio.create_task(
        ToolRunner({"wait_long": wait_long}).run(wait_long.spec, {"how": ""})
    )
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@dataclass
class Scores:
    best: Any
    all: list[Any]


@halo.tool(effect="pure", timeout="60s")
def score(how: str) -> Any:
    """Without a type that says so, NaN would become null: a lost number for a missing one."""
    number = float(how)
    return {"plain": [number, None], "named": Scores(number, [None])}


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
async def test_a_number_that_json_does_not_have_is_refused_wherever_it_stands(number: str) -> None:
    code, message = await failure_of(score, number)
    assert code == ToolFailureCode.BAD_OUTPUT
    assert "JSON cannot hold" in message
    assert "None in the place of NaN" in message


async def test_none_stays_none() -> None:
    given = await ToolRunner({"score": score}).run(score.spec, {"how": "1.5"})
    assert given == {"plain": [1.5, None], "named": {"best": 1.5, "all": [None]}}


def test_an_exit_in_a_tool_does_not_end_an_inline_run() -> None:
    with pytest.raises(halo.RunFailed, match="SystemExit"):
        leaves("leave")


@halo.workflow
def leaves(how: str) -> Any:
    return misbehave(how)
