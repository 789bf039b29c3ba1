"""What every body of the store promises."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from executor.commands import Status
from executor.engines.port import Failure, FailureClass
from executor.slo import SloClass
from executor.store.failures import Fenced, IdempotencyConflict, JobUnknown
from executor.store.jobs import EQUAL_WEIGHTS, Claim, JobStatus, NewJob, Pending, SavedProgram, Weights
from executor.store.port import Store
from executor.store.records import unix_time
from executor.store.told import ResultRow, Served
from executor.store.writes import (
    RESULT_CACHE,
    DecisionMade,
    JobBelieved,
    JobEnded,
    NodeOutput,
    ProgramEnded,
    Times,
    ToolBegun,
    Work,
)
from planner.cost.history import Seen
from planner.ir.ids import EngineId, JobId
from planner.measured import CallSpan, How, Tally
from tests.executor.store_bodies import POSTGRES, Stores, fresh_stores, store_url

#: Longer than any machine takes for a test.
LEASE_S = 24 * 3600.0
FAILURE = Failure(FailureClass.ROW, "context_overflow", "The prompt is too long.", 1.5)
AWKWARD = ["a\x00b", "\ud800 alone", "\x01 marked", "\x01\x00", "grün \N{GRINNING FACE}", "", '"quoted"']


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return store_url(request, tmp_path)


@pytest.fixture
async def stores(url: str | None) -> AsyncIterator[Stores]:
    async with fresh_stores(url) as stores:
        yield stores


@pytest.fixture
async def store(stores: Stores) -> Store:
    return await stores.open()


def new_job(name: str = "job", rows: int = 3, **more: object) -> NewJob:
    inputs = [{"question": f"q{row}", "n": row} for row in range(rows)]
    return NewJob(JobId(name), "text2sql", '{"plan": 1}', inputs, **more)  # type: ignore[arg-type]


async def running(store: Store, name: str = "job", rows: int = 3, owner: str = "one", **more: object) -> Claim:
    """The claim on a new job."""
    await store.create_job(new_job(name, rows, **more))
    claim = await store.claim(owner, LEASE_S, JobId(name))
    assert claim is not None
    return claim


async def again(store: Store, claim: Claim, owner: str = "one") -> Claim:
    """The same owner comes back after a crash."""
    claim_again = await store.claim(owner, LEASE_S, claim.job)
    assert claim_again is not None
    return claim_again


def output(row: int, path: str, text: str = '"done"', **more: object) -> NodeOutput:
    return NodeOutput(row, path, 1, text, **more)  # type: ignore[arg-type]


def shared(row: int, path: str, source: tuple[JobId, int, str]) -> NodeOutput:
    return NodeOutput(row, path, 1, None, shared_from=source)


async def all_results(store: Store, job: JobId, after_row: int = -1) -> Sequence[ResultRow]:
    return [row async for row in store.results(job, after_row)]


async def kinds(store: Store, job: JobId) -> Sequence[tuple[str, int | None]]:
    return [(event.kind, event.row) for event in await store.events(job)]


# Accepting


async def test_what_is_to_be_done_yet_is_counted_by_tenant_class_and_workflow(store: Store) -> None:
    await store.create_job(new_job("one", 3, tenant="ann"))
    await store.create_job(new_job("two", 2, tenant="ann"))
    claim = await running(store, "three", 2, tenant="eve", slo=SloClass.BATCH)
    await store.write(claim, [ProgramEnded(0, Status.SUCCEEDED, "1")])
    assert await store.pending() == [
        Pending("ann", SloClass.STANDARD, "text2sql", 5),
        Pending("eve", SloClass.BATCH, "text2sql", 1),
    ]
    await store.write(claim, [ProgramEnded(1, Status.SUCCEEDED, "1"), JobEnded(Status.SUCCEEDED)])
    assert [one.tenant for one in await store.pending()] == ["ann"]


async def test_a_job_keeps_its_class_and_its_deadline(store: Store) -> None:
    urgent = await store.create_job(new_job("urgent", slo=SloClass.INTERACTIVE, deadline_s=2.5))
    plain = await store.create_job(new_job("plain"))
    assert (urgent.slo, urgent.deadline_s) == (SloClass.INTERACTIVE, 2.5)
    assert (plain.slo, plain.deadline_s) == (SloClass.STANDARD, None)
    assert await store.job(urgent.id) == urgent


async def test_an_accepted_job_is_there_whole(store: Store) -> None:
    told = await store.create_job(new_job(priority=7, tenant="acme", metadata={"who": "me"}))

    assert told == await store.job(JobId("job"))
    assert (told.workflow, told.tenant, told.priority, told.rows) == ("text2sql", "acme", 7, 3)
    assert (told.status, told.metadata, told.cancel_requested) == (JobStatus.QUEUED, {"who": "me"}, False)
    assert told.counts == {"pending": 3, "succeeded": 0, "failed": 0, "cancelled": 0}
    assert told.created_at.endswith("Z")
    assert told.started_at is None
    assert await kinds(store, told.id) == [("job.queued", None)]


async def test_its_holder_gets_everything_to_run_it(store: Store) -> None:
    claim = await running(store)

    contents = await store.load(claim)

    assert contents.record.status is JobStatus.RUNNING
    assert contents.record.started_at is not None
    assert contents.plan == '{"plan": 1}'
    assert list(contents.rows) == [{"question": f"q{row}", "n": row} for row in range(3)]
    assert (list(contents.ended), dict(contents.saved)) == ([], {})


async def test_a_known_key_gives_the_job_accepted_then(store: Store) -> None:
    first = await store.create_job(new_job("a", idempotency_key="k", request_hash="h"))
    replay = await store.create_job(new_job("b", idempotency_key="k", request_hash="h"))

    assert replay == first
    with pytest.raises(JobUnknown):
        await store.job(JobId("b"))


async def test_a_known_key_for_another_request_is_a_conflict(store: Store) -> None:
    await store.create_job(new_job("a", idempotency_key="k", request_hash="h"))

    with pytest.raises(IdempotencyConflict):
        await store.create_job(new_job("b", idempotency_key="k", request_hash="other"))


async def test_keys_of_two_tenants_have_nothing_to_do_with_each_other(store: Store) -> None:
    await store.create_job(new_job("a", idempotency_key="k", tenant="one", request_hash="x"))
    other = await store.create_job(new_job("b", idempotency_key="k", tenant="two", request_hash="y"))

    assert other.id == "b"


async def test_a_job_sent_again_because_the_answer_got_lost_is_accepted_once(store: Store) -> None:
    first = await store.create_job(new_job())

    assert await store.create_job(new_job()) == first
    with pytest.raises(IdempotencyConflict):
        await store.create_job(new_job(tenant="thief"))


async def test_what_was_accepted_with_a_key_can_be_asked_for_beforehand(store: Store) -> None:
    keyed = new_job("a", idempotency_key="k", request_hash="h")
    assert await store.accepted(keyed) is None
    first = await store.create_job(keyed)

    assert await store.accepted(replace(keyed, id=JobId("b"))) == first
    assert await store.accepted(new_job("c", idempotency_key="other")) is None
    with pytest.raises(IdempotencyConflict):
        await store.accepted(replace(keyed, id=JobId("b"), request_hash="other"))


async def test_many_submitters_with_one_key_make_one_job(stores: Stores) -> None:
    doors = [await stores.open() for _ in range(3)]
    requests = [new_job(f"job{number}", idempotency_key="k") for number in range(12)]

    told = await asyncio.gather(*(doors[number % 3].create_job(job) for number, job in enumerate(requests)))

    assert len({record.id for record in told}) == 1
    assert len(await doors[0].jobs()) == 1


async def test_a_job_without_rows_is_a_job(store: Store) -> None:
    claim = await running(store, rows=0)
    await store.write(claim, [JobEnded(Status.SUCCEEDED)])

    assert await all_results(store, claim.job) == []
    assert (await store.load(await running(store, "other", 0))).rows == []


# Claiming


async def test_the_most_urgent_then_the_oldest_job_is_claimed_first(store: Store) -> None:
    for name, priority in (("old", 5), ("young", 5), ("urgent", 1)):
        await store.create_job(new_job(name, priority=priority))

    claims = [await store.claim("one", LEASE_S) for _ in range(4)]

    assert claims == [Claim(JobId("urgent"), 1), Claim(JobId("old"), 1), Claim(JobId("young"), 1), None]


async def claimed(store: Store, times: int, weights: Weights = EQUAL_WEIGHTS) -> list[str]:
    claims = [await store.claim("one", LEASE_S, weights=weights) for _ in range(times)]
    return [claim.job if claim else "none" for claim in claims]


async def test_tenants_take_turns_however_many_jobs_and_of_what_priority_one_of_them_has(store: Store) -> None:
    for number in range(6):
        await store.create_job(new_job(f"many{number}", 1, tenant="ann", priority=-5))
    await store.create_job(new_job("few0", 1, tenant="eve", priority=5))
    await store.create_job(new_job("few1", 1, tenant="eve"))

    assert await claimed(store, 6) == ["many0", "few1", "many1", "few0", "many2", "many3"]


async def test_who_comes_with_nothing_running_is_next_and_a_job_that_ended_counts_no_more(store: Store) -> None:
    for number in range(4):
        await store.create_job(new_job(f"many{number}", 1, tenant="ann"))
    first, second = await store.claim("one", LEASE_S), await store.claim("two", LEASE_S)
    assert first is not None
    assert second is not None
    for number in range(3):
        await store.create_job(new_job(f"late{number}", 1, tenant="eve"))
    assert await claimed(store, 2) == ["late0", "late1"]
    await store.write(first, [JobEnded(Status.SUCCEEDED)])
    await store.release(second)
    assert await claimed(store, 2) == [second.job, "many2"]


async def test_where_one_job_runs_at_a_time_tenants_take_turns_too(store: Store) -> None:
    for tenant, jobs in (("ann", 5), ("eve", 2), ("zoe", 2)):
        for number in range(jobs):
            await store.create_job(new_job(f"{tenant}{number}", 1, tenant=tenant))
    told = []
    for _ in range(9):
        claim = await store.claim("one", LEASE_S)
        assert claim is not None
        told.append(claim.job)
        await store.write(claim, [JobEnded(Status.SUCCEEDED)])
        await another_millisecond(store, claim.job)
    assert told == ["ann0", "eve0", "zoe0", "ann1", "eve1", "zoe1", "ann2", "ann3", "ann4"]


async def another_millisecond(store: Store, job: JobId) -> None:
    """Until the clock shows another one than when the job began."""
    began = (await store.job(job)).started_at
    assert began is not None
    while time.time() < unix_time(began) + 0.002:
        await asyncio.sleep(0.001)


async def test_by_its_weight_a_tenant_has_more_jobs_running(store: Store) -> None:
    for number in range(9):
        for tenant in ("ann", "eve", "zoe"):
            await store.create_job(new_job(f"{tenant}{number}", 1, tenant=tenant))

    told = await claimed(store, 14, Weights({"eve": 4.0}, others=1.5))

    assert Counter(name[:3] for name in told) == {"ann": 3, "eve": 8, "zoe": 3}


async def test_a_job_under_a_live_lease_is_given_to_its_owner_only(store: Store) -> None:
    claim = await running(store, owner="one")

    assert await store.claim("two", LEASE_S, claim.job) is None
    assert await store.claim("two", LEASE_S) is None
    assert await store.claim("one", LEASE_S) is None
    assert await store.claim("one", LEASE_S, claim.job) == Claim(claim.job, 2)


async def test_a_lapsed_lease_lets_another_take_over_and_the_late_writer_is_refused_whole(store: Store) -> None:
    await store.create_job(new_job())
    late = await store.claim("slow", 0)
    taken = await store.claim("quick", LEASE_S)
    assert late is not None
    assert taken == Claim(late.job, 2)

    with pytest.raises(Fenced):
        await store.write(late, [output(0, "a"), ProgramEnded(0, Status.SUCCEEDED, "1"), JobEnded(Status.SUCCEEDED)])
    with pytest.raises(Fenced):
        await store.load(late)

    assert (await store.load(taken)).saved == {}
    assert [row.status for row in await all_results(store, late.job)] == [None] * 3
    assert (await store.usage(late.job))["calls"] == 0
    assert await kinds(store, late.job) == [("job.queued", None), ("job.running", None), ("job.taken_over", None)]


async def test_a_lapsed_lease_nobody_took_is_still_good(store: Store) -> None:
    await store.create_job(new_job())
    claim = await store.claim("slow", 0)
    assert claim is not None

    await store.write(claim, [output(0, "a")])

    assert await store.renew("slow", LEASE_S) == [claim.job]
    assert await store.claim("quick", LEASE_S) is None


async def test_renewing_tells_which_jobs_are_still_held(store: Store) -> None:
    kept = await running(store, "kept")
    ended = await running(store, "ended")
    lost = await running(store, "lost")
    await running(store, "foreign", owner="two")
    await store.write(ended, [JobEnded(Status.SUCCEEDED)])
    await store.release(lost)
    await store.claim("two", LEASE_S, lost.job)

    assert await store.renew("one", LEASE_S) == [kept.job]


async def test_a_released_job_is_free_at_once(store: Store) -> None:
    claim = await running(store)
    await store.release(claim)

    assert await store.claim("two", LEASE_S) == Claim(claim.job, 2)
    await store.release(claim)
    assert await store.claim("three", LEASE_S) is None
    assert await store.renew("two", LEASE_S) == [claim.job]


async def test_an_ended_job_is_claimed_by_nobody(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [JobEnded(Status.FAILED)])

    assert await store.claim("one", LEASE_S, claim.job) is None
    assert await store.claim("one", LEASE_S) is None
    assert await store.claim("one", LEASE_S, JobId("no such job")) is None


async def test_workers_that_claim_at_once_share_the_jobs_without_overlap(stores: Stores) -> None:
    workers = [await stores.open() for _ in range(4)]
    for number in range(24):
        await workers[0].create_job(new_job(f"job{number}", 1))

    async def work(number: int) -> list[Claim]:
        mine = []
        while (claim := await workers[number % 4].claim(f"worker{number}", LEASE_S)) is not None:
            mine.append(claim)
        return mine

    claims = [claim for mine in await asyncio.gather(*(work(number) for number in range(8))) for claim in mine]
    # With SKIP LOCKED a worker may find nothing while another is taking the last one: ask once more.
    claims += await work(0)

    assert sorted(claim.job for claim in claims) == sorted(f"job{number}" for number in range(24))
    assert {claim.attempt for claim in claims} == {1}


async def test_workers_that_take_over_one_job_at_once_leave_one_holder(stores: Stores) -> None:
    workers = [await stores.open() for _ in range(4)]
    await workers[0].create_job(new_job())
    assert await workers[0].claim("dead", 0) is not None

    taken = await asyncio.gather(*(store.claim(f"worker{number}", LEASE_S) for number, store in enumerate(workers)))

    assert [claim for claim in taken if claim] == [Claim(JobId("job"), 2)]


# Writing


async def test_what_was_written_is_what_the_next_holder_goes_on_with(store: Store) -> None:
    claim = await running(store)
    await store.write(
        claim,
        [
            output(0, "draft", '"select 1"', engine=EngineId("e1")),
            output(0, "solve#0/1", "I call a tool", tools=("grep", "cat")),
            output(1, "draft", '"select 2"'),
            ProgramEnded(1, Status.SUCCEEDED, '{"sql": "select 2"}'),
        ],
    )

    contents = await store.load(await again(store, claim))

    assert contents.ended == [1]
    assert contents.saved == {
        0: SavedProgram(
            {"draft": '"select 1"', "solve#0/1": "I call a tool"}, {"draft": (), "solve#0/1": ("grep", "cat")}, ()
        )
    }
    assert contents.record.counts == {"pending": 2, "succeeded": 1, "failed": 0, "cancelled": 0}


async def test_writing_the_same_again_changes_nothing(store: Store) -> None:
    claim = await running(store)
    group = [
        output(0, "a", work=Work(1, 0, 10, 5, 2), engine=EngineId("e1")),
        ToolBegun(1, "t", 1),
        ProgramEnded(0, Status.SUCCEEDED, "1"),
    ]
    await store.write(claim, group)
    before = (await store.job(claim.job), await all_results(store, claim.job), await kinds(store, claim.job))

    await store.write(claim, group)
    await store.write(claim, [*group, *group])

    assert (await store.job(claim.job), await all_results(store, claim.job), await kinds(store, claim.job)) == before
    assert (await store.usage(claim.job))["prompt_tokens"] == 10


async def test_the_first_output_of_a_node_stands(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [output(0, "a", "1"), output(0, "a", "2")])
    await store.write(claim, [output(0, "a", "3"), output(0, "b", "4", work=Work(calls=1), engine=EngineId("e1"))])

    saved = (await store.load(await again(store, claim))).saved

    assert saved[0].outputs == {"a": "1", "b": "4"}
    assert (await store.usage(claim.job))["calls"] == 1


async def test_a_program_that_has_ended_stays_as_it_ended(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [ProgramEnded(0, Status.SUCCEEDED, "1"), ProgramEnded(0, Status.FAILED, None, FAILURE)])
    await store.write(claim, [ProgramEnded(0, Status.CANCELLED), ProgramEnded(1, Status.FAILED, None, FAILURE)])

    assert await all_results(store, claim.job) == [
        ResultRow(0, Status.SUCCEEDED, 1),
        ResultRow(1, Status.FAILED, None, FAILURE),
        ResultRow(2, None),
    ]
    assert (await store.job(claim.job)).counts == {"pending": 1, "succeeded": 1, "failed": 1, "cancelled": 0}


async def test_a_job_that_has_ended_stays_as_it_ended(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [ProgramEnded(row, Status.SUCCEEDED, "1") for row in range(3)])
    await store.write(claim, [JobEnded(Status.SUCCEEDED)])
    ended = await store.job(claim.job)
    assert (ended.status, ended.ended_at is not None) == (JobStatus.SUCCEEDED, True)

    await store.write(claim, [JobEnded(Status.CANCELLED)])
    await store.request_cancel(claim.job)

    assert await store.job(claim.job) == ended
    assert (await kinds(store, claim.job))[-1] == ("job.succeeded", None)


async def test_failures_are_told_in_the_events(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [ProgramEnded(2, Status.FAILED, None, FAILURE), JobEnded(Status.FAILED)])

    told = await store.events(claim.job)

    assert [(event.kind, event.row, event.detail) for event in told[2:]] == [
        ("program.failed", 2, {"code": "context_overflow"}),
        ("job.failed", None, None),
    ]
    assert all(event.at.endswith("Z") and event.job == claim.job for event in told)


async def test_usage_sums_what_each_node_took_once_and_what_sharing_saved(store: Store) -> None:
    claim = await running(store)
    call, absurd = Work(1, 0, 100, 20, 50), Work(1, 0, 10**30, -5, 1)
    await store.write(claim, [output(0, "a", work=call, engine=EngineId("e1")), output(0, "tool", work=Work(tools=1))])
    await store.write(claim, [replace(shared(1, "a", (claim.job, 0, "a")), work=call), output(2, "join")])
    await store.write(claim, [output(2, "b", work=absurd, engine=EngineId("e2"))])

    assert await store.usage(claim.job) == {
        "calls": 2,
        "tools": 1,
        "prompt_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 51,
        "saved_calls": 1,
        "saved_tools": 0,
        "saved_prompt_tokens": 100,
        "saved_output_tokens": 20,
        "recalled_calls": 0,
        "recalled_tools": 0,
    }


async def test_what_was_accepted_can_be_read_without_holding_the_job(store: Store) -> None:
    await store.create_job(new_job(rows=3))

    told = await store.definition(JobId("job"))

    assert told.plan == '{"plan": 1}'
    assert [row["n"] for row in told.rows] == [0, 1, 2]


async def test_what_was_believed_first_and_learnt_at_the_end_is_kept_with_the_job(store: Store) -> None:
    claim = await running(store)
    assert (await store.load(claim)).beliefs is None

    await store.write(claim, [JobBelieved("first"), JobBelieved("second")])
    claim = await again(store, claim)
    await store.write(claim, [JobBelieved("third")])

    assert (await store.load(claim)).beliefs == "first"
    await store.write(claim, [JobEnded(Status.SUCCEEDED, "learnt")])
    kept = await store.definition(claim.job)
    assert (kept.beliefs, kept.learnt) == ("first", "learnt")


async def test_what_nodes_took_is_told_path_by_path_apart_for_those_that_shared(store: Store) -> None:
    claim = await running(store)
    call, engine = Work(1, 0, 100, 20, 50), EngineId("e1")
    first, second = Times(10.0, 11.5, 14.0), Times(10.0, 14.0, 15.0)
    await store.write(claim, [output(0, "a", work=call, engine=engine, times=first), output(0, "join")])
    await store.write(claim, [output(1, "a", work=call, engine=engine, times=second), ToolBegun(2, "tool", 1)])
    await store.write(claim, [replace(shared(2, "a", (claim.job, 0, "a")), work=call)])
    await store.write(claim, [replace(output(2, "b"), work=call, shared_from=RESULT_CACHE)])

    assert await store.tallies(claim.job) == [
        Tally("a", How.MADE, 2, 2, 0, 200, 40, 100, 5.5, 3.5, 11.5, 15.0),
        Tally("a", How.SHARED, 1, 1, 0, 100, 20, 50),
        Tally("b", How.RECALLED, 1, 1, 0, 100, 20, 50),
        Tally("join", How.MADE, 1),
    ]
    assert await store.call_spans(claim.job) == [CallSpan("a", engine, 11.5, 14.0), CallSpan("a", engine, 14.0, 15.0)]


async def test_what_engines_answered_lately_is_summed_by_engine(store: Store) -> None:
    claim, now = await running(store), time.time()
    lately, before = Times(now - 3, now - 2, now - 1), Times(now - 900, now - 800, now - 700)
    a, b, call = EngineId("a"), EngineId("b"), Work(1, 0, 100, 20, 50)
    made = [
        replace(output(0, "x", work=call, times=lately), engine=b),
        replace(output(0, "y", work=call, times=lately), engine=a),
        replace(output(1, "x", work=call, times=before), engine=a),
        replace(output(1, "tool", work=Work(0, 1), times=lately)),
    ]
    await store.write(claim, made)
    assert await store.served(600) == [Served(a, 1, 100, 20, 50), Served(b, 1, 100, 20, 50)]
    assert await store.served(1000) == [Served(a, 2, 200, 40, 100), Served(b, 1, 100, 20, 50)]
    assert await store.served(0.5) == []


async def test_what_a_workflow_took_before_is_seen_newest_jobs_first_and_only_what_was_done(store: Store) -> None:
    call, times = Work(1, 0, 100, 20, 50), Times(10.0, 11.5, 14.0)
    old = await running(store)
    await store.write(old, [replace(output(0, "a", work=call, times=times), output='"old"'), output(0, "join")])
    await store.write(old, [replace(shared(1, "a", (old.job, 0, "a")), work=call)])
    await store.create_job(replace(new_job(), id=JobId("newer")))
    newer = await store.claim("w", LEASE_S, JobId("newer"))
    assert newer is not None
    await store.write(newer, [replace(output(0, "b", times=times), output="{}"), ToolBegun(1, "tool", 1)])

    workflow = (await store.job(newer.job)).workflow
    made = [Seen("b", "{}", 2.5), Seen("a", '"old"', 2.5, 100, 20, 50)]
    assert await store.seen(workflow) == made
    assert await store.seen(workflow, limit=1) == made[:1]
    assert await store.seen("another") == []
    assert await store.seen(workflow, tenant="another") == []


async def test_sums_are_right_when_a_group_is_written_again_with_more_in_it(store: Store) -> None:
    claim = await running(store)
    one = output(0, "a", work=Work(1, 0, 10, 2, 0), engine=EngineId("e1"))
    taken = replace(shared(1, "a", (claim.job, 0, "a")), work=one.work)
    await store.write(claim, [one])
    await store.write(claim, [one, taken])

    told = await store.usage(claim.job)

    assert (told["calls"], told["saved_calls"], told["prompt_tokens"], told["saved_prompt_tokens"]) == (1, 1, 10, 10)


async def test_what_came_from_the_result_cache_is_saved_work_with_an_output_of_its_own(store: Store) -> None:
    claim = await running(store)
    call = Work(1, 0, 10, 2, 0)
    recalled = output(0, "a", '"known"', work=call, shared_from=RESULT_CACHE)
    await store.write(claim, [recalled])
    await store.write(claim, [recalled, replace(shared(1, "a", (claim.job, 0, "a")), work=call)])

    told = await store.usage(claim.job)
    saved = (await store.load(await again(store, claim))).saved

    assert (told["calls"], told["saved_calls"], told["recalled_calls"], told["recalled_tools"]) == (0, 2, 1, 0)
    assert told["saved_prompt_tokens"] == 20
    assert (saved[0].outputs, saved[1].outputs) == ({"a": '"known"'}, {"a": '"known"'})


async def test_a_job_may_be_told_to_leave_the_result_cache_alone(store: Store) -> None:
    assert (await store.create_job(new_job("a"))).cache
    assert not (await store.create_job(new_job("b", cache=False))).cache
    assert not (await store.job(JobId("b"))).cache


async def test_what_was_done_before_a_crash_comes_with_its_work(store: Store) -> None:
    claim = await running(store)
    call = Work(1, 0, 10, 2, 0)
    await store.write(claim, [output(0, "a", work=call), output(0, "b"), shared(1, "a", (claim.job, 0, "gone"))])

    saved = (await store.load(await again(store, claim))).saved

    assert saved[0].work == {"a": call}


async def test_text_no_database_can_hold_comes_back_as_it_was_and_hurts_no_neighbour(store: Store) -> None:
    inputs = [{"question": text} for text in AWKWARD]
    job = NewJob(
        JobId("a\x00wkward \ud800"), "w\x00", "plan \x00", inputs, idempotency_key="\x00", metadata={"\x00": "\ud800"}
    )
    accepted = await store.create_job(job)
    claim = await store.claim("own\x00er", LEASE_S)
    assert claim is not None
    assert claim.job == accepted.id == job.id
    assert (await store.create_job(job)).id == accepted.id

    await store.write(
        claim,
        [
            *(output(0, f"path {text}", text, tools=(text,), engine=EngineId(text)) for text in AWKWARD),
            output(0, "fine", "fine"),
            ToolBegun(0, "\x00 tool", 1),
            ProgramEnded(1, Status.FAILED, None, Failure(FailureClass.ROW, "c\x00", "\ud800")),
            ProgramEnded(2, Status.SUCCEEDED, '"lone \ud800 and \\u0000"'),
        ],
    )

    contents = await store.load(await again(store, claim, "own\x00er"))
    assert list(contents.rows) == inputs
    assert contents.plan == job.plan
    assert contents.saved[0].outputs == {f"path {text}": text for text in AWKWARD} | {"fine": "fine"}
    assert contents.saved[0].tools["path a\x00b"] == ("a\x00b",)
    assert contents.saved[0].interrupted == ("\x00 tool",)
    results = await all_results(store, claim.job)
    assert results[1].failure == Failure(FailureClass.ROW, "c\x00", "\ud800")
    assert results[2].result == "lone \ud800 and \x00"
    with pytest.raises(JobUnknown):
        await store.job(JobId("\x00"))


# Going on


async def test_a_tool_that_was_begun_and_never_ended_is_told(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [ToolBegun(0, "commit", 1), ToolBegun(0, "push", 1), ToolBegun(1, "push", 1)])
    await store.write(
        claim, [output(0, "commit", "null", work=Work(1, 0, 1, 1, 1)), ProgramEnded(1, Status.SUCCEEDED, "1")]
    )

    saved = (await store.load(await again(store, claim))).saved

    assert saved == {0: SavedProgram({"commit": "null"}, {"commit": ()}, ("push",), {"commit": Work(1, 0, 1, 1, 1)})}
    assert (await store.usage(claim.job))["prompt_tokens"] == 1


async def test_a_tool_begun_and_ended_in_one_group_has_ended(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [ToolBegun(0, "push", 1), output(0, "push", "1")])
    await store.write(claim, [ToolBegun(0, "push", 1)])

    assert (await store.load(await again(store, claim))).saved == {0: SavedProgram({"push": "1"}, {"push": ()}, ())}


async def test_shared_outputs_are_read_through_to_the_node_that_did_the_work(store: Store) -> None:
    other = await running(store, "other")
    await store.write(other, [output(2, "x", "from another job"), shared(1, "x", (other.job, 2, "x"))])
    claim = await running(store)
    await store.write(claim, [output(0, "a", "work"), ProgramEnded(0, Status.SUCCEEDED, "1")])
    await store.write(claim, [shared(1, "a", (claim.job, 0, "a")), shared(1, "x", (other.job, 1, "x"))])
    await store.write(claim, [shared(2, "a", (claim.job, 1, "a")), shared(2, "x", (other.job, 1, "x"))])

    saved = (await store.load(await again(store, claim))).saved

    assert saved[1].outputs == {"a": "work", "x": "from another job"}
    assert saved[2] == SavedProgram({"a": "work", "x": "from another job"}, {"a": (), "x": ()}, ())


async def test_what_ended_rows_did_can_be_asked_for(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [output(0, "a", "work"), ProgramEnded(0, Status.SUCCEEDED, "1")])
    await store.write(claim, [shared(1, "a", (claim.job, 0, "a")), ProgramEnded(1, Status.SUCCEEDED, "1")])

    saved = await store.saved(claim, [1, 0, 2, 1])

    assert {row: program.outputs for row, program in saved.items()} == {0: {"a": "work"}, 1: {"a": "work"}}
    await again(store, claim)
    with pytest.raises(Fenced):
        await store.saved(claim, [0])


async def test_what_was_shared_from_a_node_never_stored_is_to_be_done_again(store: Store) -> None:
    claim = await running(store)
    nowhere = [shared(0, "a", (claim.job, 1, "a")), shared(0, "b", (JobId("gone"), 0, "b")), output(0, "c", "1")]
    circle = [shared(2, "x", (claim.job, 2, "y")), shared(2, "y", (claim.job, 2, "x"))]
    await store.write(claim, [*nowhere, *circle])

    saved = (await store.load(await again(store, claim))).saved

    assert saved == {0: SavedProgram({"c": "1"}, {"c": ()}, ()), 2: SavedProgram({}, {}, ())}


async def test_another_process_goes_on_where_an_abandoned_one_stopped(stores: Stores) -> None:
    abandoned = await stores.open()
    await abandoned.create_job(new_job())
    claim = await abandoned.claim("dead", 0)
    assert claim is not None
    await abandoned.write(claim, [output(0, "a", "1"), ProgramEnded(1, Status.SUCCEEDED, "1")])

    heir = await stores.open()
    taken = await heir.claim("heir", LEASE_S)
    assert taken is not None
    contents = await heir.load(taken)
    assert (contents.ended, contents.saved[0].outputs) == ([1], {"a": "1"})
    await heir.write(taken, [ProgramEnded(row, Status.SUCCEEDED, "2") for row in range(3)])
    await heir.write(taken, [JobEnded(Status.SUCCEEDED)])

    with pytest.raises(Fenced):
        await abandoned.write(claim, [ProgramEnded(0, Status.FAILED)])
    assert [row.result for row in await all_results(heir, claim.job)] == [2, 1, 2]


# Cancelling


async def test_a_queued_job_is_cancelled_at_once(store: Store) -> None:
    await store.create_job(new_job())

    told = await store.request_cancel(JobId("job"))

    assert (told.status, told.cancel_requested) == (JobStatus.CANCELLED, True)
    assert told.counts == {"pending": 0, "succeeded": 0, "failed": 0, "cancelled": 3}
    assert await store.request_cancel(JobId("job")) == told
    assert [row.status for row in await all_results(store, told.id)] == [Status.CANCELLED] * 3
    assert await store.claim("one", LEASE_S) is None
    assert [kind for kind, _ in await kinds(store, told.id)] == ["job.queued", "job.cancel_requested", "job.cancelled"]


async def test_a_running_job_is_cancelled_by_its_holder(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [ProgramEnded(1, Status.SUCCEEDED, "1")])
    await running(store, "foreign", owner="two")
    await store.request_cancel(JobId("foreign"))

    told = await store.request_cancel(claim.job)
    await store.request_cancel(claim.job)

    assert (told.status, told.cancel_requested) == (JobStatus.RUNNING, True)
    assert await store.cancels_requested("one") == [claim.job]
    await store.write(claim, [JobEnded(Status.CANCELLED)])
    assert await store.cancels_requested("one") == []
    ended = await store.job(claim.job)
    assert (ended.status, ended.counts["cancelled"], ended.counts["succeeded"]) == (JobStatus.CANCELLED, 2, 1)
    assert [kind for kind, _ in await kinds(store, claim.job)].count("job.cancel_requested") == 1


async def test_a_cancel_outlives_the_holder(store: Store) -> None:
    claim = await running(store)
    await store.request_cancel(claim.job)
    await store.release(claim)

    heir = await store.claim("two", LEASE_S)

    assert heir is not None
    assert (await store.load(heir)).record.cancel_requested
    assert await store.cancels_requested("two") == [claim.job]


# Reading


async def test_results_come_in_order_over_all_pages(store: Store) -> None:
    claim = await running(store, rows=1203)
    await store.write(claim, [ProgramEnded(row, Status.SUCCEEDED, str(row)) for row in range(0, 1203, 2)])

    results = await all_results(store, claim.job)

    assert [row.row for row in results] == list(range(1203))
    assert [row.result for row in results] == [row if row % 2 == 0 else None for row in range(1203)]
    assert [row.row for row in await all_results(store, claim.job, 1200)] == [1201, 1202]
    assert await all_results(store, claim.job, 1202) == []
    contents = await store.load(await again(store, claim))
    assert len(contents.rows) == 1203
    assert list(contents.ended) == list(range(0, 1203, 2))


async def test_many_saved_programs_are_loaded_over_all_pages(store: Store) -> None:
    claim = await running(store, rows=450)
    await store.write(claim, [output(row, "a", str(row)) for row in range(450)])
    await store.write(claim, [shared(row, "b", (claim.job, 449 - row, "a")) for row in range(450)])

    saved = (await store.load(await again(store, claim))).saved

    assert {row: one.outputs for row, one in saved.items()} == {
        row: {"a": str(row), "b": str(449 - row)} for row in range(450)
    }


async def test_jobs_are_listed_newest_first_and_by_page(store: Store) -> None:
    for number in range(5):
        await store.create_job(new_job(f"job{number}", tenant="even" if number % 2 == 0 else "odd"))
    await store.claim("one", LEASE_S, JobId("job4"))

    async def listed(**wanted: object) -> list[str]:
        return [record.id for record in await store.jobs(**wanted)]  # type: ignore[arg-type]

    assert await listed(limit=2) == ["job4", "job3"]
    assert await listed(limit=2, before=JobId("job3")) == ["job2", "job1"]
    assert await listed(before=JobId("job1")) == ["job0"]
    assert await listed(before=JobId("no such job")) == []
    assert await listed(tenant="even") == ["job4", "job2", "job0"]
    assert await listed(status=JobStatus.QUEUED) == ["job3", "job2", "job1", "job0"]
    assert await listed(tenant="even", status=JobStatus.RUNNING, workflow="text2sql") == ["job4"]
    assert await listed(workflow="another") == []


async def test_events_are_read_on_from_where_the_reader_was(store: Store) -> None:
    claim = await running(store)
    await running(store, "other")
    await store.write(claim, [ProgramEnded(row, Status.SUCCEEDED, "1") for row in range(3)])

    first = await store.events(claim.job, limit=3)
    rest = await store.events(claim.job, after_seq=first[-1].seq)

    assert [event.kind for event in first] == ["job.queued", "job.running", "program.succeeded"]
    assert [event.row for event in rest] == [1, 2]
    assert sorted({event.seq for event in [*first, *rest]}) == [event.seq for event in [*first, *rest]]


async def test_nobody_is_told_of_a_job_that_is_not_there_or_not_his(store: Store) -> None:
    await store.create_job(new_job(tenant="acme"))
    nothing = JobId("nothing")

    with pytest.raises(JobUnknown):
        await store.job(JobId("job"), "other")
    with pytest.raises(JobUnknown):
        await store.request_cancel(JobId("job"), "other")
    with pytest.raises(JobUnknown):
        await store.job(nothing)
    with pytest.raises(JobUnknown):
        await store.request_cancel(nothing)
    with pytest.raises(JobUnknown):
        await store.usage(nothing)
    with pytest.raises(JobUnknown):
        await store.definition(nothing)
    with pytest.raises(JobUnknown):
        await all_results(store, nothing)
    with pytest.raises(JobUnknown):
        await store.write(Claim(nothing, 1), [output(0, "a")])
    assert await store.events(nothing) == []
    assert (await store.job(JobId("job"), "acme")).tenant == "acme"


async def test_a_store_answers_a_ping_and_may_be_closed_twice(store: Store) -> None:
    await store.ping()
    await store.close()
    await store.close()


# Why calls went where they went


def decision(number: int, row: int = 0, path: str = "ask", detail: str = "because") -> DecisionMade:
    return DecisionMade(number, row, path, 0, 1_000_000_000.0 + number, detail)


async def test_decisions_are_read_on_in_the_order_they_were_made(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [decision(1), decision(2, row=1), decision(3, path="check", detail=AWKWARD[0])])
    first = await store.decisions(claim.job, limit=2)
    rest = await store.decisions(claim.job, after_seq=first[-1].seq)

    told = [(one.row, one.path, one.attempt, one.detail) for one in first]
    assert told == [(0, "ask", 0, "because"), (1, "ask", 0, "because")]
    assert [(one.path, one.detail, one.at) for one in rest] == [("check", AWKWARD[0], "2001-09-09T01:46:43.000Z")]
    assert await store.decisions(claim.job, row=1) == first[1:]
    assert await store.decisions(claim.job, path="check") == rest


async def test_a_decision_written_again_is_one_and_the_next_claim_counts_anew(store: Store) -> None:
    claim = await running(store)
    await store.write(claim, [decision(1, detail="before the crash")])
    await store.write(claim, [decision(1, detail="before the crash")])
    claim = await again(store, claim)
    await store.write(claim, [decision(1, detail="after it")])

    assert [one.detail for one in await store.decisions(claim.job)] == ["before the crash", "after it"]


async def test_nobody_decided_anything_of_a_job_that_is_not_there(store: Store) -> None:
    assert await store.decisions(JobId("nothing")) == []


# Engines taken out


async def test_a_drained_engine_is_told_to_every_process_until_it_is_resumed(stores: Stores) -> None:
    one, two = await stores.open(), await stores.open()
    assert await one.drained() == []
    for store, engine in ((one, "b"), (two, "a"), (two, "b"), (one, AWKWARD[0])):
        await store.drain(EngineId(engine), "ops")
    assert await one.drained() == await two.drained() == ["a", AWKWARD[0], "b"]

    await one.resume(EngineId("b"))
    await one.resume(EngineId("never drained"))
    assert await (await stores.open()).drained() == ["a", AWKWARD[0]]


# Forgetting

LONG_AGO_S, A_MOMENT_TO_COME_S = 3600.0, -60.0


async def ended(store: Store, name: str = "old", *writes: NodeOutput, **more: object) -> JobId:
    claim = await running(store, name, rows=1, **more)
    done = [ProgramEnded(0, Status.SUCCEEDED, '"done"'), JobEnded(Status.SUCCEEDED)]
    await store.write(claim, [*writes, decision(1), *done])
    return claim.job


async def forget_all(store: Store, job: JobId) -> None:
    await store.forget([job])
    while await store.erase(5):
        pass


async def test_an_old_job_is_forgotten_with_all_that_was_written_of_it(store: Store) -> None:
    old = await ended(store, "old", output(0, "a"), idempotency_key="k", request_hash="then")
    await ended(store, "other", output(0, "a"))
    assert await store.forgettable(LONG_AGO_S) == []
    assert await store.forgettable(A_MOMENT_TO_COME_S) == [old, "other"]

    await forget_all(store, old)

    with pytest.raises(JobUnknown):
        await store.job(old)
    assert [job.id for job in await store.jobs()] == ["other"]
    assert (await store.events(old), await store.decisions(old)) == ([], [])
    assert len(await store.events(JobId("other"))) == 4
    assert len(await all_results(store, JobId("other"))) == 1
    assert [seen.path for seen in await store.seen("text2sql")] == []
    again = await store.create_job(new_job("new", idempotency_key="k", request_hash="now"))
    assert again.id == "new"
    assert [job.id for job in await store.jobs()] == ["new", "other"]
    assert [job.id for job in await store.jobs(before=JobId("new"))] == ["other"]


async def test_a_job_that_has_not_ended_is_never_forgotten(store: Store) -> None:
    await store.create_job(new_job("waits"))
    claim = await running(store, "runs")
    await store.write(claim, [output(0, "a")])
    assert await store.forgettable(A_MOMENT_TO_COME_S) == []
    for name in ("waits", "runs", "nothing"):
        await forget_all(store, JobId(name))
    assert (await store.load(await again(store, claim))).saved[0].outputs == {"a": '"done"'}
    assert (await store.job(JobId("waits"))).status is JobStatus.QUEUED


async def test_what_a_running_job_shares_is_kept_though_it_is_old(store: Store) -> None:
    lender = await ended(store, "lender", output(0, "a", '"lent"'))
    between = await ended(store, "between", shared(0, "a", (lender, 0, "a")))
    alone = await ended(store, "alone", output(0, "a"))
    claim = await running(store, "runs")
    await store.write(claim, [shared(0, "a", (between, 0, "a"))])
    assert await store.forgettable(A_MOMENT_TO_COME_S) == [alone]
    claim = await again(store, claim)
    assert (await store.load(claim)).saved[0].outputs == {"a": '"lent"'}

    await store.write(claim, [JobEnded(Status.CANCELLED)])
    assert await store.forgettable(A_MOMENT_TO_COME_S) == [lender, between, alone, claim.job]


async def test_a_forgotten_job_is_shown_to_nobody_while_it_is_deleted_in_pieces(stores: Stores) -> None:
    store = await stores.open()
    claim = await running(store, "large", rows=120, idempotency_key="k")
    ends = [ProgramEnded(row, Status.SUCCEEDED, str(row)) for row in range(120)]
    await store.write(claim, [*(output(row, "a") for row in range(120)), *ends, JobEnded(Status.SUCCEEDED)])

    await store.forget([claim.job])
    erased = [await store.erase(50) for _ in range(2)]
    store = await stores.open()  # whoever swept was killed
    for asked in (store.job, store.usage, store.definition, store.request_cancel):
        with pytest.raises(JobUnknown):
            await asked(claim.job)
    with pytest.raises(JobUnknown):
        await all_results(store, claim.job)
    assert await store.jobs() == await store.seen("text2sql") == await store.forgettable(A_MOMENT_TO_COME_S) == []
    assert (await store.create_job(new_job("new", idempotency_key="k"))).id == "new"

    while piece := await store.erase(50):
        erased.append(piece)
    in_database = 2 * 120 + 123 + 1  # nodes and programs, events, itself
    assert (sum(erased), max(erased)) == ((0, 0) if stores.url is None else (in_database, 50))
    assert [job.id for job in await store.jobs()] == ["new"]


async def test_who_reads_the_results_of_a_job_while_it_is_forgotten_gets_all_or_is_told(stores: Stores) -> None:
    store = await stores.open()
    claim = await running(store, "large", rows=1200)
    await store.write(claim, [JobEnded(Status.CANCELLED)])
    rows: list[int] = []
    try:
        async for result in store.results(claim.job):
            rows.append(result.row)
            if result.row == 700:
                await store.forget([claim.job])
                await store.erase(300)
    except JobUnknown:
        assert rows == list(range(1000))
    else:
        assert rows == list(range(1200))
    assert (len(rows) == 1200) == (stores.url is None)


async def test_many_small_jobs_are_deleted_in_one_transaction(stores: Stores) -> None:
    store = await stores.open()
    names = [await ended(store, f"job{number}", *(output(0, path) for path in "abcd")) for number in range(6)]
    await store.forget(names[:5])
    pieces = [await store.erase(24) for _ in range(4)]
    rows = 4 + 1 + 4 + 1 + 1  # nodes, a decision, events, the program, the job
    expected = [26, 24, 5 * rows - 26 - 24, 0]  # nodes of one row go together
    assert pieces == ([0, 0, 0, 0] if stores.url is None else expected)
    assert [job.id for job in await store.jobs()] == [names[5]]
    assert len(await store.events(names[5])) == 4
