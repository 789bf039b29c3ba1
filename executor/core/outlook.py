"""What the core says of the work that it took, for those at the door."""

from collections import Counter

from executor.core.state import State
from executor.policy.entrance import Outlook
from executor.policy.fairness import Account


def outlook(state: State) -> Outlook:
    backlog_s: Counter[Account] = Counter()
    queued: Counter[str] = Counter()
    for job in state.jobs.values():
        backlog_s[job.account] += job.left * state.costs.of(job.plan.name).engine_s  # type: ignore[assignment]
        queued[job.tenant] += job.left
    for program in state.programs.values():
        done_s = min(program.engine_s, state.costs.of(program.plan.name).engine_s)
        backlog_s[program.account] -= done_s  # type: ignore[assignment]
    return Outlook(backlog_s, queued, rate(state), state.limits.tenants, state.limits.any_tenant)


def rate(state: State) -> float:
    """Seconds of engines' time that the fleet gives in one: as seen, else one for each engine that takes calls."""
    return state.pace.rate(sum(1 / view.slowness for view in state.fleet.views.values() if view.takes_calls))


def work_waits(state: State) -> bool:
    """Whether engines have as much as they take."""
    waiting = any(calls.accounts() for calls in state.calls.values())
    return waiting or any(lines.accounts() for lines in state.lines.values())
