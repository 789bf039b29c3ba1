"""A job is played through before it runs: what was seen is drawn again, and nobody is asked."""

import json
from dataclasses import replace

import pytest

import halo
from executor.drivers.foreseen import Foreseen
from executor.engines.port import EngineSpec, GenerateRequest
from executor.prediction import predict_makespan
from executor.tool_pools import ToolPool
from planner.cost.history import NO_HISTORY, Seen, history_of
from planner.ir.ids import EngineId, JobId, NodeRef, program_id
from planner.ir.plan import Sampling
from planner.table import Table
from tests.executor.even_profile import SECOND

ENGINE = EngineSpec(EngineId("even"), "modelled", ("m",), max_running=8, profile=SECOND)


@halo.tool(effect="pure")
def count(text: str) -> dict[str, int]:
    raise AssertionError("nobody runs a tool to foresee it")


@halo.llm(model="m", max_tokens=50)
def draft(question: str) -> str:
    return f"Draft: {question}"


@halo.llm(model="m", max_tokens=50)
def finish(text: str, length: int) -> str:
    return f"Finish {text} in {length}"


@halo.workflow
def report(question: str) -> str:
    text = draft(question)
    return finish(text, count(text)["length"])


@halo.workflow
def single(question: str) -> str:
    return draft(question)


SEEN = (
    Seen("draft", json.dumps("five tokens long"), 0.0, 40, 5),
    Seen("count", json.dumps({"length": 16}), 2.0),
    Seen("finish", json.dumps("done"), 0.0, 40, 3),
)


def table(workflow, *questions):
    return Table.from_rows([{"question": question} for question in questions], workflow.plan.inputs)


async def test_a_chain_takes_what_its_parts_took_and_a_measured_engine_may_be_wrong():
    found = await predict_makespan(report.plan, table(report, "a", "b", "c"), [ENGINE], history_of(SEEN))
    assert found.seconds.p50 == 10.0
    assert (found.seconds.p10, found.seconds.p90) == (pytest.approx(9.0), pytest.approx(11.0))
    assert (found.rows, found.calls, found.output_tokens, found.failed) == (3, 6, 24, 0)


async def test_engines_that_are_kept_for_others_are_left_alone():
    quick = replace(ENGINE, id=EngineId("quick"), tenants=("ann",), profile=replace(SECOND, overhead_s=0.1))
    found = {
        tenant: await predict_makespan(
            report.plan, table(report, "a"), [ENGINE, quick], history_of(SEEN), tenant=tenant
        )
        for tenant in ("ann", "bob")
    }
    assert found["bob"] == await predict_makespan(report.plan, table(report, "a"), [ENGINE], history_of(SEEN))
    assert found["ann"].seconds.p50 < found["bob"].seconds.p50
    assert (found["ann"].failed, found["bob"].failed) == (0, 0)


async def test_calls_of_a_tool_wait_for_its_slots_and_its_processes():
    """Nine answers stand after 5 s; with one slot, their tool's calls of 2 s follow each other."""

    async def seconds(**more):
        rows = table(report, *"abcdefgh")
        found = await predict_makespan(report.plan, rows, [ENGINE], history_of(SEEN), draws=1, **more)
        return found.seconds.p50

    at_once = await seconds()
    assert at_once == 10.0
    assert await seconds(tools={"count": ToolPool(1)}) == 5 + 8 * 2 + 3
    assert await seconds(tools={"count": ToolPool(8, start_s=9.0)}) == 9 + 2 + 3


async def test_equal_rows_are_foreseen_to_be_done_once():
    found = await predict_makespan(report.plan, table(report, *"aaaa"), [ENGINE], history_of(SEEN))
    assert found.calls == 2


async def test_what_was_never_seen_takes_as_long_as_its_prior_says():
    found = await predict_makespan(single.plan, table(single, *"abcdefgh"), [ENGINE], draws=9)
    assert 25 <= found.seconds.p50 <= 50
    assert found.failed == 0


async def test_a_made_up_tool_may_not_do_and_that_is_told():
    found = await predict_makespan(report.plan, table(report, "a"), [ENGINE])
    assert found.failed == 1.0


async def test_the_same_seed_foresees_the_same():
    questions = [f"q{number}" for number in range(40)]
    first = await predict_makespan(single.plan, table(single, *questions), [ENGINE])
    assert first == await predict_makespan(single.plan, table(single, *questions), [ENGINE])
    assert first != await predict_makespan(single.plan, table(single, *questions), [ENGINE], seed=100)


async def test_a_large_job_is_foreseen_by_a_sample_of_its_rows():
    questions = [f"q{number}" for number in range(6000)]
    narrow = replace(ENGINE, max_running=4)
    found = await predict_makespan(single.plan, table(single, *questions), [narrow], history_of(SEEN), draws=1)
    assert found.rows == 2000
    assert found.calls == pytest.approx(6000)
    assert found.seconds.p50 == pytest.approx(6000 / 4 * 5, rel=0.02)


def test_answers_that_were_always_new_are_new_again():
    request = GenerateRequest("c", "p", "m", ({"role": "user", "content": "x"},), Sampling(max_tokens=50))
    nodes = [NodeRef(program_id(JobId("job"), row), "draft") for row in range(50)]
    all_new = [Seen("draft", json.dumps(f"answer number {n:04d}"), 0.0, 40, 6) for n in range(10)]
    world = Foreseen(history_of(all_new))
    assert len({world.answer(node, request).text for node in nodes}) == 50
    always_the_same = Foreseen(history_of([Seen("draft", '"yes"', 0.0, 40, 1)] * 10))
    assert {world.text for node in nodes if (world := always_the_same.answer(node, request))} == {"yes"}


def test_what_the_plan_of_today_would_not_take_is_not_drawn():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    request = GenerateRequest("c", "p", "m", ({"role": "user", "content": "x"},), Sampling(max_tokens=50), schema)
    node = NodeRef(program_id(JobId("job"), 0), "draft")
    seen = [Seen("draft", '"no number"', 0.0, 40, 6), Seen("draft", '{"n": 3}', 0.0, 40, 7)]
    assert json.loads(Foreseen(history_of(seen)).answer(node, request).text) == {"n": 3}
    assert isinstance(json.loads(Foreseen(NO_HISTORY).answer(node, request).text)["n"], int)
