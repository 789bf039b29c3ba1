"""What earlier runs of a workflow took, stage by stage, and what that lets one expect of the next."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from planner.cost.quantiles import Quantiles, length_prior, tool_prior

_ITEM = re.compile(r"\[\d+\]")
_ROUND = re.compile(r"#\d+")


@dataclass(frozen=True, slots=True)
class Seen:
    """One call or one run of a tool that was done, not shared. `output` is JSON text; `seconds` from begun to ended."""

    path: str
    output: str
    seconds: float
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """What was seen, by the stage it was of: items of a Map count as one stage, and so do the rounds of a Loop where
    nothing was seen of the very round that is asked for."""

    by_stage: Mapping[str, Sequence[Seen]] = field(default_factory=dict)

    def of(self, path: str) -> Sequence[Seen]:
        """Newest runs first, as they were given."""
        found = self.by_stage.get(_ITEM.sub("[]", path))
        return found if found is not None else self.by_stage.get(stage_of(path), ())

    def output_tokens(self, path: str, max_tokens: float) -> Quantiles:
        """How long an answer of the stage will be; with nothing seen, the prior."""
        seen = [float(one.output_tokens) for one in self.of(path)]
        return Quantiles.learnt(length_prior(max_tokens), seen, max_tokens)

    def tool_seconds(self, path: str, timeout_s: float) -> Quantiles:
        """How long the tool of the stage will take; with nothing seen, the prior."""
        return Quantiles.learnt(tool_prior(timeout_s), [one.seconds for one in self.of(path)], timeout_s)


NO_HISTORY = History()


def history_of(seen: Iterable[Seen]) -> History:
    """Each is found by its own round, and by its stage."""
    by_stage: dict[str, list[Seen]] = {}
    for one in seen:
        for name in dict.fromkeys((_ITEM.sub("[]", one.path), stage_of(one.path))):
            by_stage.setdefault(name, []).append(one)
    return History(by_stage)


def stage_of(path: str) -> str:
    """The path without numbers of items and rounds: `revise#2/fix` is `revise#/fix`."""
    return _ROUND.sub("#", _ITEM.sub("[]", path))
