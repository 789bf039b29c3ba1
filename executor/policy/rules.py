"""How ready calls get engines, as one table: Halo's rule, and the published ones that it is measured against.

A rule binds a call to an engine as soon as it is ready, or lets it wait for any (late binding): then an engine that has
room takes the first call in the rule's order that the rule lets it have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from executor.policy import baselines
from executor.policy.asking import Asking, Seat, Seats
from executor.policy.dearness import Margin
from executor.policy.urgency import latest_start_s
from planner.ir.ids import EngineId

#: The engine that the call will go to; never asked with none.
Bind = Callable[[Asking, Seats], EngineId]
#: Among calls that wait for one engine, or for any (no seat): the least goes first.
Order = Callable[[Asking, Seat | None], float]


@dataclass(frozen=True, slots=True)
class Rule:
    """How ready calls get engines.

    With `bind` a call has its engine at once. Without it calls wait for any engine; with a `margin` an engine takes
    what is nearly cheapest there first.

    `groups_prefixes`: calls of jobs without a deadline go by their prompts' warm beginnings and planned shares
    (`executor.core.ready_calls`), behind those that have one. `sends_back`: calls of batches give way to interactive
    ones, and calls that have not begun leave a slow engine. `knows_lengths`: what the driver tells of answers' lengths
    is true, and nothing has to be learnt. The calls inside an engine take at most `inside_share` of its KV.
    """

    name: str
    order: Order
    bind: Bind | None = None
    margin: Margin | None = None
    groups_prefixes: bool = False
    sends_back: bool = False
    knows_lengths: bool = False
    inside_share: float = 1.0


HALO = Rule("halo", latest_start_s, margin=Margin(), groups_prefixes=True, sends_back=True)


def hexgen(alpha: float = 0.0, slow: tuple[str, ...] = baselines.HEXGEN_SLOW, half: float = 0.5) -> Rule:
    """HexGen-Text2SQL's rule as its published simulator has it: cumulative work, weighed by `half` on GPUs of kinds
    named in `slow`; stage budgets that are the whole slack that is left."""
    bind = baselines.balance_cumulative_work(alpha, slow, half)
    return Rule(f"hexgen alpha={alpha:g}", baselines.by_remaining_slack, bind)


def hexgen_as_written(alpha: float = 0.0) -> Rule:
    """HexGen-Text2SQL's rule as its paper has it (arXiv 2505.05286, section 4): what waits now, and stage budgets."""
    return Rule(f"hexgen as written alpha={alpha:g}", baselines.by_stage_budget, baselines.balance_queues(alpha))


RULES: Mapping[str, Rule] = {
    "halo": HALO,
    "round robin": Rule("round robin", baselines.first_come, baselines.round_robin, inside_share=1.8),
    "least loaded": Rule("least loaded", baselines.first_come, baselines.least_calls, inside_share=1.8),
    "session affinity": Rule("session affinity", baselines.first_come, baselines.stay_at_home, inside_share=1.8),
    "hexgen": hexgen(),
    "hexgen as written": hexgen_as_written(),
    "balance": Rule("balance", latest_start_s, baselines.least_work),
    "late binding": Rule("late binding", latest_start_s),
    "oracle": replace(HALO, name="oracle", groups_prefixes=False, knows_lengths=True),
}


#: Rules that can be worked by where answers come from engines: their lengths are not known before.
LIVE_RULES = tuple(name for name, rule in RULES.items() if not rule.knows_lengths)


def rule_of(rule: str | Rule) -> Rule:
    """A rule by its name in `RULES`; one of one's own stays what it is."""
    return rule if isinstance(rule, Rule) else RULES[rule]
