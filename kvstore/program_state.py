"""A program's live state between calls: what it does, where, since when. A hint, never the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from planner.ir.ids import EngineId, ProgramId


class StateUnavailable(Exception):
    """The states cannot be reached just now. Nothing is lost but speed."""


@dataclass(frozen=True, slots=True)
class ProgramState:
    """`version` grows with every change; `since` is seconds since the epoch, for people to read."""

    program: ProgramId
    version: int
    node: str
    doing: str
    since: float
    engine: EngineId | None = None
    turns: int = 0
    attained_tokens: int = 0


class ProgramStates(Protocol):
    """Bodies: `MemoryStates`, `RedisStates`. Every method may raise `StateUnavailable`, within a bounded time."""

    async def save(self, states: Sequence[ProgramState]) -> None:
        """Keep each unless a newer version is kept already."""
        ...

    async def load(self, program: ProgramId) -> ProgramState | None: ...

    async def forget(self, programs: Sequence[ProgramId]) -> None: ...

    async def wake(self) -> None:
        """Tell whoever waits, in any process, that there may be work."""
        ...

    async def wait_for_wake(self, timeout_s: float) -> bool:
        """True when woken, or when a wake may have been missed; False when the time is over."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...
