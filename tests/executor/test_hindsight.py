"""What earlier jobs took beside what is predicted of them now, for what no part of a prediction knows."""

import json
from dataclasses import replace

import pytest

import halo
from executor.commands import Status
from executor.engines.port import EngineSpec, Usage
from executor.hindsight import NO_HINDSIGHT, Earlier, Hindsight, earlier_jobs, hindsight_of
from executor.prediction import predict_makespan
from executor.store.jobs import NewJob
from executor.store.memory import MemoryStore
from executor.store.writes import JobEnded, NodeOutput, ProgramEnded, Work
from planner.cost.history import Seen, history_of
from planner.ir.codec import encode
from planner.ir.ids import EngineId, JobId
from planner.table import Table
from tests.executor.even_profile import SECOND

FLEET = [EngineSpec(EngineId("even"), "modelled", ("m",), max_running=8, profile=SECOND)]
HISTORY = history_of([Seen("draft", json.dumps("five tokens long"), 0.0, 40, 5)])


@halo.llm(model="m", max_tokens=50)
def draft(question: str) -> str:
    return f"Draft: {question}"


@halo.workflow
def single(question: str) -> str:
    return draft(question)


ROWS = [{"question": question} for question in "abc"]
TABLE = Table.from_rows(ROWS, single.plan.inputs)


def took(seconds: float, calls: int = 3) -> Earlier:
    return Earlier(single.plan, TABLE, seconds, calls)


async def test_the_earlier_job_in_the_middle_says_how_much_longer_jobs_take() -> None:
    found = await hindsight_of([took(7.5), took(50.0), took(5.0)], FLEET, HISTORY)
    assert found == Hindsight(1.5, jobs=3)
    makespan = await predict_makespan(single.plan, TABLE, FLEET, HISTORY)
    assert (makespan.seconds.p50, found.corrected(makespan).seconds.p50) == (5.0, 7.5)


async def test_a_job_that_made_other_calls_than_predicted_tells_nothing() -> None:
    assert await hindsight_of([took(1.0, calls=1)], FLEET, HISTORY) == NO_HINDSIGHT
    assert await hindsight_of([], FLEET, HISTORY) == NO_HINDSIGHT


async def test_a_job_that_stood_still_for_a_day_is_not_believed() -> None:
    assert (await hindsight_of([took(86_400.0)], FLEET, HISTORY)).times == 4.0


async def test_earlier_jobs_are_those_of_the_same_plan_that_succeeded() -> None:
    now = [0.0]
    store = MemoryStore(unix_time=lambda: now[0])

    async def run(name: str, seconds: float, workflow: str = "single", status: Status = Status.SUCCEEDED) -> None:
        await store.create_job(NewJob(JobId(name), workflow, encode(single.plan), ROWS))
        claim = await store.claim("test", 1e9, JobId(name))
        assert claim is not None
        now[0] += seconds
        work = Work.of_call(Usage(10, 5))
        done = [NodeOutput(row, "draft", 1, '"x"', work=work) for row in range(3)]
        ends = [ProgramEnded(row, status, '"x"') for row in range(3)]
        await store.write(claim, [*done, *ends, JobEnded(status)])

    await run("one", 4.0)
    await run("failed", 1.0, status=Status.FAILED)
    await run("other", 2.0, workflow="other")
    await run("two", 6.0)
    found = await earlier_jobs(store, "single", single.plan)
    assert [(one.seconds, one.calls, one.table.rows) for one in found] == [
        (pytest.approx(6.0), 3, 3),
        (pytest.approx(4.0), 3, 3),
    ]
    assert await earlier_jobs(store, "single", replace(single.plan, name="changed")) == []
