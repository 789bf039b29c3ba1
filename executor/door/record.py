"""The door's events as a journal keeps them, and fed to a fresh core again: the same commands come of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from executor.door.commands import DoorCommand
from executor.door.core import DoorCore
from executor.door.events import DoorEvent
from executor.door.limits import DoorLimits
from executor.engines.port import EngineSpec


@dataclass(frozen=True, slots=True)
class DoorOpened:
    """A process began, and knew nothing yet: what follows is of a core of its own."""

    at: float
    engines: tuple[EngineSpec, ...]
    limits: DoorLimits


DoorRecord = DoorOpened | DoorEvent


def handled_again(records: Iterable[DoorRecord]) -> Iterator[tuple[DoorEvent, Sequence[DoorCommand]]]:
    """Each event with what the core wants done, as when it was written.

    Raises `ValueError` where an event comes before its door was opened.
    """
    core: DoorCore | None = None
    for record in records:
        if isinstance(record, DoorOpened):
            core = DoorCore(record.engines, record.limits)
        elif core is None:
            raise ValueError("an event comes before its door was opened")
        else:
            yield record, core.handle(record)
