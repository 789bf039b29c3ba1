"""Everything the core holds between two events."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from executor.commands import Command
from executor.core.entering import Entering
from executor.core.fleet import Fleet
from executor.core.knobs import Tuned, with_setting
from executor.core.lengths import AnswerLengths
from executor.core.limits import Limits
from executor.core.lines import Given, Lines
from executor.core.market import Market
from executor.core.pace import Pace
from executor.core.program_costs import ProgramCosts
from executor.core.queues import DelayedWork, ToolSlots
from executor.core.quieting import Quiet
from executor.core.ready_calls import ReadyCalls
from executor.core.remaining import Remaining
from executor.core.sharing import SharedWork
from executor.core.stage_means import StageMeans
from executor.core.stage_shares import StageShares
from executor.core.template import Templates
from executor.core.work import Frame, Program, Work
from executor.core.working_sets import WorkingSets
from executor.engines.port import EngineSpec, Failure
from executor.events import Recovered
from executor.policy.fairness import Account, fair_shares
from executor.policy.rules import HALO, Rule
from executor.slo import SloClass
from planner.ir.ids import ContentKey, EngineId, JobId, ProgramId, StageId
from planner.ir.plan import Agent, Generate, Plan
from planner.job import Grouping


@dataclass(slots=True, eq=False)
class Job:
    """`pending` are the rows not yet begun, in planned order; `left` counts the rows not yet ended."""

    id: JobId
    number: int
    plan: Plan
    priority: int
    left: int
    ended: frozenset[int]
    recovered: Mapping[int, Recovered]
    tenant: str = ""
    slo: SloClass = SloClass.STANDARD
    arrived_s: float = 0.0
    deadline_s: float | None = None
    pending: deque[int] = field(default_factory=deque)
    begun: int = 0
    failed: int = 0
    groups: Mapping[StageId, Grouping] = field(default_factory=dict)
    several: Mapping[ContentKey, int] = field(default_factory=dict)
    templates: Templates = field(default_factory=Templates)
    shares: Mapping[StageId, StageShares] = field(default_factory=dict)

    @property
    def account(self) -> Account:
        return Account(self.tenant, self.slo)

    def group(self, groups: Mapping[StageId, Grouping]) -> None:
        """Take over what planning found equal; `several` has the uses of work that more than one stage asks for."""
        self.groups = groups
        seen: set[ContentKey] = set()
        twice: set[ContentKey] = set()
        for grouping in groups.values():
            twice.update(seen.intersection(grouping.keys))
            seen.update(grouping.keys)
        uses = dict.fromkeys(twice, 0)
        for grouping in groups.values() if twice else ():
            for key, size in zip(grouping.keys, grouping.sizes, strict=True):
                if key in uses:
                    uses[key] += size
        self.several = uses

    def shares_of(self, work: Work) -> StageShares | None:
        """How engines share the stage that the call or turn is of, where that was planned."""
        stage = work.top_stage if self.shares else None
        return None if stage is None else self.shares.get(stage)

    def shared_key(self, stage: StageId, row: int) -> tuple[ContentKey, int] | None:
        """The content key of a stage's work on that row, and how many rows and stages share it, if there are any."""
        grouping = self.groups.get(stage)
        if grouping is None:
            return None
        group = grouping.group_of_row[row]
        key = grouping.keys[group]
        uses = self.several.get(key, grouping.sizes[group])
        return (key, uses) if uses > 1 else None


class State:
    """The core's memory. `out` collects the commands of the event in hand, `agenda` what follows within it."""

    def __init__(self, engines: Sequence[EngineSpec], limits: Limits, rule: Rule = HALO) -> None:
        self.limits, self.rule = limits, rule
        self.now = 0.0
        self.out: list[Command] = []
        self.agenda: deque[tuple[Frame, Program, int]] = deque()
        self.broken: deque[tuple[Work, Failure]] = deque()
        self.jobs: dict[JobId, Job] = {}
        self.jobs_seen = 0
        self.programs_begun = 0
        self.entering: Entering[Job] = Entering(fair_shares(limits.tenants, limits.any_tenant, len(engines)))
        self.turns = fair_shares(limits.tenants, limits.any_tenant, len(engines))
        self.running_of: Counter[str] = Counter()  # programs, by tenant
        self.costs = ProgramCosts()
        self.pace = Pace()
        self.ended_jobs: list[Job] = []
        self.programs: dict[ProgramId, Program] = {}
        self.shared = SharedWork(limits.shared_outputs)
        self.fleet: Fleet[Work] = Fleet(engines, limits.breaker_failures)
        self.sets: WorkingSets[Work] = WorkingSets(self.fleet, limits.admission)
        self.asks_again_at: float | None = None  # whoever is held for want of KV
        self.quiet = {pool: quiet for pools in self.fleet.sharing for quiet in [Quiet(self.turns)] for pool in pools}
        self.opens_at = 0.0  # a quiet engine that was asked for
        self.lengths = AnswerLengths()
        self.remaining = Remaining()
        self.sent_back: list[Work] = []  # calls that left an engine within the event in hand
        self.stages = StageMeans()
        self.calls: dict[str, ReadyCalls] = {}  # by pool, as all that follows
        self.lines: dict[str, Lines] = {}  # of those whose engine the rule chooses
        self.markets: dict[str, Market] = {}
        self.given: dict[EngineId, Given] = {}
        self.fed_at: dict[str, float] = {}  # when a call without a deadline was last sent, or began to wait
        self.preparing: deque[Work] = deque()  # and those that were, behind one that is
        self.held_since: float | None = None
        self.tools = ToolSlots()
        self.delayed = DelayedWork()
        self.stranded: dict[str, float] = {}

    def calls_of(self, pool: str) -> ReadyCalls:
        if pool not in self.calls:
            self.calls[pool] = ReadyCalls(pool, self.fleet, self.limits.most_passes, self.may_enter)
        return self.calls[pool]

    def lines_of(self, pool: str) -> Lines:
        if pool not in self.lines:
            self.lines[pool] = Lines()
        return self.lines[pool]

    def market_of(self, pool: str) -> Market:
        if pool not in self.markets:
            self.markets[pool] = Market(pool, self.fleet, self.stages)
        return self.markets[pool]

    def expect(self, work: Work) -> float:
        """How many tokens the call's answer has on average; few have more than it is expected to have from now on."""
        assert isinstance(work.stage, Generate | Agent)
        if self.rule.knows_lengths:
            return work.output_tokens
        work.output_tokens = min(work.output_tokens, self.lengths.expected(work.stage))
        return self.stages.mean(work.stage, work.prompt_tokens, work.output_tokens).output_tokens

    def may_enter(self, work: Work, engine: EngineId) -> bool:
        """Whether there is room for the conversation that the call is of, if it is of any."""
        return work.conversation is None or self.sets.may_enter(work.conversation, work, engine)

    def is_open(self, work: Work, engine: EngineId) -> bool:
        """Whether the call may go to the engine, or that is quiet for other tenants now."""
        return self.quiet[work.pool].is_open(work.program.account, work.pool, self.fleet.views[engine], self.now)

    def retune(self, setting: Mapping[str, float]) -> None:
        """Work by this setting from now on."""
        tuned = with_setting(Tuned(self.limits, self.rule), setting)
        self.limits, self.rule = tuned.limits, tuned.rule
        self.sets.bound_by(tuned.limits.admission)

    def tell(self, command: Command) -> None:
        self.out.append(command)
