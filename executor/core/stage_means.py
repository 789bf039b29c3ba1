"""What the calls of each stage are like on average, as far as they were seen: the mix that a fleet works on."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from executor.engines.port import Usage
from planner.ir.plan import Agent, Generate

#: How many stages are remembered; the one that was asked longest ago is forgotten first.
KEPT = 1024
#: Of the next call on a mean, once there were many; the first calls weigh more.
SHARE_OF_ONE = 0.05
#: Counts are halved at so many calls of all stages: the mix is that of the last few thousand.
REMEMBERED_CALLS = 2048.0


@dataclass(frozen=True, slots=True)
class StageMean:
    """Tokens of one call: of its prompt, of its answer, and of the prompt those that engines had already."""

    prompt_tokens: float
    output_tokens: float
    cached_tokens: float = 0.0


@dataclass(slots=True)
class _Seen:
    model: str
    calls: float
    asked: int
    prompt_tokens: float
    answered: int = 0
    output_tokens: float = 0.0
    cached_share: float = 0.0


_Key = tuple[str, str, int]


class StageMeans:
    def __init__(self) -> None:
        self._seen: OrderedDict[_Key, _Seen] = OrderedDict()
        self._calls = 0.0

    def asks(self, stage: Generate | Agent, prompt_tokens: int) -> None:
        """A call of the stage is ready."""
        seen = self._seen.pop(_key(stage), None) or _Seen(stage.model, 0.0, 0, prompt_tokens)
        seen.asked += 1
        seen.calls += 1.0
        seen.prompt_tokens += _share(seen.asked) * (prompt_tokens - seen.prompt_tokens)
        self._seen[_key(stage)] = seen
        self._calls += 1.0
        self._forget()

    def learn(self, stage: Generate | Agent, usage: Usage) -> None:
        seen = self._seen.get(_key(stage))
        if seen is None or not usage.prompt_tokens:
            return
        seen.answered += 1
        share = _share(seen.answered)
        seen.output_tokens += share * (max(1, usage.output_tokens) - seen.output_tokens)  # an empty answer ends, too
        seen.cached_share += share * (usage.cached_tokens / usage.prompt_tokens - seen.cached_share)

    def mean(self, stage: Generate | Agent, prompt_tokens: int, output_tokens: float) -> StageMean:
        """Of a stage that was not asked or has not answered, what is given here."""
        seen = self._seen.get(_key(stage))
        if seen is None:
            return StageMean(prompt_tokens, output_tokens)
        answered = seen.output_tokens if seen.answered else output_tokens
        return StageMean(seen.prompt_tokens, answered, seen.cached_share * seen.prompt_tokens)

    def mix(self, model: str) -> Iterator[tuple[float, StageMean]]:
        """The stages of a model that have answered: how often each was asked of late, and its mean."""
        for seen in self._seen.values():
            if seen.model == model and seen.answered:
                mean = StageMean(seen.prompt_tokens, seen.output_tokens, seen.cached_share * seen.prompt_tokens)
                yield seen.calls, mean

    def _forget(self) -> None:
        if len(self._seen) > KEPT:
            self._calls -= self._seen.popitem(last=False)[1].calls
        if self._calls > REMEMBERED_CALLS:
            self._calls /= 2
            for seen in self._seen.values():
                seen.calls /= 2


def _share(count: int) -> float:
    return max(SHARE_OF_ONE, 1 / count)


def _key(stage: Generate | Agent) -> _Key:
    return (stage.model, stage.id, stage.sampling.max_tokens)
