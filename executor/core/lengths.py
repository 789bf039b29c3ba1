"""How long answers turn out to be, learnt from earlier jobs and as they come."""

from collections import OrderedDict
from collections.abc import Mapping

from planner.cost.quantiles import Quantiles
from planner.ir.plan import Agent, Generate, Plan
from planner.ir.sites import walk

#: How many stages are remembered; the one that answered longest ago is forgotten first.
KEPT = 4096

_Key = tuple[str, str, int]


class AnswerLengths:
    """For each stage a smoothed mean and deviation, as TCP keeps them of round trips (RFC 6298, section 2)."""

    def __init__(self) -> None:
        self._seen: OrderedDict[_Key, tuple[float, float]] = OrderedDict()

    def expected(self, stage: Generate | Agent) -> int:
        """Few answers are longer: two deviations above the mean. Before any was, all that is allowed."""
        most = stage.sampling.max_tokens
        seen = self._seen.get(_key(stage))
        return most if seen is None else min(most, round(seen[0] + 2 * seen[1]) + 1)

    def begin(self, plan: Plan, known: Mapping[str, Quantiles]) -> None:
        """What earlier jobs answered, by the paths of `plan`. Nine in ten answers are within what is then expected.

        Of a stage that has answered here before, more is known already.
        """
        for site in walk(plan) if known else ():
            length = known.get(site.path)
            if length is None or not isinstance(site.stage, Generate | Agent) or _key(site.stage) in self._seen:
                continue
            mean = length.mean
            self._keep(_key(site.stage), (mean, (length.p90 - mean) / 2))

    def learn(self, stage: Generate | Agent, output_tokens: int) -> None:
        seen = self._seen.pop(_key(stage), None)
        if seen is None:
            self._keep(_key(stage), (output_tokens, output_tokens / 2))
        else:
            mean, deviation = seen
            deviation += (abs(output_tokens - mean) - deviation) / 4
            self._keep(_key(stage), (mean + (output_tokens - mean) / 8, deviation))

    def _keep(self, key: _Key, seen: tuple[float, float]) -> None:
        self._seen[key] = seen
        if len(self._seen) > KEPT:
            self._seen.popitem(last=False)


def _key(stage: Generate | Agent) -> _Key:
    return (stage.model, stage.id, stage.sampling.max_tokens)
