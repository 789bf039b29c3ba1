"""Which programs may be active: those whose KV fits beside what the active ones own and will grow to.

Working-set admission: Denning 1968 for pages; ThunderAgent (arXiv 2602.13692) for agents, which counts shared prefixes
again for each program. Here the caller counts every block once (`ledger.Ledger`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import inf


@dataclass(frozen=True, slots=True)
class Candidate:
    """A program that waits to become active: a new one, or one whose KV was let go while its tool ran.

    `sequence`: its place in program order, given at its first call, strictly increasing, kept for good. `need_blocks`:
    its next call's blocks that no active program owns. `growth_blocks`: what it is expected to grow by in the turns
    looked ahead. `waited_s`: since when it waits here. `bypassed`: how often another went before it.
    """

    program: str
    sequence: int
    need_blocks: int
    growth_blocks: int = 0
    waited_s: float = 0.0
    bypassed: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """The engine's KV. `owned_blocks`: of active programs, running or held for, each block once; what is kept only
    until somebody wants the room is no part of it. `growth_blocks`: what active programs are expected to grow by.

    `idle_s`: for how long nothing has run and no active program had a call to run; None while there is work.
    `since_forced_s`: seconds since a program was last admitted for its age.
    """

    capacity_blocks: int
    owned_blocks: int
    growth_blocks: int = 0
    idle_s: float | None = None
    since_forced_s: float = inf


@dataclass(frozen=True, slots=True)
class Limits:
    """The written bound: a program that finds n others waiting here is admitted after at most
    `patience_s + (n + 1) * spacing_s` seconds, as long as it is asked about, whatever active programs do; and no more
    than `most_bypassed` programs that came after it are admitted before it, but for those that have waited longer.

    `fill`: the share of the KV that working sets may take. `idle_s`: how long an engine stands idle before it takes a
    program that does not fit.
    """

    patience_s: float = 300.0
    spacing_s: float = 10.0
    most_bypassed: int = 8
    fill: float = 1.0
    idle_s: float = 0.0


class Why(Enum):
    FITS = "fits"
    IDLE = "nothing else runs"
    AGED = "waited long enough"
    FULL = "does not fit beside the active programs"
    BEHIND = "one ahead was passed often enough"


ADMITTED = frozenset({Why.FITS, Why.IDLE, Why.AGED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """`bypassed`: the candidate's count after this round."""

    program: str
    why: Why
    bypassed: int

    @property
    def admitted(self) -> bool:
        return self.why in ADMITTED


def admissions(candidates: Sequence[Candidate], room: Room, limits: Limits) -> tuple[Verdict, ...]:
    """One verdict for each candidate, in program order. Calls of active programs are not asked about: they go first."""
    waiting = sorted(candidates, key=lambda candidate: candidate.sequence)
    forced = _forced(waiting, room, limits)
    verdicts: list[Verdict] = []
    for candidate in waiting:
        why = Why.AGED if candidate.program == forced else _why(candidate, verdicts, room, limits)
        if why in ADMITTED:
            room = _taken(candidate, room)
            verdicts = [_passed(verdict) for verdict in verdicts]
        verdicts.append(Verdict(candidate.program, why, candidate.bypassed))
    return tuple(verdicts)


def _why(candidate: Candidate, ahead: Sequence[Verdict], room: Room, limits: Limits) -> Why:
    if any(not verdict.admitted and verdict.bypassed >= limits.most_bypassed for verdict in ahead):
        return Why.BEHIND
    wanted = room.owned_blocks + room.growth_blocks + candidate.need_blocks + candidate.growth_blocks
    if wanted <= room.capacity_blocks * limits.fill:
        return Why.FITS
    if room.idle_s is not None and room.idle_s >= limits.idle_s:
        return Why.IDLE
    return Why.FULL


def _forced(waiting: Sequence[Candidate], room: Room, limits: Limits) -> str | None:
    """Who has waited longest, if that is too long and the last one forced is long enough ago."""
    oldest = max(waiting, key=lambda candidate: (candidate.waited_s, -candidate.sequence), default=None)
    if oldest is None or oldest.waited_s < limits.patience_s or room.since_forced_s < limits.spacing_s:
        return None
    return oldest.program


def _taken(candidate: Candidate, room: Room) -> Room:
    owned = room.owned_blocks + candidate.need_blocks
    return replace(room, owned_blocks=owned, growth_blocks=room.growth_blocks + candidate.growth_blocks, idle_s=None)


def _passed(verdict: Verdict) -> Verdict:
    return verdict if verdict.admitted else replace(verdict, bypassed=verdict.bypassed + 1)
