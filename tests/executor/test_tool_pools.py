"""How long calls of tools wait: for a process to start, for a slot, and together with others."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

import halo
from executor.tool_pools import PROCESS_START_S, PROCESSES, ToolPool, ToolQueue, tool_pools
from planner.ir.plan import ToolSpec

ONE = ToolSpec("look")
MANY = replace(ONE, max_batch=3)


def test_calls_beyond_the_slots_wait_for_the_first_that_is_free() -> None:
    queue = ToolQueue(ONE, ToolPool(2))
    assert [queue.ends_at(0.0, seconds) for seconds in (3.0, 1.0, 1.0, 1.0, 1.0)] == [3.0, 1.0, 2.0, 3.0, 4.0]
    assert queue.ends_at(10.0, 1.0) == 11.0


def test_no_call_begins_before_a_process_has_started() -> None:
    queue = ToolQueue(ONE, ToolPool(1, start_s=2.0))
    assert [queue.ends_at(0.5, 1.0), queue.ends_at(9.0, 1.0)] == [3.0, 10.0]


def test_calls_that_wait_for_a_slot_go_together_and_are_answered_each_in_its_time() -> None:
    queue = ToolQueue(MANY, ToolPool(1))
    assert queue.ends_at(0.0, 5.0) == 5.0
    assert [queue.ends_at(1.0, seconds) for seconds in (1.0, 2.0, 1.5)] == [6.0, 7.0, 6.5]
    assert queue.ends_at(2.0, 1.0) == 8.0, "a batch is full: the next begins when its longest call has ended"


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 5)), max_size=30), st.integers(1, 4))
def test_no_call_ends_sooner_than_alone_and_never_do_more_run_than_there_are_slots(
    calls: list[tuple[float, float]], slots: int
) -> None:
    queue = ToolQueue(ONE, ToolPool(slots))
    runs = []
    for at, seconds in sorted(calls):
        ends_at = queue.ends_at(at, seconds)
        assert ends_at >= at + seconds
        runs.append((ends_at - seconds, ends_at))
    for begins_at, _ in runs:
        assert sum(begun <= begins_at + 1e-9 and begins_at + 1e-6 < ended for begun, ended in runs) <= slots


@halo.tool(effect="pure", isolated=True, concurrency=8)
def apart(text: str) -> str:
    return text


@halo.tool(effect="pure", concurrency=5)
def in_a_thread(text: str) -> str:
    return text


def test_a_tool_has_the_pool_its_kind_of_body_runs_in() -> None:
    tools = {tool.name: tool for tool in (apart, in_a_thread)}
    assert tool_pools(tools) == {"apart": ToolPool(PROCESSES, PROCESS_START_S), "in_a_thread": ToolPool(5)}
    assert tool_pools(tools, started=True)["apart"] == ToolPool(PROCESSES)
