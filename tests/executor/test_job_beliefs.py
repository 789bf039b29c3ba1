"""What is believed of a job is what was known before it ran: of earlier jobs, never of itself, and it stays so."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import halo
from executor.beliefs import Beliefs, decode_beliefs, decode_corrections, encode_beliefs, encode_corrections
from executor.clock import WallClock
from executor.commands import Status
from executor.drivers.experiences import MOST_SEEN, REREAD_S, Experiences
from executor.events import JobSubmitted
from executor.journal import Journal, read_journal
from executor.store.jobs import JobContents
from executor.store.memory import MemoryStore
from executor.store.writes import JobBelieved
from planner.cost.correction import Correction
from planner.cost.experience import Experience
from planner.cost.history import Seen
from planner.cost.quantiles import Quantiles
from planner.ir.ids import EngineId, JobId
from tests.strategies.live_runs import live_driver, scripted_fleet, submit


@halo.llm(model="small", max_tokens=64)
def ask(text: str) -> str:
    return f"Answer {text}"


@halo.workflow
def asked(text: str) -> str:
    return ask(text)


ROWS = [{"text": str(number)} for number in range(12)]


class CountingStore(MemoryStore):
    """Counts how often it is read for what was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    async def seen(self, workflow: str, tenant: str = "default", limit: int = 5000) -> Sequence[Seen]:
        self.asked.append(limit)
        return await super().seen(workflow, tenant, limit)


class HandClock(WallClock):
    at = 0.0

    def now(self) -> float:
        return self.at


async def run(store: MemoryStore, name: str, journal: Journal | None = None) -> Beliefs:
    async with live_driver(scripted_fleet(), store, journal=journal) as driver:
        claim = await store.claim("test", 60.0, await submit(store, asked.plan, ROWS, name))
        assert claim is not None
        assert await driver.run(claim) is Status.SUCCEEDED
    return decode_beliefs((await store.definition(claim.job)).beliefs)


async def test_each_job_begins_with_what_the_jobs_before_it_took(tmp_path: Path) -> None:
    store, journal = MemoryStore(), Journal(tmp_path / "journal")
    first = await run(store, "first")
    second = await run(store, "second", journal)
    journal.close()

    assert first.experience.seen == 0
    assert second.experience.calls == len(ROWS)
    (submitted,) = [event for event in read_journal(tmp_path / "journal") if isinstance(event, JobSubmitted)]
    assert submitted.lengths == second.experience.output_tokens
    assert set(submitted.lengths) == {"ask"}
    await run(store, "third")
    assert decode_beliefs((await store.definition(JobId("second"))).beliefs) == second


async def test_a_job_that_is_gone_on_with_believes_what_it_believed_at_first() -> None:
    store = MemoryStore()
    await run(store, "first")
    async with live_driver(scripted_fleet(), store) as driver:
        claim = await store.claim("test", 60.0, await submit(store, asked.plan, ROWS, "second"))
        assert claim is not None
        believed = Beliefs(Experience(calls=7, output_tokens={"ask": Quantiles(1, 2, 3)}))
        await store.write(claim, [JobBelieved(encode_beliefs(believed))])
        assert await driver.run(claim) is Status.SUCCEEDED
    assert decode_beliefs((await store.definition(claim.job)).beliefs) == believed


async def test_what_the_run_taught_of_engines_is_kept_with_it() -> None:
    store = MemoryStore()
    await run(store, "first")
    learnt = decode_corrections((await store.definition(JobId("first"))).learnt)
    assert sum(one.calls for one in learnt.values()) == len(ROWS)


async def test_many_jobs_of_one_plan_read_the_store_once_in_a_while() -> None:
    store, clock = CountingStore(), HandClock()
    await submit(store, asked.plan, ROWS)
    claim = await store.claim("test", 60.0)
    assert claim is not None
    contents: JobContents = await store.load(claim)
    experiences = Experiences(store, clock)
    for _ in range(5):
        await experiences.of(contents, asked.plan)
    assert store.asked == [MOST_SEEN]
    clock.at += REREAD_S
    await experiences.of(contents, asked.plan)
    assert len(store.asked) == 2
    other = replace(contents, record=replace(contents.record, tenant="other"))
    await experiences.of(other, asked.plan)
    assert len(store.asked) == 3


def test_beliefs_and_corrections_come_back_as_they_were() -> None:
    believed = Beliefs(
        Experience(3, 4, {"a": Quantiles(1, 2, 3)}, {"b[*]/c": Quantiles(0.1, 0.2, 0.3)}, {"b[*]/c": 12.5}, 2.5),
        {EngineId("one"): Correction(1.5, 0.1, 9)},
    )
    assert decode_beliefs(encode_beliefs(believed)) == believed
    assert decode_beliefs(None) == Beliefs()
    unused = {EngineId("one"): Correction(1.5, 0.1, 9), EngineId("two"): Correction()}
    assert decode_corrections(encode_corrections(unused)) == {EngineId("one"): Correction(1.5, 0.1, 9)}
