"""How long answers turn out to be, learnt as they come."""

from collections import OrderedDict

from planner.ir.plan import Agent, Generate

#: How many stages are remembered; the one that answered longest ago is forgotten first.
KEPT = 4096

_Key = tuple[str, str, int]


class AnswerLengths:
    """For each stage a smoothed mean and deviation, as TCP keeps them of round trips (RFC 6298, section 2)."""

    def __init__(self) -> None:
        self._seen: OrderedDict[_Key, tuple[float, float]] = OrderedDict()

    def expected(self, stage: Generate | Agent) -> int:
        """Few answers are longer: two deviations above the mean. Before any was seen, all that is allowed."""
        most = stage.sampling.max_tokens
        seen = self._seen.get(_key(stage))
        return most if seen is None else min(most, round(seen[0] + 2 * seen[1]) + 1)

    def learn(self, stage: Generate | Agent, output_tokens: int) -> None:
        seen = self._seen.pop(_key(stage), None)
        if seen is None:
            self._seen[_key(stage)] = (output_tokens, output_tokens / 2)
        else:
            mean, deviation = seen
            deviation += (abs(output_tokens - mean) - deviation) / 4
            self._seen[_key(stage)] = (mean + (output_tokens - mean) / 8, deviation)
        if len(self._seen) > KEPT:
            self._seen.popitem(last=False)


def _key(stage: Generate | Agent) -> _Key:
    return (stage.model, stage.id, stage.sampling.max_tokens)
