"""How long a program still takes along its longest path, by what its stages took so far: calls in engines, rounds of
loops, branches."""

from collections import OrderedDict
from dataclasses import dataclass, field

from executor.core.template import AGENT_TURNS, Template, Templates, longest_behind, seconds_of
from executor.core.work import Frame, Program, Work
from planner.ir.plan import Agent, Choose, Generate, Loop, Map, Plan, Stage
from planner.ir.reads import bodies_of

#: Of the next observation on a mean, once there were many; the first ones weigh more.
SHARE_OF_ONE = 0.05
#: As how many observations the belief before any counts.
PRIOR = 1.0
#: After so many observations, paths are worked out anew.
_FRESH_FOR = 32
_KEPT = 4096

_Key = tuple[str, str, int]


@dataclass(slots=True)
class _Seen:
    """`mean` over `count` observations; of a loop or a branch `stopped[i]` and `reached[i]` count where it went."""

    mean: float = 0.0
    count: int = 0
    reached: list[int] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)


class Remaining:
    """Stages of one name, model and bound are one, in whatever workflow they stand."""

    def __init__(self) -> None:
        self._seen: OrderedDict[_Key, _Seen] = OrderedDict()
        self._observed = 0
        self._templates = Templates()
        self._behind: dict[int, tuple[Template, int, tuple[float, ...]]] = {}

    def call_took(self, stage: Generate | Agent, seconds: float) -> None:
        """From when it was sent to its answer."""
        seen = self._of(stage)
        seen.count += 1
        seen.mean += max(SHARE_OF_ONE, 1 / seen.count) * (seconds - seen.mean)
        self._observed += 1

    def went(self, stage: Loop | Choose, done: int, choice: int) -> None:
        """A loop that had done so many rounds stopped (1) or went on (0); a branch was chosen."""
        seen, index = self._of(stage), done if isinstance(stage, Loop) else choice
        for counts in (seen.reached, seen.stopped):
            counts.extend([0] * (index + 1 - len(counts)))
        seen.reached[index] += 1
        seen.stopped[index] += choice if isinstance(stage, Loop) else 0
        self._observed += 1

    def left_s(self, work: Work) -> float:
        """From the beginning of this call to the end of its program."""
        stage = work.agent.stage if work.agent is not None else work.stage
        index = work.agent.index if work.agent is not None else work.index
        own_s = self.call_s(stage) * _turns_left(work) if isinstance(stage, Generate | Agent) else 0.0
        return own_s + self._after(work.frame, index)

    def whole_s(self, program: Program) -> float:
        """From the program's beginning to its end, as was believed when this was first asked."""
        if program.path_s is None:
            program.path_s = self._longest_s(program.plan)
        return program.path_s

    def call_s(self, stage: Generate | Agent) -> float:
        """What one call of the stage takes in an engine."""
        seen = self._seen.get(_key(stage))
        turns = AGENT_TURNS if isinstance(stage, Agent) else 1
        return seen.mean if seen is not None and seen.count else seconds_of(stage) / turns

    def _after(self, frame: Frame, index: int) -> float:
        left_s = self._behind_of(frame.template)[index]
        owner = frame.owner
        if owner is None:
            return left_s
        if isinstance(owner.stage, Loop):
            left_s += self._rounds_left(owner.stage, owner.parts + 1) * self._longest_s(owner.stage.body.plan)
        return left_s + self._after(owner.frame, owner.index)

    def _behind_of(self, template: Template) -> tuple[float, ...]:
        known = self._behind.get(id(template))
        if known is not None and known[1] > self._observed:
            return known[2]
        behind_s = longest_behind([self._stage_s(stage) for stage in template.stages], template.feeds)
        if len(self._behind) >= _KEPT:
            self._behind.clear()
        self._behind[id(template)] = (template, self._observed + _FRESH_FOR, behind_s)
        return behind_s

    def _stage_s(self, stage: Stage) -> float:
        match stage:
            case Generate():
                return self.call_s(stage)
            case Agent():
                return self.call_s(stage) * min(stage.max_turns, AGENT_TURNS)
            case Loop():
                return self._rounds_left(stage, 0) * self._longest_s(stage.body.plan)
            case Choose() | Map():
                return self._branches_s(stage)
            case _:
                return seconds_of(stage)

    def _branches_s(self, stage: Choose | Map) -> float:
        """Branches by how often they were taken; of a map, the longest item."""
        seconds = [self._longest_s(body.plan) for body in bodies_of(stage)]
        seen = self._seen.get(_key(stage))
        if not isinstance(stage, Choose) or seen is None:
            return max(seconds, default=0.0)
        taken = [*seen.reached, *[0] * len(seconds)][: len(seconds)]
        return sum(count * one for count, one in zip(taken, seconds, strict=True)) / max(1, sum(taken))

    def _rounds_left(self, stage: Loop, done: int) -> float:
        """How many rounds more are expected after `done`: each time it may stop, as often as it did there."""
        seen = self._seen.get(_key(stage)) or _Seen()
        goes_on, rounds = 1.0, 0.0
        for index in range(done, stage.max_rounds):
            reached = seen.reached[index] if index < len(seen.reached) else 0
            stopped = seen.stopped[index] if index < len(seen.stopped) else 0
            goes_on *= 1 - (stopped + PRIOR / 2) / (reached + PRIOR)
            rounds += goes_on
        return rounds

    def _longest_s(self, plan: Plan) -> float:
        took_s = [self._stage_s(stage) for stage in plan.stages]
        behind_s = longest_behind(took_s, self._templates.of(plan).feeds)
        return max((took + behind for took, behind in zip(took_s, behind_s, strict=True)), default=0.0)

    def _of(self, stage: Stage) -> _Seen:
        seen = self._seen.pop(_key(stage), None) or _Seen()
        self._seen[_key(stage)] = seen
        if len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return seen


def _turns_left(work: Work) -> int:
    """Of an agent's turns, this one among them; 1 for any other call."""
    if work.agent is None:
        return 1
    assert isinstance(work.agent.stage, Agent)
    return max(1, min(work.agent.stage.max_turns, AGENT_TURNS) - work.turn)


def _key(stage: Stage) -> _Key:
    match stage:
        case Generate() | Agent():
            return stage.id, stage.model, stage.sampling.max_tokens
        case Loop():
            return stage.id, stage.kind, stage.max_rounds
        case _:
            return stage.id, stage.kind, len(bodies_of(stage))
