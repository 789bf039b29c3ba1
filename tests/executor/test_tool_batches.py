"""Many calls of one tool at once: gathered while its slots are taken, and none fails for what stood beside it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import batched_tools as bodies
import pytest
from live_runs import run_live
from patience import at_some_pace

import halo
from executor.child_process import ToolFailed
from executor.commands import Status
from executor.tools import ToolRunner
from planner.ir.values import Json

TOOLS = {tool.name: tool for tool in vars(bodies).values() if isinstance(tool, halo.Tool)}


@pytest.fixture
async def runner() -> AsyncIterator[ToolRunner]:
    runner = ToolRunner(TOOLS)
    bodies.HELD.clear()
    bodies.RELEASED.clear()
    yield runner
    bodies.HELD.set()
    bodies.RELEASED.set()
    await runner.close()


async def outcomes(runner: ToolRunner, tool: halo.Tool[..., Any], *calls: Mapping[str, Json]) -> list[Any]:
    """Of calls that come at one instant: results, and the codes of failures."""
    found = await asyncio.gather(*(runner.run(tool.spec, call) for call in calls), return_exceptions=True)
    return [one.failure.code if isinstance(one, ToolFailed) else one for one in found]


async def fetched(runner: ToolRunner, *keys: str) -> list[Any]:
    return await outcomes(runner, bodies.fetch, *({"key": key} for key in keys))


async def crunched(runner: ToolRunner, *texts: str) -> list[Any]:
    return await outcomes(runner, bodies.crunch, *({"text": text} for text in texts))


async def test_a_call_that_comes_alone_is_run_by_the_body_for_one(runner: ToolRunner) -> None:
    assert await fetched(runner, "a") == ["one: a"]


async def test_calls_of_one_instant_go_together_as_far_as_a_batch_holds(runner: ToolRunner) -> None:
    given = await fetched(runner, *"abcdef")
    assert given == ["many 4: a", "many 4: b", "many 4: c", "many 4: d", "many 2: e", "many 2: f"]


async def test_what_comes_while_a_call_runs_is_gathered(runner: ToolRunner) -> None:
    first = asyncio.create_task(fetched(runner, "held"))
    await asyncio.sleep(0.005)
    others = [asyncio.create_task(fetched(runner, "a"))]
    await asyncio.sleep(0.005)
    others.append(asyncio.create_task(fetched(runner, "b")))
    await asyncio.sleep(0.005)
    bodies.HELD.set()
    assert await asyncio.gather(first, *others) == [["one: held"], ["many 2: a"], ["many 2: b"]]


async def test_sync_bodies_run_in_threads_and_see_defaults(runner: ToolRunner) -> None:
    assert await outcomes(runner, bodies.count, {"number": 1}, {"number": 2, "step": 5}) == [202, 207]


async def test_a_call_is_begun_when_its_batch_is_and_once(runner: ToolRunner) -> None:
    begun: list[str] = []

    async def run(key: str) -> Json:
        return await runner.run(bodies.fetch.spec, {"key": key}, lambda: begun.append(key))

    first = asyncio.create_task(run("held"))
    await asyncio.sleep(0.005)
    others = [asyncio.create_task(run(key)) for key in ("poison", "b")]
    await asyncio.sleep(0.005)
    assert begun == ["held"], "the others wait for its slot"
    bodies.HELD.set()
    assert await asyncio.gather(first, *others) == ["one: held", "one: poison", "one: b"]
    assert begun == ["held", "poison", "b"]


async def test_a_call_that_fails_in_a_batch_fails_alone(runner: ToolRunner) -> None:
    assert await fetched(runner, "a", "bad", "b") == ["many 3: a", "tool_raised", "many 3: b"]


async def test_arguments_that_do_not_fit_never_reach_the_body(runner: ToolRunner) -> None:
    given = await outcomes(runner, bodies.fetch, {"key": "a"}, {"kee": "b"}, {"key": "c"})
    assert given == ["many 2: a", "tool_raised", "many 2: c"]


@pytest.mark.parametrize("cause", ["poison", "lost"])
async def test_a_batch_that_fails_as_a_whole_is_run_call_by_call(runner: ToolRunner, cause: str) -> None:
    given = await fetched(runner, "a", cause, "bad", "b")
    assert given == ["one: a", f"one: {cause}", "tool_raised", "one: b"]


async def test_a_batch_that_misses_its_deadline_is_run_call_by_call(runner: ToolRunner) -> None:
    async def story(pace: float) -> None:
        """Alone, each is done in a tenth of its deadline."""
        spec = replace(bodies.fetch.spec, timeout_s=0.1 * pace)
        asked = (runner.run(spec, {"key": key}) for key in ("a", "hang"))
        assert await asyncio.gather(*asked) == ["one: a", "one: hang"]

    await at_some_pace(story)


async def test_a_call_that_is_given_up_costs_the_others_nothing(runner: ToolRunner) -> None:
    tasks = [asyncio.create_task(runner.run(bodies.fetch.spec, {"key": key})) for key in "abc"]
    await asyncio.sleep(0.005)
    tasks[2].cancel()
    assert await asyncio.gather(*tasks[:2]) == ["many 3: a", "many 3: b"]


async def test_a_batch_nobody_waits_for_leaves_its_slot(runner: ToolRunner) -> None:
    tasks = [asyncio.create_task(runner.run(bodies.fetch.spec, {"key": key})) for key in ("a", "hang")]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    assert await asyncio.wait_for(fetched(runner, "next"), 60.0) == ["one: next"]


@pytest.mark.parametrize("tool", [bodies.trickle, bodies.trickle_here, bodies.trickle_async])
async def test_a_call_goes_on_when_its_own_result_is_there(
    runner: ToolRunner, tool: halo.Tool[..., Any], tmp_path: Path
) -> None:
    waited_for = tmp_path / "now"
    texts = ["a", "bad", str(waited_for), "b"]
    calls = [asyncio.create_task(runner.run(tool.spec, {"text": text})) for text in texts]
    assert await calls[0] == "many 4: a"
    with pytest.raises(ToolFailed, match="cannot trickle"):
        await calls[1]
    assert not calls[2].done()
    assert not calls[3].done()
    waited_for.touch()
    assert await calls[3] == "many 4: b"


@pytest.mark.parametrize("how", ["break", "stop"])
@pytest.mark.parametrize("tool", [bodies.trickle, bodies.trickle_here, bodies.trickle_async])
async def test_what_a_broken_batch_gave_is_kept_and_the_rest_is_run_call_by_call(
    runner: ToolRunner, tool: halo.Tool[..., Any], how: str
) -> None:
    given = await outcomes(runner, tool, *({"text": text} for text in ("a", "b", how, "c")))
    assert given == ["many 4: a", "many 4: b", f"one: {how}", "one: c"]


async def test_only_calls_that_gain_by_it_go_together(runner: ToolRunner) -> None:
    bins = ["red", "alone", "blue", "red", "alone", "odd", "red"]
    calls = ({"bin": bin, "item": str(number)} for number, bin in enumerate(bins))
    given = await outcomes(runner, bodies.sort_out, *calls)
    assert given == ["many 3: 0", "one: 1", "one: 2", "many 3: 3", "one: 4", "one: 5", "many 3: 6"]


async def test_calls_that_are_all_alike_are_shared_out_among_the_processes(runner: ToolRunner) -> None:
    pids = await outcomes(runner, bodies.squeeze, *({"text": text} for text in "abcdef"))
    assert sorted(map(pids.count, set(pids))) == [3, 3], "no process idles while the other has all of them"


async def test_tools_are_prepared_as_far_as_they_need_it() -> None:
    runner = ToolRunner(TOOLS)
    runner.prepare(bodies.quick.spec, 1)
    runner.prepare(bodies.quick_here.spec, 5)
    runner.prepare(replace(bodies.quick.spec, name="unknown"), 5)
    assert await runner.run(bodies.quick.spec, {"text": "now"}) == "NOW"
    await runner.close()


async def test_an_isolated_batch_is_one_call_of_one_process(runner: ToolRunner) -> None:
    given = await crunched(runner, "a", "b", "c")
    assert len({one.rpartition(":")[0] for one in given}) == 1
    assert given[0].startswith("many 3 ")


async def test_an_isolated_call_that_fails_in_a_batch_fails_alone(runner: ToolRunner) -> None:
    given = await crunched(runner, "a", "bad", "unwritable", "flood", "b")
    assert given[1:4] == ["tool_raised", "tool_bad_output", "tool_output_too_large"]
    assert all(one.startswith("many 5 ") for one in (given[0], given[4]))


async def test_a_process_that_dies_of_one_call_of_a_batch_costs_only_that_call(runner: ToolRunner) -> None:
    given = await crunched(runner, "a", "exit", "b")
    assert given[1] == "tool_killed"
    assert all(one.startswith("one ") for one in (given[0], given[2]))


@pytest.mark.parametrize(("slow", "other"), [(bodies.linger, bodies.quick), (bodies.linger_here, bodies.quick_here)])
async def test_a_slow_tool_holds_up_no_other_tool(
    slow: halo.Tool[..., Any], other: halo.Tool[..., Any], runner: ToolRunner
) -> None:
    busy = [asyncio.create_task(runner.run(slow.spec, {"text": "x"})) for _ in range(slow.spec.concurrency)]
    await asyncio.sleep(0.05)
    assert await asyncio.wait_for(runner.run(other.spec, {"text": "now"}), 120.0) == "NOW"
    bodies.RELEASED.set()
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)


@halo.workflow
def fetch_each(key: str) -> str:
    return bodies.fetch(key)


async def test_a_job_runs_its_calls_in_batches_and_every_row_has_its_own_outcome() -> None:
    rows = [{"key": key} for key in ("a", "bad", "b", "a")]
    status, ended, _ = await run_live(fetch_each.plan, rows, fetch_each.tools)
    assert status is Status.FAILED
    assert [row.result for row in ended] == ["many 3: a", None, "many 3: b", "many 3: a"]
