"""The rules that are measured, by name: how each is put to the core, and what of HexGen's is swept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.scheduling.reuse import Reuse
from executor.policy.rules import RULES, Rule, hexgen, hexgen_as_written

ROUND_ROBIN, HALO, ORACLE = "round robin", "halo", "oracle"
#: Round robin in front of engines that share no prefixes, beside rules whose engines do.
WITHOUT_REUSE = "round robin, no reuse"
ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
FEW_ALPHAS = (0.0, 0.4, 0.5)
#: Stand for the best of the sweep, by its P95 over all seeds of a cell.
BEST_CODED, BEST_WRITTEN = "hexgen, best alpha", "hexgen as written, best alpha"
_CODED, _WRITTEN = "hexgen alpha=", "hexgen as written alpha="
_SWEPT: Mapping[str, Callable[[float], Rule]] = {"hexgen": hexgen, "hexgen as written": hexgen_as_written}


@dataclass(frozen=True, slots=True)
class Arm:
    """A rule `of` that name, with its `alpha` where it has one. `shares`: engines share prefixes as the cell says."""

    of: str
    alpha: float | None = None
    shares: bool = True

    @property
    def name(self) -> str:
        return self.rule.name if self.shares else WITHOUT_REUSE

    @property
    def rule(self) -> Rule:
        return RULES[self.of] if self.alpha is None else _SWEPT[self.of](self.alpha)


def arms_for(rules: Sequence[str], alphas: Sequence[float], reuse: Reuse) -> list[Arm]:
    """Those rules, HexGen's once for each alpha, and round robin without reuse where the others have any."""
    arms = [Arm(name) for name in rules if name not in _SWEPT]
    arms.extend(Arm(name, alpha) for name in _SWEPT if name in rules for alpha in alphas)
    if reuse is not Reuse.NONE and ROUND_ROBIN in rules:
        arms.append(Arm(ROUND_ROBIN, shares=False))
    return arms


def is_swept(name: str, best: str) -> bool:
    """Whether the arm is one of those whose best is called `best`."""
    return name.startswith(_CODED if best == BEST_CODED else _WRITTEN)
