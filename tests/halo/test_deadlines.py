"""Deadlines and classes from the user's side: what is asked for is kept, and told at the end."""

from pathlib import Path
from typing import Any

import pytest
from service_stand import service

from executor.engines.port import EngineSpec
from executor.slo import SloClass
from halo.batch.run import Batch, run_batch
from halo.deadline import Deadline
from halo.local import run_job
from halo.sdk.find import find_workflow
from planner.ir.ids import EngineId, JobId

TRIAGE = str(Path(__file__).parent / "workflows" / "triage.py")
ENGINE = EngineSpec(EngineId("scripted"), "scripted", ("test-model",))
QUESTIONS = [{"question": f"question {number}"} for number in range(3)]
GREET: dict[str, Any] = {"workflow": "greet", "input": {"name": "ada"}}


async def test_a_run_tells_whether_it_met_its_deadline_and_by_how_much():
    async with service() as stand:
        accepted = await stand.api.post("/v1/runs", json={**GREET, "deadline_s": 300.0, "slo": "interactive"})
        run = (await stand.api.get(accepted.json()["links"]["wait"])).json()
        plain = (await stand.api.post("/v1/runs", json=GREET)).json()
        plain = (await stand.api.get(plain["links"]["wait"])).json()
    assert run["slo"] == "interactive"
    assert run["deadline"]["met"]
    assert run["deadline"]["took_s"] + run["deadline"]["left_s"] == pytest.approx(300, abs=0.01)
    assert (plain["slo"], plain["deadline"]) == ("standard", None)


async def test_before_its_end_a_run_tells_only_its_deadline():
    async with service(working=False) as stand:
        run = (await stand.api.post("/v1/runs", json={**GREET, "deadline_s": 5})).json()
        told = (await stand.api.get(run["links"]["run"])).json()
    assert told["deadline"] == {"deadline_s": 5.0, "took_s": None, "met": None, "left_s": None}


@pytest.mark.parametrize(
    ("said", "slo", "priority"),
    [
        ({}, SloClass.STANDARD, 0),
        ({"slo": "batch"}, SloClass.BATCH, 100),
        ({"priority": "interactive"}, SloClass.INTERACTIVE, -100),
        ({"priority": 7, "slo": "batch"}, SloClass.BATCH, 7),
    ],
)
async def test_a_class_is_what_was_said_or_what_the_priority_is_called(
    said: dict[str, Any], slo: SloClass, priority: int
):
    async with service(working=False) as stand:
        run = (await stand.api.post("/v1/runs", json={**GREET, **said})).json()
        record = await stand.store.job(JobId(run["id"]))
    assert (record.slo, record.priority) == (slo, priority)


@pytest.mark.parametrize("said", [{"deadline_s": 0}, {"deadline_s": -1}, {"deadline_s": "soon"}, {"slo": "urgent"}])
async def test_what_is_no_deadline_and_no_class_is_refused(said: dict[str, Any]):
    async with service(working=False) as stand:
        answer = await stand.api.post("/v1/runs", json={**GREET, **said})
    assert answer.status_code == 422


async def test_a_batch_tells_in_its_summary_how_many_rows_were_late(tmp_path: Path):
    batch = Batch(find_workflow(TRIAGE), QUESTIONS, tmp_path / "late", (ENGINE,), deadline_s=1e-6)
    late = await run_batch(batch)
    assert late.deadline is not None
    assert not late.deadline.met
    assert late.deadline.rows_late == len(QUESTIONS)
    told = late.as_json()["deadline"]
    assert isinstance(told, dict)
    assert told["left_s"] < 0
    assert "missed by" in late.deadline.as_text()


async def test_a_batch_in_time_says_so_and_one_without_a_deadline_says_nothing(tmp_path: Path):
    in_time = await run_batch(Batch(find_workflow(TRIAGE), QUESTIONS, tmp_path / "a", (ENGINE,), deadline_s=600))
    without = await run_batch(Batch(find_workflow(TRIAGE), QUESTIONS, tmp_path / "b", (ENGINE,)))
    assert in_time.deadline is not None
    assert in_time.deadline.met
    assert in_time.deadline.rows_late == 0
    assert "deadline" not in without.as_json()


def test_rows_of_a_job_run_from_python_may_have_a_deadline():
    assert len(run_job(find_workflow(TRIAGE), QUESTIONS, engines=ENGINE, deadline_s=60.0, slo="standard")) == 3


def test_what_is_said_of_a_deadline():
    assert Deadline(10, 8.5, 0).as_text() == "deadline: met, 1.5 s before its end"
    assert Deadline(10, 12, 3).as_text() == "deadline: missed by 2.0 s; rows that ended late: 3"
