"""What the core says of the work that it took, for those at the door."""

from collections import Counter
from itertools import islice

from executor.core.life import Life
from executor.core.state import State
from executor.core.work import Program
from executor.policy.entrance import Outlook
from executor.policy.fairness import Account

#: Among so many parts of a program, one is looked for that engines or tools work on.
MOST_BESIDE = 64


def outlook(state: State) -> Outlook:
    backlog_s: Counter[Account] = Counter()
    begun_s: Counter[Account] = Counter()
    queued: Counter[str] = Counter()
    for job in state.jobs.values():
        backlog_s[job.account] += job.left * state.costs.of(job.plan.name).engine_s  # type: ignore[assignment]
        queued[job.tenant] += job.left
    for program in state.programs.values():
        cost_s = state.costs.of(program.plan.name).engine_s
        done_s = min(program.engine_s, cost_s)
        backlog_s[program.account] -= done_s  # type: ignore[assignment]
        if _has_begun(program):
            begun_s[program.account] += cost_s - done_s  # type: ignore[assignment]
    limits = state.limits
    return Outlook(backlog_s, queued, rate(state), limits.tenants, limits.any_tenant, begun_s, state.pace.seen)


def _has_begun(program: Program) -> bool:
    """Whether engines or tools work on it, or have."""
    beside = islice(program.live.values(), MOST_BESIDE)
    return program.turns > 0 or any(work.life is Life.RUNNING for work in beside)


def rate(state: State) -> float:
    """Seconds of engines' time that the fleet gives in one: as seen, else as is believed of those that take calls."""
    return state.pace.rate(sum(state.fleet.gives(view) for view in state.fleet.views.values() if view.takes_calls))


def work_waits(state: State) -> bool:
    """Whether engines have as much as they take."""
    waiting = any(calls.accounts() for calls in state.calls.values())
    return waiting or any(lines.accounts() for lines in state.lines.values())
