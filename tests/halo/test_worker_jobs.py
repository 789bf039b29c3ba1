"""The worker: takes what is there, loses nothing, and gives back what it cannot finish."""

import asyncio
from collections.abc import Callable

import pytest
from service_stand import Stand, at_work, flows, service

from executor.clock import WallClock
from executor.store.failures import StoreUnavailable
from executor.store.jobs import EQUAL_WEIGHTS, Claim, JobRecord, JobStatus, NewJob, Weights
from executor.store.memory import MemoryStore
from halo.worker import MOST_ATTEMPTS, Pace, owner_name
from kvstore.memory_state import MemoryStates
from kvstore.program_state import StateUnavailable
from planner.ir.codec import encode
from planner.ir.expressions import Const, Object
from planner.ir.ids import JobId, StageId
from planner.ir.plan import Plan, Tool, ToolSpec

QUICK = Pace(poll_s=0.05, look_s=0.05)
GREET = encode(flows().workflows["greet"].plan)


async def _submit(store: MemoryStore, count: int = 1, plan: str = GREET) -> list[JobId]:
    names = [JobId(f"j{number}") for number in range(count)]
    for name in names:
        await store.create_job(NewJob(name, "w", plan, [{"name": name}]))
    return names


async def _until_ended(store: MemoryStore, *names: JobId) -> list[JobRecord]:
    async with asyncio.timeout(60):
        while not all([(await store.job(name)).status.ended for name in names]):
            await asyncio.sleep(0.01)
    return [await store.job(name) for name in names]


async def _until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not what():
            await asyncio.sleep(0.01)


async def test_jobs_that_wait_are_taken_one_after_the_other():
    store = MemoryStore()
    names = await _submit(store, 5)
    async with service(store, pace=Pace(poll_s=0.05)) as stand:
        records = await _until_ended(store, *names)
    assert {record.status for record in records} == {JobStatus.SUCCEEDED}
    assert len(stand.calls) == 5


async def test_a_tenant_with_one_job_does_not_wait_for_all_of_another_ones():
    store = MemoryStore()
    names = await _submit(store, 6)
    await store.create_job(NewJob(JobId("late"), "w", GREET, [{"name": "late"}], "eve"))
    async with service(store, pace=Pace(jobs=2, poll_s=0.05), faults=lambda call: 0.1):
        await _until_ended(store, *names, JobId("late"))
    begun = {name: (await store.events(name))[1] for name in (*names, JobId("late"))}
    assert sorted(begun, key=lambda name: begun[name].seq)[:3] == ["j0", "late", "j1"]


async def test_only_so_many_run_at_once():
    store = MemoryStore()
    names = await _submit(store, 6)
    most = 0
    async with service(store, pace=Pace(jobs=2, poll_s=0.05), faults=lambda call: 0.05) as stand:

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, stand.worker.running)
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        await _until_ended(store, *names)
        watching.cancel()
    assert most == 2


async def test_a_plan_that_cannot_be_read_fails_its_job_once_and_for_all():
    store = MemoryStore()
    (bad,) = await _submit(store, plan='{"format": 1, "plan": {}}')
    await store.create_job(NewJob(JobId("good"), "greet", GREET, [{"name": "ada"}]))
    async with service(store, pace=QUICK):
        records = await _until_ended(store, bad, JobId("good"))
    row = await anext(aiter(store.results(bad)))
    assert [record.status for record in records] == [JobStatus.FAILED, JobStatus.SUCCEEDED]
    assert row.failure
    assert row.failure.code == "plan_unreadable"
    assert "plan.name" in row.failure.message


async def test_rows_that_do_not_fit_fail_their_job():
    store = MemoryStore()
    await store.create_job(NewJob(JobId("j"), "greet", GREET, [{"name": 7}, {"name": "ada"}]))
    async with service(store, pace=QUICK):
        (record,) = await _until_ended(store, JobId("j"))
    assert record.counts["failed"] == 2
    failures = [row.failure async for row in store.results(JobId("j"))]
    assert {failure.code for failure in failures if failure} == {"rows_invalid"}


async def test_a_tool_that_is_not_here_fails_its_job_readably():
    store = MemoryStore()
    stage = Tool(StageId("t"), ToolSpec("gone"), Object(()))
    await _submit(store, plan=encode(Plan("p", (), (stage,), Const(1))))
    async with service(store, pace=QUICK):
        await _until_ended(store, JobId("j0"))
    row = await anext(aiter(store.results(JobId("j0"))))
    assert row.failure
    assert row.failure.code == "unknown_tool"
    assert "shout" in row.failure.message


async def test_what_is_unfinished_at_the_end_is_given_back_at_once():
    store = MemoryStore()
    (name,) = await _submit(store)
    async with service(store, faults=lambda call: 60.0) as first:
        await _until(lambda: first.calls)
    async with service(store, owner="bob"):
        (record,) = await _until_ended(store, name)
    assert record.status is JobStatus.SUCCEEDED


class _Ahead(WallClock):
    """A clock for leases that a test moves on."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


async def test_a_job_that_somebody_else_took_is_dropped_quietly():
    clock, goes_on = _Ahead(), asyncio.Event()
    store = MemoryStore(clock)
    (name,) = await _submit(store)
    pace = Pace(lease_s=1000.0, poll_s=0.05, look_s=0.05)
    async with service(store, pace=pace, faults=lambda call: 0.5, slow_until=goes_on) as slow:
        await _until(lambda: slow.calls)
        clock.ahead = 3600.0
        assert await store.claim("bob", 1e9)
        goes_on.set()
        await _until(lambda: slow.worker.running == 0)
        assert (await store.job(name)).status is JobStatus.RUNNING
        await _submit_more(slow)


async def _submit_more(stand: Stand) -> None:
    """The worker goes on."""
    await stand.store.create_job(NewJob(JobId("more"), "w", GREET, [{"name": "more"}]))
    await _until_ended(stand.store, JobId("more"))


class _Forgetful(MemoryStore):
    """The first claim is made, and its answer lost."""

    lost = False

    async def claim(
        self, owner: str, lease_s: float, job: JobId | None = None, weights: Weights = EQUAL_WEIGHTS
    ) -> Claim | None:
        claim = await super().claim(owner, lease_s, job, weights)
        if claim and not self.lost:
            self.lost = True
            raise StoreUnavailable("the connection broke")
        return claim


async def test_a_claim_whose_answer_was_lost_is_found_again():
    store = _Forgetful()
    names = await _submit(store)
    async with service(store, pace=Pace(lease_s=0.9, poll_s=0.05)):
        (record,) = await _until_ended(store, *names)
    assert record.status is JobStatus.SUCCEEDED


class _Unready(MemoryStore):
    """Loading fails twice."""

    tries = 0

    async def load(self, claim: Claim):
        self.tries += 1
        if self.tries < 3:
            raise StoreUnavailable("not yet")
        return await super().load(claim)


async def test_a_job_that_cannot_be_loaded_just_now_is_loaded_later():
    store = _Unready()
    names = await _submit(store)
    async with service(store, pace=QUICK):
        (record,) = await _until_ended(store, *names)
    assert record.status is JobStatus.SUCCEEDED
    assert store.tries == 3


async def test_a_lease_of_ones_own_that_ran_out_is_taken_again_and_the_job_done_once():
    clock, goes_on = _Ahead(), asyncio.Event()
    store = MemoryStore(clock)
    names = await _submit(store)
    pace = Pace(lease_s=1000.0, poll_s=0.05)
    async with service(store, pace=pace, faults=lambda call: 0.3, slow_until=goes_on) as stand:
        await _until(lambda: stand.calls)
        clock.ahead = 3600.0
        async with asyncio.timeout(60):
            while "job.taken_over" not in [event.kind for event in await store.events(names[0])]:
                await asyncio.sleep(0.01)
        goes_on.set()
        (record,) = await _until_ended(store, *names)
        assert stand.worker.running == 0
    assert record.status is JobStatus.SUCCEEDED
    events = [event.kind for event in await store.events(names[0])]
    assert events.count("program.succeeded") == 1
    assert "job.taken_over" in events


class _Deaf(MemoryStates):
    async def wait_for_wake(self, timeout_s: float) -> bool:
        raise StateUnavailable("gone")

    async def wake(self) -> None:
        raise StateUnavailable("gone")


async def test_without_wake_ups_jobs_are_found_by_looking():
    async with service(states=_Deaf(), pace=QUICK) as stand:
        run = await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}})
        assert run.status_code == 202
        assert (await stand.api.get(run.json()["links"]["wait"])).json()["status"] == "succeeded"


class _Broken(MemoryStore):
    """A fault of Halo's own, on one job."""

    async def load(self, claim: Claim):
        if claim.job == "j0":
            raise RuntimeError("a bug")
        return await super().load(claim)


async def test_a_job_that_breaks_halo_is_given_up_after_some_starts():
    store = _Broken()
    names = await _submit(store, 2)
    for _ in range(MOST_ATTEMPTS):
        async with service(store, working=False) as stand:
            with pytest.raises(ExceptionGroup):
                await stand.worker.run()
    async with service(store):
        records = await _until_ended(store, *names)
    assert [record.status for record in records] == [JobStatus.FAILED, JobStatus.SUCCEEDED]
    row = await anext(aiter(store.results(names[0])))
    assert row.failure
    assert row.failure.code == "internal_error"


async def test_two_workers_share_what_there_is():
    store = MemoryStore()
    slow = {"faults": lambda call: 0.05, "pace": Pace(jobs=2, poll_s=0.05)}
    async with service(store, owner="ada", **slow) as ada, service(store, owner="bob", **slow) as bob:
        names = await _submit(store, 30)
        records = await _until_ended(store, *names)
    assert {record.status for record in records} == {JobStatus.SUCCEEDED}
    assert len(ada.calls) + len(bob.calls) == 30
    assert ada.calls
    assert bob.calls


def test_no_two_workers_have_one_name():
    assert owner_name() != owner_name()


async def test_a_worker_may_be_started_again():
    store = MemoryStore()
    async with service(store, working=False) as stand:
        async with at_work(stand.worker):
            await _submit(store)
            await _until_ended(store, JobId("j0"))
        async with at_work(stand.worker):
            await _submit_more(stand)
