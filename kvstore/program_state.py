"""A program's live state between calls: what it does, where, since when. A hint, never the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from planner.ir.ids import EngineId, ProgramId

#: So many lengths are kept of texts that begin alike.
MOST_LENGTHS = 64


class StateUnavailable(Exception):
    """The states cannot be reached just now. Nothing is lost but speed."""


@dataclass(frozen=True, slots=True)
class ProgramState:
    """`version` grows with every change; `since` and `until` are seconds since the epoch.

    `doing` since `since`: where it is `tool`, `tool` and `tool_arguments` say which, and the class of its arguments.
    `engine` has the KV of the program's first `context_tokens` tokens, as is believed until `until`. Of two programs
    the one that began earlier has the smaller `sequence`. `attained_tokens` is the service it had, in tokens.
    """

    program: ProgramId
    version: int
    node: str
    doing: str
    since: float
    engine: EngineId | None = None
    turns: int = 0
    attained_tokens: int = 0
    sequence: int = 0
    context_tokens: int = 0
    until: float | None = None
    tool: str = ""
    tool_arguments: str = ""


class ProgramStates(Protocol):
    """Bodies: `MemoryStates`, `RedisStates`. Every method may raise `StateUnavailable`, within a bounded time."""

    async def save(self, states: Sequence[ProgramState]) -> None:
        """Keep each unless a newer version is kept already."""
        ...

    async def load(self, program: ProgramId) -> ProgramState | None: ...

    async def forget(self, programs: Sequence[ProgramId]) -> None: ...

    async def name_turns(self, turns: Sequence[tuple[str, ProgramId]]) -> None:
        """A conversation of that name is the program's, until another one is named so."""
        ...

    async def program_of_turn(self, names: Sequence[str]) -> ProgramId | None:
        """The program of the first of these names that is known."""
        ...

    async def note_texts(self, texts: Sequence[tuple[str, int]]) -> None:
        """A text of that beginning ended with so many characters."""
        ...

    async def text_lengths(self, beginnings: Sequence[str]) -> Sequence[int]:
        """How long texts of these beginnings were when they ended: of each the `MOST_LENGTHS` newest, in any order."""
        ...

    async def wake(self) -> None:
        """Tell whoever waits, in any process, that there may be work."""
        ...

    async def wait_for_wake(self, timeout_s: float) -> bool:
        """True when woken, or when a wake may have been missed; False when the time is over."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...
