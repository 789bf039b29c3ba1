"""What happened once is run again: from its events alone, with nobody asked, under other bounds."""

import pytest
from every_kind import every_kind

from executor.core.limits import Limits
from executor.drivers.replaying import replay
from executor.drivers.simulated import Arrival, Simulation
from executor.drivers.world import ToolsRun
from executor.engines.port import EngineSpec
from executor.engines.synthetic import Synthetic
from executor.journal import decode_events, encode_event
from executor.recording import before, latest, part_of, record
from executor.tools import ToolRunner
from planner.ir.ids import EngineId, JobId
from planner.table import Table

FLEET = [EngineSpec(EngineId(gpu), "modelled", ("small", "large"), gpu=gpu, max_running=4) for gpu in ("A100", "L4")]
ROWS = [{"question": f"Why is {thing}?", "tone": tone} for thing in "abcdef" for tone in ("plain", "formal")]


def arrival(at: float, name: str, rows: list[dict[str, str]]) -> Arrival:
    return Arrival(at, JobId(name), every_kind.plan, Table.from_rows(rows, every_kind.plan.inputs))


async def played(*arrivals: Arrival, limits: Limits | None = None):
    """The events of a simulated run, and when each program ended there, after its job came in."""
    simulation = Simulation(FLEET, ToolsRun(Synthetic(), ToolRunner(every_kind.tools), lambda spec: 0.05), limits)
    jobs = await simulation.run(arrivals)
    came = {one.job: one.at for one in arrivals}
    ended = {(job, row): at - came[job] for job, told in jobs.items() for row, at in told.ended_at.items()}
    return simulation.events, ended


async def test_a_run_that_is_played_again_as_it_was_takes_as_long():
    events, ended = await played(arrival(0.0, "one", ROWS), arrival(0.4, "two", ROWS[:3]))
    found = {(one.job, one.row): one.seconds for one in replay(record(events), FLEET)}

    assert found.keys() == ended.keys()
    assert found == pytest.approx(ended, rel=0.15)


async def test_a_journal_on_disk_is_as_good_and_each_replay_is_the_same():
    events, _ = await played(arrival(0.0, "one", ROWS))
    written = list(decode_events(encode_event(event) for event in events))
    assert replay(record(written), FLEET) == replay(record(events), FLEET)


async def test_under_tighter_bounds_it_takes_longer():
    events, _ = await played(arrival(0.0, "one", ROWS))
    recording = record(events)
    freely = max(one.seconds for one in replay(recording, FLEET))
    one_by_one = max(one.seconds for one in replay(recording, FLEET, Limits(active_programs=1)))
    assert one_by_one > 1.3 * freely


async def test_a_part_of_the_rows_runs_without_the_others_whoever_did_their_shared_work():
    events, _ = await played(arrival(0.0, "one", ROWS))
    recording = record(events)
    for kept in ([3, 5, 8], [11], range(0, 12, 2)):
        part = part_of(recording, {JobId("one"): list(kept)})
        assert sorted(one.row for one in replay(part, FLEET)) == list(kept)


async def test_a_part_comes_in_as_densely_as_the_whole_did():
    events, _ = await played(*(arrival(10.0 + number, f"job-{number}", ROWS[:1]) for number in range(6)))
    part = part_of(record(events), {JobId(f"job-{number}"): [0] for number in (0, 2, 4)}, pace=2.0)
    assert [job.submitted.at for job in part.jobs] == [0.0, 1.0, 2.0]


async def test_the_window_is_cut_by_age():
    events, _ = await played(*(arrival(float(number), f"job-{number}", ROWS[:1]) for number in range(6)))
    recording = record(events)
    newest = latest(recording, 1 / 3)
    assert [job.id for job in newest.jobs] == ["job-4", "job-5"]
    assert [job.id for job in before(recording, newest).jobs] == ["job-0", "job-1", "job-2", "job-3"]


async def test_of_what_had_not_ended_and_what_began_before_the_window_nothing_is_taken():
    events, _ = await played(arrival(0.0, "old", ROWS[:2]), arrival(0.1, "one", ROWS[:4]))
    middle = [event for event in events if event.at > 0.0]
    half = middle[: len(middle) * 2 // 3]
    recording = record(half)
    assert [job.id for job in recording.jobs] in ([], ["one"])
    assert {one.job for one in replay(recording, FLEET)} <= {"one"}
