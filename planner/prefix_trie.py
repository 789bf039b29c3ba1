"""The trie of all prompts of a job: what the best possible prefix cache would not have to compute again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.numbering import Lengths, Numbers
from planner.prompts import Prompt, Segment
from planner.segments import Segments


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Of the calls of one stage: all their prompt tokens, and those in prefixes that an earlier call had too."""

    tokens: float
    shared_tokens: float


@dataclass(slots=True)
class PrefixTrie:
    """Prompts are added stage by stage; `measure` walks all of them, level by level.

    Two segments are one where their contents have one key, so a literal is shared whole or not at all: a lower bound
    for what tokens share, and exact where templates part at segment borders. Models share nothing.
    """

    _segment_ids: dict[str, int] = field(default_factory=dict)
    _added: list["_Calls"] = field(default_factory=list)

    def add(self, prompt: Prompt, segments: Segments, rows: Numbers) -> None:
        """One call of the prompt for each of `rows`, in the order in which `measure` will answer."""
        levels: list[_Level] = []
        for segment in prompt.segments:
            if segment is None or not segments.known(segment):
                break
            levels.append(self._level(segment, segments, rows))
        tail_tokens = sum(_unknown_tokens(segment, segments) for segment in prompt.segments[len(levels) :])
        self._added.append(_Calls(prompt.stage.model, len(rows), levels, tail_tokens, segments.chars_per_token))

    def measure(self) -> list[PromptTokens]:
        """For each prompt added. The first call with a prefix computes it; all later ones share it."""
        shared_chars = [0.0] * len(self._added)
        models = dict.fromkeys(calls.model for calls in self._added)
        for model in models:
            places = [place for place, calls in enumerate(self._added) if calls.model == model]
            for place, chars in zip(places, _shared_chars([self._added[p] for p in places]), strict=True):
                shared_chars[place] = chars
        return [
            PromptTokens(calls.tokens(), chars / calls.chars_per_token)
            for calls, chars in zip(self._added, shared_chars, strict=True)
        ]

    def _level(self, segment: Segment, segments: Segments, rows: Numbers) -> "_Level":
        assert segment is not None
        numbers = segments.number(segment).of_row[rows]
        ids = self._segment_ids
        known = [ids.setdefault(key, len(ids)) for key in segments.keys(segment)]
        return _Level(np.asarray(known, np.int64)[numbers], segments.chars(segment)[numbers])


@dataclass(frozen=True, slots=True)
class _Level:
    """One segment of each call: what it is, and how long."""

    ids: Numbers
    chars: Lengths


@dataclass(frozen=True, slots=True)
class _Calls:
    model: str
    count: int
    levels: Sequence[_Level]
    tail_tokens: float
    chars_per_token: float

    def tokens(self) -> float:
        known_chars = sum(float(level.chars.sum()) for level in self.levels)
        return known_chars / self.chars_per_token + self.tail_tokens * self.count


def _shared_chars(added: Sequence[_Calls]) -> list[float]:
    """For each group of calls: the characters of nodes of the trie at which another call came first."""
    nodes = [np.zeros(calls.count, np.int64) for calls in added]
    shared = [0.0] * len(added)
    for depth in range(max((len(calls.levels) for calls in added), default=0)):
        deeper = [place for place, calls in enumerate(added) if depth < len(calls.levels)]
        levels = [added[place].levels[depth] for place in deeper]
        reached, first = _descend([nodes[place] for place in deeper], [level.ids for level in levels])
        for place, level, node, is_first in zip(deeper, levels, reached, first, strict=True):
            shared[place] += float(level.chars[~is_first].sum())
            nodes[place] = node
    return shared


def _descend(
    nodes: Sequence[Numbers], ids: Sequence[Numbers]
) -> tuple[list[Numbers], list[np.typing.NDArray[np.bool]]]:
    """The nodes one level down, and whether each call is the first to reach its node; both split as they came."""
    here, below = np.concatenate(nodes), np.concatenate(ids)
    _, firsts, reached = np.unique(here * (below.max(initial=0) + 1) + below, return_index=True, return_inverse=True)
    is_first = np.zeros(len(here), bool)
    is_first[firsts] = True
    borders = np.cumsum([len(part) for part in nodes])[:-1]
    return np.split(reached, borders), np.split(is_first, borders)


def _unknown_tokens(segment: Segment, segments: Segments) -> float:
    assert segment is not None
    return segments.tokens(segment)
