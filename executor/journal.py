"""The event log of a run, or of a door: one JSON line an event, fit to be fed to a fresh core."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from pydantic import TypeAdapter, ValidationError

from executor.door.events import DoorEvent
from executor.door.record import DoorOpened, DoorRecord
from executor.events import CacheTold, CacheUntold, Event


class LineUnreadable(Exception):
    """A line that no journal of the kind has; says which, and what is wrong with it."""


class EventLog(Protocol):
    """Gets every event of a driver, in order."""

    def append(self, event: Event) -> None: ...


class Journal:
    """Appends events to a file. Prompts and outputs are not among them; the job's plan is."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8")

    def append(self, event: Event | DoorRecord) -> None:
        self._file.write(encode_event(event) + "\n")

    def close(self) -> None:
        self._file.close()


class RecentEvents:
    """The newest events, no more than `most`: a window of traffic in memory. What engines tell of their caches is left
    out. Each is also told to `log`."""

    def __init__(self, most: int, log: EventLog | None = None) -> None:
        self._events: deque[Event] = deque(maxlen=most)
        self._log = log

    def append(self, event: Event) -> None:
        if not isinstance(event, CacheTold | CacheUntold):
            self._events.append(event)
        if self._log is not None:
            self._log.append(event)

    def events(self) -> Sequence[Event]:
        """In the order they came."""
        return list(self._events)


def read_journal(path: Path) -> Iterator[Event]:
    """Raises `LineUnreadable` for what a run does not write."""
    with path.open(encoding="utf-8") as lines:
        yield from decode_events(lines)


def read_door_journal(path: Path) -> Iterator[DoorRecord]:
    """Raises `LineUnreadable` for what a door does not write."""
    with path.open(encoding="utf-8") as lines:
        yield from _decoded(lines, _OF_DOORS)


def kind_of(path: Path) -> Literal["jobs", "door"] | None:
    """Whose journal it is, by the first event that only one of them writes; None where there is none."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name = line.partition(" ")[0]
            if (name in _OF_RUNS) != (name in _OF_DOORS):
                return "jobs" if name in _OF_RUNS else "door"
    return None


def decode_events(lines: Iterable[str]) -> Iterator[Event]:
    yield from _decoded(lines, _OF_RUNS)


def encode_event(event: Event | DoorRecord) -> str:
    kind: Any = type(event)
    return f"{kind.__name__} {_adapter(kind).dump_json(event, fallback=list).decode()}"


_OF_RUNS: dict[str, Any] = {kind.__name__: kind for kind in Event.__args__}
_OF_DOORS: dict[str, Any] = {kind.__name__: kind for kind in (DoorOpened, *DoorEvent.__args__)}


def _decoded(lines: Iterable[str], kinds: Mapping[str, Any]) -> Iterator[Any]:
    try:
        for number, line in enumerate(lines, 1):
            yield _event(number, line, kinds)
    except UnicodeDecodeError:
        raise LineUnreadable("it is no text in UTF-8") from None


def _event(number: int, line: str, kinds: Mapping[str, Any]) -> Any:
    name, _, text = line.partition(" ")
    if name not in kinds:
        raise LineUnreadable(f"line {number} does not begin with the name of an event")
    try:
        return _adapter(kinds[name]).validate_json(text)
    except ValidationError:
        raise LineUnreadable(f"line {number} is no whole {name}") from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
