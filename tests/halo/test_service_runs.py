"""/v1/runs: what is accepted is done, once, and told as it is."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from service_stand import service

from executor.engines.port import Failure, FailureClass
from executor.store.jobs import NewJob
from executor.store.memory import MemoryStore
from executor.store.sql import open_store
from halo.worker import Pace
from planner.ir.codec import encode
from planner.ir.expressions import Column, Field, Object, Output
from planner.ir.ids import JobId, StageId
from planner.ir.plan import Effect, Input, Plan, Tool, ToolSpec

GREET = {"workflow": "greet", "input": {"name": "ada"}}


async def _done(api: httpx.AsyncClient, run: httpx.Response) -> dict[str, object]:
    assert run.status_code == 202, run.text
    told = await api.get(run.json()["links"]["wait"])
    assert told.status_code == 200, told.text
    return dict(told.json())


@pytest.mark.parametrize("durable", [False, True])
async def test_a_run_is_accepted_done_and_told(tmp_path: Path, durable: bool):
    store = await open_store(f"sqlite:///{tmp_path / 'halo.db'}") if durable else MemoryStore()
    async with service(store) as stand:
        accepted = await stand.api.post("/v1/runs", json={**GREET, "metadata": {"who": "tests"}})
        run = await _done(stand.api, accepted)
    await store.close()
    assert accepted.headers["location"] == f"/v1/runs/{run['id']}"
    assert run["status"] == "succeeded"
    assert run["result"]["said"] == "HELLO ADA"
    assert run["counts"] == {"pending": 0, "succeeded": 1, "failed": 0, "cancelled": 0}
    assert run["metadata"] == {"who": "tests"}
    assert run["error"] is None
    assert (run["usage"]["calls"], run["usage"]["saved_calls"]) == (1, 0)
    assert len(stand.calls) == 1


async def test_a_run_is_stored_before_it_is_answered():
    async with service(working=False) as stand:
        accepted = await stand.api.post("/v1/runs", json=GREET)
        record = await stand.store.job(JobId(accepted.json()["id"]))
        assert record.status == "queued"
        told = await stand.api.get(accepted.json()["links"]["run"])
        assert (told.json()["status"], told.json()["result"], told.json()["live"]) == ("queued", None, [])


async def test_a_failed_run_tells_why():
    async with service() as stand:
        run = await _done(
            stand.api, await stand.api.post("/v1/runs", json={"workflow": "fail", "input": {"text": "x"}})
        )
    assert run["status"] == "failed"
    assert run["result"] is None
    assert run["error"]["kind"] == "tool"
    assert "no x today" in run["error"]["message"]


async def test_the_same_key_and_body_get_the_same_answer_and_one_run():
    async with service() as stand:
        head = {"Idempotency-Key": "k-1"}
        first = await stand.api.post("/v1/runs", json=GREET, headers=head)
        await _done(stand.api, first)
        again = await stand.api.post("/v1/runs", content=json.dumps(GREET, indent=3), headers={**head, **_JSON})
        other = await stand.api.post("/v1/runs", json={**GREET, "priority": "batch"}, headers=head)
        runs = (await stand.api.get("/v1/runs")).json()["runs"]
    assert (again.status_code, again.json(), again.headers["location"]) == (
        202,
        first.json(),
        first.headers["location"],
    )
    assert (other.status_code, other.json()["type"]) == (422, "urn:halo:problem:idempotency-conflict")
    assert len(runs) == 1


_JSON = {"Content-Type": "application/json"}


async def test_a_plan_as_json_runs():
    async with service() as stand:
        body = {"plan": json.loads(encode(_plan())), "input": {"name": "ada"}, "priority": 5}
        run = await _done(stand.api, await stand.api.post("/v1/runs", json=body))
    assert run["result"] == {"said": "ADA"}
    assert run["priority"] == 5


async def test_wait_says_when_it_is_not_done_and_hears_the_end_at_once():
    goes_on = asyncio.Event()
    async with service(faults=lambda call: 0.3, slow_until=goes_on) as stand:
        accepted = await stand.api.post("/v1/runs", json=GREET)
        wait = accepted.json()["links"]["wait"]
        early = await stand.api.get(f"{wait}?timeout=0.05")
        assert (early.status_code, early.headers["retry-after"]) == (202, "1")
        assert early.json()["status"] in ("queued", "running")
        late = asyncio.create_task(stand.api.get(f"{wait}?timeout=60"))
        await asyncio.sleep(0.05)
        assert not late.done()
        goes_on.set()
        assert (await late).status_code == 200


async def test_waiting_asks_the_store_a_few_times_only():
    store, goes_on = _Counting(), asyncio.Event()
    async with service(store, faults=lambda call: 1.0, slow_until=goes_on) as stand:
        accepted = await stand.api.post("/v1/runs", json=GREET)
        while not stand.calls:
            await asyncio.sleep(0.01)
        store.asked = 0
        waiting = asyncio.create_task(stand.api.get(accepted.json()["links"]["wait"]))
        while not store.asked:
            await asyncio.sleep(0.01)
        for _ in range(20):
            await asyncio.sleep(0.01)
        goes_on.set()
        assert (await waiting).status_code == 200
    assert store.asked <= 3


class _Counting(MemoryStore):
    asked = 0

    async def job(self, job, tenant=None):
        self.asked += 1
        return await super().job(job, tenant)


async def test_a_run_that_another_process_ends_is_heard_of_too():
    store = MemoryStore()
    async with service(store, working=False) as here:
        accepted = await here.api.post("/v1/runs", json=GREET)
        async with service(store, owner="other"):
            assert (await here.api.get(accepted.json()["links"]["wait"])).json()["status"] == "succeeded"


async def test_a_running_run_says_what_it_does():
    goes_on = asyncio.Event()
    async with service(faults=lambda call: 1.0, slow_until=goes_on) as stand:
        accepted = await stand.api.post("/v1/runs", json=GREET)
        live: list[dict[str, object]] = []
        while not live:
            live = (await stand.api.get(accepted.json()["links"]["run"])).json()["live"]
            await asyncio.sleep(0.05)
        goes_on.set()
    assert live[0]["program"] == accepted.json()["id"] + "/0"
    assert live[0]["node"]


async def test_a_queued_run_is_cancelled_at_once_and_twice_is_once():
    async with service(working=False) as stand:
        accepted = (await stand.api.post("/v1/runs", json=GREET)).json()
        for _ in range(2):
            cancelled = await stand.api.post(accepted["links"]["cancel"])
            assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")


async def test_a_running_run_is_cancelled_and_keeps_nothing_waiting():
    async with service(faults=lambda call: 60.0) as stand:
        accepted = (await stand.api.post("/v1/runs", json=GREET)).json()
        while not stand.calls:
            await asyncio.sleep(0.01)
        assert (await stand.api.post(accepted["links"]["cancel"])).json()["cancel_requested"]
        run = await stand.api.get(accepted["links"]["wait"])
    assert (run.status_code, run.json()["status"]) == (200, "cancelled")
    assert run.json()["counts"]["cancelled"] == 1


async def test_a_cancel_reaches_the_process_that_runs_the_run():
    store = MemoryStore()
    async with service(store, working=False) as here, service(store, owner="other", faults=lambda call: 60.0) as there:
        accepted = (await here.api.post("/v1/runs", json=GREET)).json()
        while not there.calls:
            await asyncio.sleep(0.01)
        await here.api.post(accepted["links"]["cancel"])
        assert (await here.api.get(accepted["links"]["wait"])).json()["status"] == "cancelled"


async def test_runs_are_listed_newest_first_page_by_page():
    async with service() as stand:
        for name in ("a", "b", "c"):
            await _done(
                stand.api, await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": name}})
            )
        await _done(stand.api, await stand.api.post("/v1/runs", json={"workflow": "fail", "input": {"text": "x"}}))
        first = (await stand.api.get("/v1/runs?limit=3")).json()
        rest = (await stand.api.get(f"/v1/runs?limit=3&cursor={first['next_cursor']}")).json()
        failed = (await stand.api.get("/v1/runs?status=failed")).json()["runs"]
        greeted = (await stand.api.get("/v1/runs?workflow=greet")).json()["runs"]
    assert [run["id"] for run in first["runs"]] == ["run_4", "run_3", "run_2"]
    assert [run["id"] for run in rest["runs"]] == ["run_1"]
    assert rest["next_cursor"] is None
    assert [run["id"] for run in failed] == ["run_4"]
    assert len(greeted) == 3


async def test_events_are_told_from_where_one_left_off():
    async with service() as stand:
        run = await _done(stand.api, await stand.api.post("/v1/runs", json=GREET))
        all_of_it = (await stand.api.get(run["links"]["events"])).json()
        kinds = [event["kind"] for event in all_of_it["events"]]
        assert kinds == ["job.queued", "job.running", "program.succeeded", "job.succeeded"]
        after = all_of_it["events"][1]["seq"]
        rest = (await stand.api.get(f"{run['links']['events']}?after={after}")).json()
        assert [event["kind"] for event in rest["events"]] == kinds[2:]
        none = (await stand.api.get(f"{run['links']['events']}?after={all_of_it['next_after']}")).json()
        assert none == {"events": [], "next_after": all_of_it["next_after"]}


async def test_events_are_streamed_as_they_happen_until_the_end():
    async with service(faults=lambda call: 0.3) as stand:
        accepted = (await stand.api.post("/v1/runs", json=GREET)).json()
        sse = {"Accept": "text/event-stream"}
        whole = (await stand.api.get(accepted["links"]["events"], headers=sse)).text
        ids = [line.removeprefix("id: ") for line in whole.splitlines() if line.startswith("id: ")]
        rest = (await stand.api.get(accepted["links"]["events"], headers={**sse, "Last-Event-ID": ids[1]})).text
    assert [line for line in whole.splitlines() if line.startswith("event: ")][-1] == "event: job.succeeded"
    assert [line.removeprefix("id: ") for line in rest.splitlines() if line.startswith("id: ")] == ids[2:]


async def test_a_job_of_the_batch_runner_is_listed_with_its_counts():
    store = MemoryStore()
    rows = [{"name": str(number)} for number in range(5)]
    async with service(store) as stand:
        greet = stand.parts.catalog.workflows["greet"].plan
        await store.create_job(NewJob(JobId("batch"), "greet", encode(greet), rows))
        run = (await stand.api.get("/v1/runs/batch/wait")).json()
    assert (run["rows"], run["counts"]["succeeded"], run["result"]) == (5, 5, None)


async def test_the_rows_of_a_large_job_are_read_a_page_at_a_time():
    store = MemoryStore()
    rows = [{"name": "a"}, {"name": "e"}, {"name": "b"}, {"name": "c"}, {"name": "d"}]
    async with service(store) as stand:
        greet = stand.parts.catalog.workflows["greet"].plan
        await store.create_job(NewJob(JobId("batch"), "greet", encode(greet), rows))
        await stand.api.get("/v1/runs/batch/wait")
        first = (await stand.api.get("/v1/runs/batch/rows?limit=3")).json()
        rest = (await stand.api.get(f"/v1/runs/batch/rows?limit=3&after={first['next_after']}")).json()
        none = (await stand.api.get(f"/v1/runs/batch/rows?after={rest['next_after']}")).json()
        failed = await stand.api.post("/v1/runs", json={"workflow": "fail", "input": {"text": "x"}})
        await _done(stand.api, failed)
        (bad,) = (await stand.api.get(f"{failed.json()['links']['run']}/rows")).json()["rows"]
    assert [(row["row"], row["status"]) for row in first["rows"]] == [(row, "succeeded") for row in range(3)]
    assert (first["rows"][0]["result"]["said"], first["rows"][0]["error"]) == ("HELLO A", None)
    assert (bad["status"], bad["result"], bad["error"]["code"]) == ("failed", None, "tool_raised")
    assert [row["row"] for row in rest["rows"]] == [3, 4]
    assert none == {"rows": [], "next_after": 4}


async def test_rows_of_a_run_that_waits_are_pending():
    async with service(working=False) as stand:
        run = (await stand.api.post("/v1/runs", json=GREET)).json()
        page = (await stand.api.get(f"{run['links']['run']}/rows")).json()
    assert page["rows"] == [{"row": 0, "status": "pending", "result": None, "error": None}]


async def test_urgent_runs_go_first():
    async with service(working=False, pace=Pace(jobs=1)) as stand:
        for priority in ("background", "interactive", "standard"):
            await stand.api.post("/v1/runs", json={**GREET, "priority": priority})
        order = [await stand.store.claim("somebody", 60) for _ in range(3)]
    assert [claim.job for claim in order if claim] == ["run_2", "run_3", "run_1"]


async def test_an_engine_that_refuses_the_row_fails_the_run_readably():
    refusal = Failure(FailureClass.ROW, "context_overflow", "the prompt is too long for the model")
    async with service(faults=lambda call: refusal) as stand:
        run = await _done(stand.api, await stand.api.post("/v1/runs", json=GREET))
    assert run["error"] == {"code": "context_overflow", "message": refusal.message, "kind": "row"}


def _plan() -> Plan:
    arguments = Object((Field("text", Column("name")),))
    spec = ToolSpec("shout", effect=Effect.PURE)
    stage = Tool(StageId("say"), spec, arguments)
    return Plan("mine", (Input("name"),), (stage,), Object((Field("said", Output(StageId("say"))),)))


async def test_a_run_tells_why_each_of_its_calls_went_where_it_went():
    async with service() as stand:
        run = await _done(stand.api, await stand.api.post("/v1/runs", json=GREET))
        address = f"/v1/runs/{run['id']}/decisions"
        page = (await stand.api.get(address, params={"limit": 1})).json()
        rest = (await stand.api.get(address, params={"after": page["next_after"], "row": 0})).json()
        none = (await stand.api.get(address, params={"node": "nowhere"})).json()
        problem = await stand.api.get("/v1/runs/unknown/decisions")
    (first,) = page["decisions"]
    (taken,) = first["considered"]
    assert (first["row"], first["attempt"], first["engine"], first["engines"]) == (0, 1, "small-0", 1)
    assert "of 1 with room" in first["reason"]
    assert taken["done_s"] == pytest.approx(taken["queue_s"] + taken["prefill_s"] + taken["decode_s"], abs=1e-3)
    assert (rest["decisions"], rest["next_after"]) == ([], page["next_after"])
    assert (page["every"], page["now"], none["decisions"]) == (1, [], [])
    assert (problem.status_code, problem.json()["type"]) == (404, "urn:halo:problem:run-unknown")


async def test_of_a_run_that_nobody_has_begun_nothing_was_decided():
    async with service(working=False) as stand:
        run = (await stand.api.post("/v1/runs", json=GREET)).json()
        told = (await stand.api.get(f"/v1/runs/{run['id']}/decisions")).json()
    assert told == {"decisions": [], "next_after": 0, "every": 1, "now": []}
