"""Who gives KV back when more is held than may be, in which order, and who may take what is held."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from halo_vllm.policy.worth import Worth


@dataclass(frozen=True, slots=True)
class Holding:
    """What is held for one waiting program. `blocks`: those nobody else uses. `rank`: of `retention.Retention`.
    `sequence`: of program order, greater is younger. `turn_waiting`: its next call is here already."""

    program: str
    blocks: int
    rank: float
    sequence: int
    tenant: str = ""
    turn_waiting: bool = False


@dataclass(frozen=True, slots=True)
class Give:
    """This many blocks from the end of what is held for `program`, the last first: a block is worth nothing without
    those before it."""

    program: str
    blocks: int


@dataclass(frozen=True, slots=True)
class Caps:
    """The most held for waiting programs, as shares of the KV: for all, and for one tenant beside others."""

    share: float = 0.9
    tenant_share: float = 0.5


Order = Callable[[Holding], tuple[float, ...]]


def least_rank_first(holding: Holding) -> tuple[float, ...]:
    """Least seconds saved per second and block; of equals the youngest program, which has least to lose."""
    return (holding.turn_waiting, holding.rank, -holding.sequence)


def youngest_first(holding: Holding) -> tuple[float, ...]:
    """Continuum (arXiv 2511.02230, Algorithm 1): the program that arrived last."""
    return (-holding.sequence,)


def may_take(waited_s: float, taken: Worth) -> bool:
    """Whether a call that has waited so long to start takes what is held for programs that wait, of this worth.

    Room may come at any moment, so it waits for as long as it takes to prefill again what it would take: at worst that
    costs twice what knowing all would (ski rental; Karlin et al. 1988).
    """
    return waited_s >= taken.prefill_s


def over_caps(
    holdings: Sequence[Holding], capacity_blocks: int, caps: Caps, order: Order = least_rank_first
) -> tuple[Give, ...]:
    """Who gives, so that neither a tenant nor all together hold more than their cap, and no more than that."""
    by_tenant: defaultdict[str, list[Holding]] = defaultdict(list)
    for holding in holdings:
        by_tenant[holding.tenant].append(holding)
    given: dict[str, int] = {}
    for tenant in sorted(by_tenant) if len(by_tenant) > 1 else ():
        given |= _given(by_tenant[tenant], int(capacity_blocks * caps.tenant_share), order, {})
    given |= _given(holdings, int(capacity_blocks * caps.share), order, given)
    return tuple(Give(program, blocks) for program, blocks in given.items())


def _given(holdings: Sequence[Holding], most: int, order: Order, given: dict[str, int]) -> dict[str, int]:
    """What each gives in all, of those who give here."""
    left = [(holding, holding.blocks - given.get(holding.program, 0)) for holding in sorted(holdings, key=order)]
    over = sum(blocks for _, blocks in left) - most
    gives: dict[str, int] = {}
    for holding, blocks in left:
        if (taken := min(blocks, over)) > 0:
            gives[holding.program] = given.get(holding.program, 0) + taken
            over -= taken
    return gives
