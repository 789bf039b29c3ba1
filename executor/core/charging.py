"""What tenants are charged for: a guess when a program or a call begins, what it really took when it ends."""

from executor.core.outlook import work_waits
from executor.core.state import State
from executor.core.work import Program, Work
from executor.engines.port import Usage
from executor.policy.fairness import Account


def program_begins(state: State, program: Program) -> None:
    program.began_s = state.now
    program.charged_s = state.costs.of(program.plan.name).engine_s
    state.running_of[program.tenant] += 1
    state.entering.shares.charge(program.account, program.charged_s)


def program_ends(state: State, program: Program, *, succeeded: bool) -> None:
    state.running_of[program.tenant] -= 1
    if not state.running_of[program.tenant]:
        del state.running_of[program.tenant]
    state.entering.shares.settle(program.account, program.charged_s, program.engine_s)
    if succeeded:
        took_s = min(state.now - program.began_s, state.remaining.whole_s(program))  # if no call had waited
        state.costs.learn(program.plan.name, program.engine_s, took_s)


def call_sent(state: State, work: Work, prefill_s: float) -> None:
    """After it entered its engine, which takes so long to read its prompt."""
    state.turns.charge(work.program.account, work.load_s)
    _enters(state, work, work.program.account, prefill_s)


def call_answered(state: State, work: Work, usage: Usage) -> None:
    """Before the call leaves its engine."""
    took_s = state.fleet.took_s(work, usage)
    work.program.engine_s += took_s
    state.turns.settle(work.program.account, work.load_s, took_s)
    _leaves(state, work)
    state.pace.gave(took_s, state.now, waiting=work_waits(state))


def call_handed_over(state: State, work: Work, heir: Work) -> None:
    """Before `work` becomes what `heir` is in its program: from now on it is the heir's tenant that is given time."""
    state.turns.settle(work.program.account, work.load_s, 0.0)
    state.turns.charge(heir.program.account, work.load_s)
    if work.engine is not None:
        _leaves(state, work)
        _enters(state, work, heir.program.account, 0.0)


def call_failed(state: State, work: Work) -> None:
    """It left its engine without an answer: what it was sent for stands."""
    state.turns.settle(work.program.account, work.load_s, work.load_s)
    _leaves(state, work)


def _enters(state: State, work: Work, account: Account, prefill_s: float) -> None:
    assert work.engine is not None
    state.quiet[work.pool].sent(account, work.engine, prefill_s, state.now)


def _leaves(state: State, work: Work) -> None:
    assert work.engine is not None
    state.quiet[work.pool].left(work.program.account, work.engine, state.now)
