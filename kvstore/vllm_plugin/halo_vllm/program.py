"""A program, its calls, and what is to become of its blocks: the records that `halo_vllm.programs` decides on."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from halo_vllm.policy.hints import Hints
from halo_vllm.policy.identity import Ending
from halo_vllm.policy.retention import Retention, Waiting
from halo_vllm.policy.tools import ToolKey


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it arrives. `chain`: the chained hashes of its prompt's full blocks; `said`: what the client added."""

    id: str
    chain: Sequence[Hashable]
    tokens: Sequence[int]
    tenant: str = ""
    session: str | None = None
    said: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to do with the blocks of a program: keep those of the call that ended, or nothing at all."""

    program: str
    keep: bool


@dataclass(frozen=True, slots=True)
class Resumed:
    """A program runs again, and nothing need be kept for it now. `left`: what was kept and the call did not find again
    belongs to a branch that the program left; not so if other calls of it are still to start."""

    program: str
    left: bool


class Kept(Protocol):
    """What is kept in the block pool, as it is: a block that two programs share counts for one of them."""

    @property
    def kept_blocks(self) -> int: ...

    def kept_of(self, program: str) -> int: ...


@dataclass(slots=True, eq=False)
class Program:
    """`sequence`: its place in program order. `active`: let in, and neither ended nor let go since. `blocks`: of its
    context when its last call ended. `waiting`: since then, until its next call starts. `place`: the number of its
    place among those that may have to give way, another with every change of that place."""

    key: str
    sequence: int
    tenant: str
    named: bool
    calls: int = 0
    active: bool = False
    pending: dict[str, "Call"] = field(default_factory=dict)
    blocks: int = 0
    waiting: Waiting | None = None
    retention: Retention | None = None
    ranked_s: float = 0.0
    place: int = 0


@dataclass(slots=True, eq=False)
class Call:
    """`owner`: under what name its blocks are owned. `prompt`: what its prompt ends with. `after`: the call it goes on
    from, if its prompt told that. `ready_s`: when it might run. `aged`: it was let in for its age."""

    asked: Asked
    program: Program
    hints: Hints
    asked_s: float
    owner: str
    prompt: Ending
    after: str | None = None
    ready_s: float | None = None
    bypassed: int = 0
    aged: bool = False


def key_of(call_id: str) -> str:
    """The key of the program that a call without a name begins."""
    return f"call:{call_id}"


@cache
def after_calls(number: int) -> tuple[ToolKey, ...]:
    """What a program waits for that tells nothing, by the number of its calls."""
    return (ToolKey("", str(number)),)
