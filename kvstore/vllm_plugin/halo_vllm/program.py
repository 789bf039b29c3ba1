"""A program, its branches and calls, and what is to become of its blocks: what `halo_vllm.programs` decides on."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from halo_vllm.policy.branches import Beginning, Tip
from halo_vllm.policy.hints import Hints
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
    """What to do with the blocks of the branch whose call ended: keep those of that call, or nothing at all. `gone`:
    other branches that nothing is to be kept for any more."""

    branch: str
    keep: bool
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resumed:
    """Nothing need be kept for the branch now, since a call of its program runs. `left`: what was kept, and the call
    did not find again, the program has left; not so if other calls of it are in flight that may want it."""

    branch: str
    left: bool


class Kept(Protocol):
    """What is kept in the block pool, as it is: a block that two branches share counts for one of them."""

    @property
    def kept_blocks(self) -> int: ...

    def kept_of(self, branch: str) -> int: ...


@dataclass(slots=True, eq=False)
class Program:
    """`sequence`: its place in program order. `active`: let in, and neither ended nor let go since. `branched`: how
    many branches it has had; most programs have one."""

    key: str
    sequence: int
    tenant: str
    named: bool
    calls: int = 0
    active: bool = False
    pending: dict[str, "Call"] = field(default_factory=dict)
    branches: dict[str, "Branch"] = field(default_factory=dict)
    branched: int = 0


@dataclass(slots=True, eq=False)
class Branch:
    """What one call after the other goes on from. `key`: under what name its blocks are owned and kept. `call`: in
    flight. `blocks`: of its context when its last call ended. `waiting`: since then, until its next call starts.
    `place`: the number of its place among those that may have to give way, another with every change of that place.
    `fork`: as in `policy.branches.Tip`, of which there is none before its first call ended."""

    key: str
    program: Program
    call: "Call | None" = None
    calls: int = 0
    blocks: int = 0
    tip: Tip | None = None
    fork: Beginning | None = None
    waiting: Waiting | None = None
    retention: Retention | None = None
    ranked_s: float = 0.0
    place: int = 0


@dataclass(slots=True, eq=False)
class Call:
    """`after`: the call it goes on from, if its prompt told that. `ready_s`: when it might run. `ran`: it has run
    before. `aged`: it was let in for its age."""

    asked: Asked
    branch: Branch
    hints: Hints
    asked_s: float
    prompt: Beginning
    after: str | None = None
    ready_s: float | None = None
    ran: bool = False
    bypassed: int = 0
    aged: bool = False

    @property
    def program(self) -> Program:
        return self.branch.program


def key_of(call_id: str) -> str:
    """The key of the program that a call without a name begins."""
    return f"call:{call_id}"


@cache
def after_calls(number: int) -> tuple[ToolKey, ...]:
    """What a program waits for that tells nothing, by the number of its calls."""
    return (ToolKey("", str(number)),)
