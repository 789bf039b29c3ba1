"""A plan made ready to be run many times: who waits for whom, as indices, and what lies behind each stage."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.ir.plan import Agent, Generate, Loop, Plan, Stage, Tool
from planner.ir.reads import bodies_of, stages_read

#: Rough seconds, to compare the stages of one plan with each other and for nothing finer.
OUTPUT_TOKEN_S = 0.02
TOOL_S = 0.5
AGENT_TURNS = 5
#: Of one `Templates`.
MOST_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Template:
    """`needs[i]` counts the stages that stage `i` waits for; `feeds[i]` are those that wait for it.

    `took_s[i]` is about what the stage takes, `behind_s[i]` what the longest path from its end to the plan's does.
    """

    stages: tuple[Stage, ...]
    needs: tuple[int, ...]
    feeds: tuple[tuple[int, ...], ...]
    took_s: tuple[float, ...]
    behind_s: tuple[float, ...]

    @property
    def longest_s(self) -> float:
        return max((took + behind for took, behind in zip(self.took_s, self.behind_s, strict=True)), default=0.0)


class Templates:
    """One `Template` for each plan object; bodies are met again for every row. Of very many, all are made anew."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Plan, Template]] = {}  # the plan is kept so that its id is not given away

    def of(self, plan: Plan) -> Template:
        known = self._made.get(id(plan))
        if known is None:
            if len(self._made) >= MOST_KEPT:
                self._made.clear()
            known = self._made[id(plan)] = (plan, make_template(plan))
        return known[1]


def make_template(plan: Plan) -> Template:
    index = {stage.id: i for i, stage in enumerate(plan.stages)}
    reads = [tuple(index[name] for name in stages_read(stage)) for stage in plan.stages]
    feeds: list[list[int]] = [[] for _ in plan.stages]
    for reader, sources in enumerate(reads):
        for source in sources:
            feeds[source].append(reader)
    took_s = tuple(seconds_of(stage) for stage in plan.stages)
    behind_s = longest_behind(took_s, feeds)
    return Template(plan.stages, tuple(map(len, reads)), tuple(map(tuple, feeds)), took_s, behind_s)


def longest_behind(took_s: Sequence[float], feeds: Sequence[Sequence[int]]) -> tuple[float, ...]:
    behind_s = [0.0] * len(took_s)
    for index in reversed(range(len(took_s))):  # those that read a stage stand after it
        behind_s[index] = max((took_s[reader] + behind_s[reader] for reader in feeds[index]), default=0.0)
    return tuple(behind_s)


def seconds_of(stage: Stage) -> float:
    match stage:
        case Generate():
            return OUTPUT_TOKEN_S * stage.sampling.max_tokens / 2
        case Agent():
            turn_s = OUTPUT_TOKEN_S * stage.sampling.max_tokens / 2 + TOOL_S
            return turn_s * min(stage.max_turns, AGENT_TURNS)
        case Tool():
            return TOOL_S
        case _:
            rounds = (1 + stage.max_rounds) / 2 if isinstance(stage, Loop) else 1.0
            return rounds * max((make_template(body.plan).longest_s for body in bodies_of(stage)), default=0.0)
