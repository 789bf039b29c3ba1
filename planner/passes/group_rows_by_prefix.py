"""Rows whose prompts begin alike stand together, so that a prefix is used while it is warm."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.draft import Draft, DraftPart, parts_of_plans
from planner.job import PassReport
from planner.numbering import Numbers
from planner.prompts import Prompt, prompts_of
from planner.segments import Segments


def group_rows_by_prefix(draft: Draft) -> tuple[Draft, PassReport]:
    """Orders the rows of each part as a walk through the trie of the prompts of one stage, depth first.

    That stage decides whose prompts give the most tokens to share by standing together. Groups stand in the order in
    which their first rows came, on each level of the trie; rows with equal prefixes keep their order. Rows keep their
    order altogether where no order shares more than any other.

    Source: BatchLLM (arXiv 2412.03594, sections 4-5), with the whole trie in place of its single level: engines cache
    all levels. Sorting by prefix alone gave 58 % of its gain.

        db    question          |  order 0 2 1 3
        shop  cheapest item?    |
        zoo   oldest animal?    |  for prompts <"Schema of " + db + "\\n" + question>
        shop  newest item?      |
        zoo   heaviest animal?  |
    """
    parts = list(draft)
    groups = 0
    for plan, shared_by in parts_of_plans(draft):
        prompts = prompts_of(plan)
        for index in shared_by:
            levels = _deciding_levels(prompts, parts[index])
            parts[index] = replace(parts[index], order=_walk(levels, parts[index].table.rows))
            groups += _count(levels)
    return tuple(parts), PassReport("group_rows_by_prefix", {"prefix_groups": groups})


@dataclass(frozen=True, slots=True)
class _Trie:
    """Levels that tell rows apart; `gain_chars` is what an order of the rows can share and another cannot."""

    levels: tuple[Numbers, ...]
    gain_chars: float


def _deciding_levels(prompts: Sequence[Prompt], part: DraftPart) -> tuple[Numbers, ...]:
    """Those of the trie with the most to gain; the earlier stage wins a tie."""
    segments = Segments(part.plan, part.table, part.groups)
    tries = [_trie(prompt, segments) for prompt in prompts]
    best = max(tries, key=lambda trie: trie.gain_chars, default=None)
    return best.levels if best is not None and best.gain_chars > 0 else ()


def _trie(prompt: Prompt, segments: Segments) -> _Trie:
    levels: list[Numbers] = []
    gain_chars, groups = 0.0, 1
    for node, chars in segments.descend(prompt.segments):
        if node.count > groups:
            levels.append(node.of_row)
            groups = node.count
        if groups == len(node.of_row):
            break
        if groups > 1:
            gain_chars += chars[node.of_row].sum() - chars.sum()
    return _Trie(tuple(levels), float(gain_chars))


def _walk(levels: Sequence[Numbers], rows: int) -> Sequence[int]:
    if not levels:
        return range(rows)
    return array("q", np.lexsort(tuple(reversed(levels))).astype(np.int64).tobytes())


def _count(levels: Sequence[Numbers]) -> int:
    return int(levels[0].max()) + 1 if levels else 0
