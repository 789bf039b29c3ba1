"""What is believed of a plan's stages before a run: what earlier runs of its workflow took, stage by stage."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from planner.cost.history import History, Seen
from planner.cost.quantiles import Quantiles
from planner.ir.evaluate import format_value
from planner.ir.plan import Agent, Generate, Plan, Tool
from planner.ir.sites import Site, walk
from planner.ir.tokens import CHARS_PER_TOKEN

#: Of how many outputs of a tool the length is taken: they have to be read for it.
_OUTPUTS_READ = 200


@dataclass(frozen=True, slots=True)
class Experience:
    """By the paths of a plan (`planner.ir.sites`); a path that is missing was never seen. Small, whatever was seen.

    `output_tokens` is how long an answer is, `tool_s` how long a run of the tool takes, `tool_output_chars` how much
    text it gives on average. `calls` and `tool_runs` count what all of it comes from. `chars_per_token` is that of the
    engines' own tokenizer where one was asked.
    """

    calls: int = 0
    tool_runs: int = 0
    output_tokens: Mapping[str, Quantiles] = field(default_factory=dict)
    tool_s: Mapping[str, Quantiles] = field(default_factory=dict)
    tool_output_chars: Mapping[str, float] = field(default_factory=dict)
    chars_per_token: float = CHARS_PER_TOKEN

    @property
    def seen(self) -> int:
        return self.calls + self.tool_runs

    def assumptions(self) -> Iterator[str]:
        if self.seen:
            yield (
                f"stages seen before take what they took in {self.calls:,} calls and {self.tool_runs:,} tool runs"
                " of earlier jobs"
            )


NO_EXPERIENCE = Experience()


def experience_of(plan: Plan, history: History, chars_per_token: float = CHARS_PER_TOKEN) -> Experience:
    """What `history` tells of the stages of `plan`."""
    calls, runs = 0, 0
    outputs: dict[str, Quantiles] = {}
    seconds: dict[str, Quantiles] = {}
    chars: dict[str, float] = {}
    for site in walk(plan):
        name, stage = seen_as(site), site.stage
        if not (seen := history.of(name)):
            continue
        if isinstance(stage, Generate | Agent):
            calls += len(seen)
            outputs[site.path] = history.output_tokens(name, stage.sampling.max_tokens)
        elif isinstance(stage, Tool):
            runs += len(seen)
            seconds[site.path] = history.tool_seconds(name, stage.tool.timeout_s)
            chars[site.path] = _mean_chars(seen)
    return Experience(calls, runs, outputs, seconds, chars, chars_per_token)


def seen_as(site: Site) -> str:
    """How the history names the stage: by no item and no round; an agent's calls are its turns."""
    name = site.path.replace("[*]", "[]").replace("#*", "#")
    return f"{name}#" if isinstance(site.stage, Agent) else name


def _mean_chars(seen: Sequence[Seen]) -> float:
    return fmean(len(format_value(json.loads(one.output))) for one in seen[:_OUTPUTS_READ])
