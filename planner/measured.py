"""What a run took, as it was recorded: the other half of EXPLAIN ANALYZE."""

from dataclasses import dataclass
from enum import StrEnum

from planner.ir.ids import EngineId


class How(StrEnum):
    """How nodes came by their outputs."""

    MADE = "made"  # by doing the work
    SHARED = "shared"  # from another node whose work was the same
    RECALLED = "recalled"  # from the result cache: an earlier job did the work


@dataclass(frozen=True, slots=True)
class Tally:
    """The finished nodes of one path of running programs (`planner.ir.paths`), over all rows, that were done alike.

    Calls, tools and tokens are what was made, or else what was saved; those of a node that was not made count what is
    inside it too. `waited_s` sums the times from when inputs were known to when the attempt that succeeded began,
    `took_s` those from then to its end; both are of calls and tools that were made. Instants are seconds since 1970.
    """

    path: str
    how: How
    nodes: int
    calls: int = 0
    tools: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    waited_s: float = 0.0
    took_s: float = 0.0
    first_begun_at: float | None = None
    last_ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class CallSpan:
    """One call that an engine answered: when it was there, in seconds since 1970."""

    path: str
    engine: EngineId
    begun_at: float
    ended_at: float
