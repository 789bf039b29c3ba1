"""A journal's window of traffic, run again and told beside what it was."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from statistics import fmean

from executor.core.knobs import Tuned
from executor.drivers.replaying import ReplayedProgram, replay
from executor.drivers.shadow import recorded_programs
from executor.engines.port import EngineSpec
from executor.errors import ExecutorError
from executor.events import Event, JobSubmitted
from executor.journal import Journal, LineUnreadable, kind_of, read_journal
from executor.recording import Recording, record
from planner.errors import Problem
from planner.ir.ids import JobId, job_of
from planner.ir.values import Json


class JournalRefused(ExecutorError):
    """The file is no journal, or there is nothing in it to run again."""

    def __init__(self, where: str, what: str, fix: str) -> None:
        super().__init__("this traffic cannot be run again", [Problem(where, what, fix)])


@dataclass(frozen=True, slots=True)
class Figures:
    """Of programs that ended: from when their job came in."""

    programs: int
    mean_s: float
    p95_s: float
    missed: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """`left_out` programs ended in the record and not in the simulation: something of them was not recorded."""

    recorded: Figures
    simulated: Figures
    left_out: int

    def as_json(self) -> dict[str, Json]:
        return {"recorded": asdict(self.recorded), "simulated": asdict(self.simulated), "left_out": self.left_out}


def read_window(journal: Path, last_s: float | None = None) -> Recording:
    """Of the jobs that came in within the newest `last_s`, or of all. Raises `JournalRefused` or `OSError`."""
    found = record(_events(journal, last_s))
    if not found.jobs:
        raise JournalRefused(str(journal), "no program ended within it that came in within it, too", "take more of it")
    return found


def cut(journal: Path, last_s: float | None, out: Path) -> None:
    """Write the window to a journal of its own, in place of what was there."""
    events = _events(journal, last_s)
    out.unlink(missing_ok=True)
    written = Journal(out)
    for event in events:
        written.append(event)
    written.close()


def run_window(recording: Recording, fleet: Sequence[EngineSpec], tuned: Tuned) -> Replayed:
    was = recorded_programs(recording)
    now = replay(recording, fleet, tuned.limits, tuned.rule)
    if not now:
        raise JournalRefused("the window", "no program of it could be run again", "name engines that serve its models")
    return Replayed(_figures(was), _figures(now), len(was) - len(now))


def _events(journal: Path, last_s: float | None) -> list[Event]:
    try:
        events = list(read_journal(journal))
    except LineUnreadable as error:
        raise _refused(journal, error) from None
    if last_s is None or not events:
        return events
    return list(_since(events, events[-1].at - last_s))


def _refused(journal: Path, error: LineUnreadable) -> JournalRefused:
    if kind_of(journal) == "door":
        fix = "name that of the jobs, which is beside it, or use halo replay door"
        return JournalRefused(str(journal), "is the journal of an OpenAI door", fix)
    fix = "name a file that --journal or HALO_JOURNAL wrote"
    return JournalRefused(str(journal), f"is no journal of Halo: {error}", fix)


def _since(events: Sequence[Event], at: float) -> Iterator[Event]:
    """What happened then or later, but for jobs that came in before."""
    early = {event.job for event in events if isinstance(event, JobSubmitted) and event.at < at}
    return (event for event in events if event.at >= at and _job(event) not in early)


def _job(event: Event) -> JobId | None:
    node = getattr(event, "node", None)
    return job_of(node.program) if node is not None else getattr(event, "job", None)


def _figures(programs: Sequence[ReplayedProgram]) -> Figures:
    seconds = sorted(one.seconds for one in programs)
    p95_s = seconds[ceil(0.95 * len(seconds)) - 1]
    return Figures(len(seconds), fmean(seconds), p95_s, sum(one.missed for one in programs))
