"""What request traces of prefix blocks share: at best, by groups, in arrival order and in the planned order.

    python -m benchmarks.planner.prefix --mooncake ../shared/data/mooncake_fast25 [--out FILE.json]

Traces are Mooncake's (FAST'25): one JSON object a line, `hash_ids` with one id for each block of 512 tokens of the
prompt. All prompts are taken as known, as in a batch: an order that breaks up conversations is allowed. Shares are of
all prompt tokens, in whole blocks, for a cache that gives up what was used longest ago, one request after another.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.ir.values import Json
from planner.prefix.blocks import prompt_blocks
from planner.prefix.groups import Group, enlarged, first_level
from planner.prefix.replay import replay
from planner.prefix.tree import PrefixTree, dfs_order

BLOCK_TOKENS = 512
ARRIVAL_KV_TOKENS = (512_000, 1_536_000, 5_120_000, 25_600_000)
PLANNED_KV_TOKENS = (153_600, 512_000)


@dataclass(frozen=True, slots=True)
class TraceSaving:
    """Shares of all prompt tokens; `arrival` and `planned` by the room of the cache in tokens."""

    trace: str
    requests: int
    blocks: int
    optimum: float
    first_level: float
    enlarged: float
    arrival: dict[int, float]
    planned: dict[int, float]
    planning_s: float


def measure_trace(path: Path) -> TraceSaving:
    """Of one trace. `planning_s` is the tree, the groups and the order."""
    prompts = [json.loads(line)["hash_ids"] for line in path.read_text(encoding="utf-8").splitlines()]
    begun = time.perf_counter()
    tree = PrefixTree(prompt_blocks(prompts, BLOCK_TOKENS))
    groups, order = enlarged(tree), dfs_order(tree)
    planning_s = time.perf_counter() - begun
    total = tree.blocks.prompt_tokens
    return TraceSaving(
        path.stem,
        len(prompts),
        len(tree.blocks.ids),
        1 - tree.distinct_tokens / total,
        _saved(first_level(tree)) / total,
        _saved(groups) / total,
        {kv: replay(tree, range(len(prompts)), kv) / total for kv in ARRIVAL_KV_TOKENS},
        {kv: replay(tree, order, kv) / total for kv in PLANNED_KV_TOKENS},
        planning_s,
    )


def trace_lines(saving: TraceSaving) -> list[str]:
    arrival = " / ".join(f"{share:.1%} of {_millions(kv)}" for kv, share in saving.arrival.items())
    planned = " / ".join(f"{share:.1%} of {_millions(kv)}" for kv, share in saving.planned.items())
    return [
        f"{saving.trace}: {saving.requests:,} requests, {saving.blocks:,} blocks, planned in {saving.planning_s:.2f} s",
        f"  optimum, all levels     {saving.optimum:.1%}",
        f"  groups: naive, enlarged {saving.first_level:.1%}, {saving.enlarged:.1%}",
        f"  order of arrival        {arrival}",
        f"  planned order           {planned}",
    ]


def trace_report(savings: Sequence[TraceSaving]) -> dict[str, Json]:
    return {
        saving.trace: {
            "optimum": saving.optimum,
            "first_level": saving.first_level,
            "enlarged": saving.enlarged,
            "arrival": {str(kv): share for kv, share in saving.arrival.items()},
            "planned": {str(kv): share for kv, share in saving.planned.items()},
            "planning_s": saving.planning_s,
        }
        for saving in savings
    }


def _saved(groups: Sequence[Group]) -> float:
    return sum(group.saved_tokens for group in groups)


def _millions(tokens: int) -> str:
    return f"{tokens / 1e6:.3g} M"
