"""What a door decided, from its journal: how long calls waited, which engines they went to, and why."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

from executor.door.commands import DoorCommand, Refuse, Send
from executor.door.events import CallArrived, DoorEvent
from executor.door.record import handled_again
from executor.journal import LineUnreadable, kind_of, read_door_journal
from halo.replay import JournalRefused
from halo.wiring import door_journal
from planner.ir.values import Json


@dataclass(frozen=True, slots=True)
class Sending:
    """A call went to an engine, `waited_s` after it came; a call whose engine failed goes again. `at` is in seconds
    since the epoch."""

    at: float
    program: str
    engine: str
    waited_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class DoorDecisions:
    """`refused` counts by code."""

    calls: int
    sendings: Sequence[Sending]
    refused: Counter[str]

    @property
    def programs(self) -> int:
        return len({one.program for one in self.sendings})

    @property
    def by_engine(self) -> Counter[str]:
        return Counter(one.engine for one in self.sendings)

    def waited_s(self, share: float) -> float:
        """So many of the calls that were sent waited no longer."""
        waits = sorted(one.waited_s for one in self.sendings)
        return waits[ceil(share * len(waits)) - 1] if waits else 0.0

    def rows(self) -> Iterator[Sequence[str]]:
        for one in self.sendings:
            yield f"{one.at - self.sendings[0].at:,.2f} s", f"{one.waited_s:,.2f} s", one.engine, one.reason

    def lines(self) -> Iterator[str]:
        half, most, last = (self.waited_s(share) for share in (0.5, 0.95, 1.0))
        yield f"{self.calls:,} calls came, of {self.programs:,} programs; {self.refused.total():,} were refused"
        yield f"half were sent within {half:,.2f} s, 95 % within {most:,.2f} s, the last after {last:,.2f} s"
        for engine, calls in sorted(self.by_engine.items()):
            yield f"{engine}: {calls:,}"

    def as_json(self) -> dict[str, Json]:
        return {
            "calls": self.calls,
            "programs": self.programs,
            "refused": dict(self.refused),
            "engines": dict(self.by_engine),
            "waited_s": {"half": self.waited_s(0.5), "p95": self.waited_s(0.95), "longest": self.waited_s(1.0)},
            "decisions": [asdict(one) for one in self.sendings],
        }


def decisions_of(journal: Path, program: str | None = None) -> DoorDecisions:
    """Of all programs, or of those of that name, whatever tenant's they are. Raises `JournalRefused` or `OSError`."""
    try:
        gathered = _Gathered(program)
        for event, commands in handled_again(read_door_journal(journal)):
            gathered.take(event, commands)
    except (LineUnreadable, ValueError) as error:
        raise _refused(journal, error) from None
    return DoorDecisions(gathered.calls, gathered.sendings, gathered.refused)


def _refused(journal: Path, error: LineUnreadable | ValueError) -> JournalRefused:
    if kind_of(journal) == "jobs":
        fix = f"name that of the door, which halo serve writes beside it: {door_journal(journal).name}"
        return JournalRefused(str(journal), "is the journal of jobs", fix)
    if isinstance(error, ValueError):
        return JournalRefused(str(journal), str(error), "name the journal from its beginning")
    fix = "name a file that HALO_JOURNAL=FILE.txt halo serve wrote for its door: FILE.door.txt"
    return JournalRefused(str(journal), f"is no journal of a door: {error}", fix)


class _Gathered:
    def __init__(self, program: str | None) -> None:
        self._wanted = program
        self._arrived: dict[int, float] = {}
        self.calls, self.sendings, self.refused = 0, list[Sending](), Counter[str]()

    def take(self, event: DoorEvent, commands: Sequence[DoorCommand]) -> None:
        if isinstance(event, CallArrived):
            self._arrived[event.call] = event.at
            self.calls += 1
        for command in commands:
            if isinstance(command, Refuse):
                self.refused[command.failure.code] += 1
            elif isinstance(command, Send) and self._wants(command.program):
                waited_s = event.at - self._arrived[command.call]
                self.sendings.append(Sending(event.at, command.program, command.engine, waited_s, command.reason))

    def _wants(self, program: str) -> bool:
        """Programs are named `TENANT/NAME`."""
        return self._wanted is None or self._wanted in (program, program.partition("/")[2])
