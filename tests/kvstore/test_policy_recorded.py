"""The rules against each other on tool calls as coding agents made them."""

import heapq
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from halo_vllm.policy.retention import RULES, Learnt, Waiting
from halo_vllm.policy.tools import ToolKey
from halo_vllm.policy.worth import Worth

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "claude_code_tool_traces" / "programs.jsonl"
APART_S = 20.0


@dataclass(frozen=True, slots=True)
class Pause:
    program: str
    since_s: float
    gap_s: float
    tools: tuple[ToolKey, ...]


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded tool calls are not here")
@pytest.mark.parametrize("worth_s", [1.0, 3.0, 8.0, 20.0])
def test_ours_costs_less_than_all_that_know_as_little(worth_s: float) -> None:
    pauses = recorded()
    costs = {name: cost(name, pauses, worth_s) for name in RULES}
    assert len(pauses) > 500
    assert costs["halo"] < min(costs[name] for name in ("stock", "fixed", "paper", "blind"))
    assert costs["oracle"] < costs["halo"] < 1.4 * costs["oracle"]


def cost(rule: str, pauses: list[Pause], worth_s: float) -> float:
    """Seconds held, and `worth_s` for each pause not held to its end, when programs run side by side."""
    learnt, worth = Learnt(), Worth(worth_s, 0.0, worth_s, worth_s)
    events = [(pause.since_s, number) for number, pause in enumerate(pauses)]
    heapq.heapify(events)
    total, begun = 0.0, set()
    while events:
        now_s, number = heapq.heappop(events)
        pause = pauses[number]
        if number in begun:
            learnt.durations.returned(pause.program, now_s)
            continue
        begun.add(number)
        heapq.heappush(events, (pause.since_s + pause.gap_s, number))
        learnt.durations.began(pause.program, pause.tools, now_s)
        waiting = Waiting(pause.since_s, 10, pause.tools, gap_s=pause.gap_s)
        ttl_s = RULES[rule](waiting, learnt, worth, now_s).until_s - pause.since_s
        total += min(pause.gap_s, ttl_s) + (worth_s if pause.gap_s > ttl_s + 1e-6 else 0.0)
    return total


def recorded() -> list[Pause]:
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    programs = [row for row in rows if "haiku" in row["group"] or "sonnet" in row["group"]]
    return [
        Pause(row["program_id"], number * APART_S + turn["end_s"], _gap_s(turn), tuple(map(_key, turn["tools"])))
        for number, row in enumerate(programs)
        for turn in row["turns"]
        if turn["tools"] and not turn["sub"]
    ]


def _gap_s(turn: dict[str, object]) -> float:
    tools, end_s = turn["tools"], turn["end_s"]
    assert isinstance(tools, list)
    assert isinstance(end_s, float)
    return max(0.001, *(tool["start_s"] + tool["dur_s"] - end_s for tool in tools))


def _key(tool: dict[str, str]) -> ToolKey:
    return ToolKey(tool["name"].lower(), tool["cls"] if tool["name"] == "Bash" else "")
