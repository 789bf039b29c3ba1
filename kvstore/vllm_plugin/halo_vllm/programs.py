"""The programs an engine serves: which of them may run, what is kept for those that wait, who gives way.

Decides only: no vLLM types, no clock. The scheduler tells what happened and when, and does what is answered. `roster`
knows whose call a call is, `gate` who may run, `keeping` what is kept.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from halo_vllm.alone import Alone, Begun, Ended
from halo_vllm.branching import branch_for, last_to_wait, over_with, too_many
from halo_vllm.counters import Counters
from halo_vllm.gate import Gate
from halo_vllm.keeping import Keeping
from halo_vllm.measured import Measured
from halo_vllm.policy.branches import Beginning, Tip
from halo_vllm.policy.durations import EVERY_COHORT
from halo_vllm.policy.give_back import may_take
from halo_vllm.policy.hints import LAST_STEP, LET_GO, Hints, says_something
from halo_vllm.policy.identity import Ending
from halo_vllm.policy.ledger import Ledger
from halo_vllm.policy.retention import Waiting
from halo_vllm.policy.tools import ToolKey
from halo_vllm.policy.worth import Worth
from halo_vllm.program import Asked, Branch, Call, Kept, Outcome, Program, Resumed, after_calls, key_of
from halo_vllm.roster import Roster
from halo_vllm.settings import Settings
from halo_vllm.trust import MOST_OPEN

WARM = 0.9
#: Calls of a program that are told apart by their number, where it tells nothing; later ones by its order of magnitude.
EACH_CALL = 16


class Programs:
    """The state of the decider: the same events give the same answers. Times never go back.

    `asleep`: every call so far stood alone, by what `stands_alone` was told. Who never asks that decides about each."""

    def __init__(self, settings: Settings, capacity_blocks: int, block_tokens: int) -> None:
        self.asleep = True
        self.counters = Counters()
        self.settings = settings
        self.measured = Measured(capacity_blocks, block_tokens)
        self._alone = Alone()
        self._ledger = ledger = Ledger()
        self._roster = Roster(self.counters, block_tokens, self._alone, infer=settings.infer)
        self._gate = Gate(self.counters, settings, capacity_blocks, ledger)
        self._keeping = Keeping(self.counters, settings, self.measured, ledger, self._gate)
        self._calls: dict[str, Call] = {}

    @property
    def awake(self) -> bool:
        """Whether there is anything to decide about: a program by name, or one known by its prompts."""
        return bool(self.counters.programs)

    def stands_alone(
        self, call_id: str, chain: Sequence[Hashable], said: Mapping[str, object], session: str | None, now_s: float
    ) -> bool:
        """A call arrived: does it stand alone, as all before it did? Then it may run, and nothing is decided about it.
        Else `catch_up` has to be told of those before it, and then `asked` of this one."""
        assert self.asleep
        if session is not None or says_something(said) or self._roster.may_go_on(chain):
            return False
        self._alone.begins(call_id, self._roster.next_sequence(), now_s)
        return True

    def catch_up(self, in_flight: Iterable[Asked]) -> None:
        """The first call came that may not stand alone. `in_flight`: those before it that are not over yet. All is then
        as if it had been decided about each call from the first."""
        self.asleep = False
        for ended in self._alone.last_ended(MOST_OPEN):
            self._roster.waits(key_of(ended.call), ended.ended_s)
        for ended in self._alone.last_ended(EVERY_COHORT):
            self._keeping.learnt.durations.began(key_of(ended.call), after_calls(1), ended.ended_s)
        for asked in in_flight:
            if begun := self._alone.leaves(asked.id):
                self._go_on_with(asked, begun)

    def ended_alone(
        self, call_id: str, prompt: Ending, whole: Ending, tenant: str, blocks: int, now_s: float, *, aborted: bool
    ) -> None:
        """A call that stood alone is over; `finished` is not told of it."""
        begun = self._alone.leaves(call_id)
        if begun is None or aborted or not self.settings.infer:
            return
        self._roster.ended_alone(Ended(call_id, begun.sequence, tenant, blocks, now_s), prompt, whole)

    def asked(self, asked: Asked, now_s: float) -> bool:
        """A call arrived: may it run, as far as admission goes?"""
        hints = self._roster.hints(asked)
        program, after = self._roster.program_of(asked, hints)
        call = self._enter(asked, program, hints, now_s, after)
        if call.branch.waiting is not None:
            self._keeping.learnt.durations.returned(call.branch.key, now_s)
        self._keeping.comes(call.branch)
        if program.active or not (self.settings.admission and self._roster.is_program(program)):
            self._gate.let_in(call, now_s)
            return True
        self._gate.hold(call, now_s)
        return False

    def admitted(self, now_s: float, *, idle: bool) -> list[str]:
        """Of the calls that were held, those that may run now. `idle`: nothing runs and no call is ready."""
        return self._gate.admitted(now_s, self._keeping.gone_blocks, idle=idle)

    def started(self, call_id: str, cached_tokens: int, now_s: float) -> list[Resumed]:
        """The call's prompt has its blocks, for the first time or again: what of its program need not be kept now."""
        call = self._calls.get(call_id)
        if call is None or call.ready_s is None:
            self._started_alone(call_id, now_s)
            return []
        self._gate.started(call)
        if call.ran:
            return []
        call.ran = True
        over = list(over_with(call, self._roster.context(call.asked))) if len(call.program.branches) > 1 else []
        warm = self._count_start(call, _comes_back_to(call, over), call.ready_s, cached_tokens, now_s)
        return self._resumed(call, over, now_s, warm=warm)

    def preempted(self, call_id: str, now_s: float) -> None:
        """The call lost its blocks, and waits for its turn again. What it shared may be kept for others now."""
        self.counters.preemptions += 1
        self._keeping.freed(self.measured.capacity_blocks)
        if call := self._calls.get(call_id):
            self._gate.waits(call, now_s)
        else:
            self._alone.waits(call_id, now_s)

    def may_take(self, call_id: str, blocks: int, now_s: float) -> bool:
        """Whether the call may start though it takes so many blocks of what is kept for others."""
        call = self._calls.get(call_id)
        if call is None or call.ready_s is None or call.aged:
            return True
        return may_take(now_s - call.ready_s, self.worth(blocks, blocks))

    def aged(self, now_s: float) -> str | None:
        """A call that might run but has waited for its turn too long: its place is before all others now."""
        return self._gate.aged(now_s)

    def finished(
        self, call_id: str, chain: Sequence[Hashable], tokens: Sequence[int], now_s: float, *, aborted: bool
    ) -> Outcome | None:
        """The call is over: are its blocks to be kept for its program? None for a call nobody knows."""
        call = self._calls.pop(call_id, None)
        if call is None:
            return None
        branch, program = call.branch, call.program
        del program.pending[call_id]
        branch.call = None
        self._gate.ended(call, now_s)
        self._keeping.freed(len(chain))
        if not aborted:
            self._count_turn(call, chain, tokens, now_s)
        kept, gone = self._goes_on(call, chain, now_s, aborted=aborted)
        if not kept:
            self._ledger.release(branch.key)
        return Outcome(branch.key, kept, tuple(gone))

    def hinted(self, tenant: str, name: str, event: str, said: Mapping[str, object], now_s: float) -> list[str]:
        """What a client tells between calls; the branches for which nothing is to be kept any more."""
        self.counters.hints += 1
        program = self._roster.named(tenant, name)
        hints = self._roster.read(said)
        branch = last_to_wait(program) if program is not None else None
        if program is None or branch is None:
            return []
        if event == LAST_STEP or hints.last:
            return [] if program.pending else self._end(program, now_s)
        if event == LET_GO:
            return self._let_go_all(program, now_s)
        gone = self._keeping.reconsider(branch, event, hints, now_s)
        return [gone] if gone is not None else []

    def expired(self, now_s: float) -> list[str]:
        """The branches whose time is up, and which are kept for no longer."""
        self._roster.settle(now_s)
        return self._keeping.expired(now_s)

    def order(self, now_s: float) -> Iterator[str]:
        """Who gives way when room is wanted, the first first. Those whose next call is here already come last."""
        return self._keeping.order(now_s)

    def over(self, now_s: float, kept: Kept, pool_blocks: int) -> list[tuple[str, int]]:
        """(branch, blocks) to be given back because more of the pool is kept than may be."""
        return self._keeping.over(now_s, kept, pool_blocks)

    def lost(self, key: str, blocks: int, now_s: float, *, all_gone: bool) -> None:
        """Somebody who needed room took this many blocks of what was kept for the branch."""
        self._keeping.lost(key, blocks, now_s, all_gone=all_gone)

    def relieved(self, key: str, now_s: float) -> None:
        """The branch's pin was let go, so that others can run."""
        self._keeping.relieved(key, now_s)

    def reset(self, now_s: float) -> None:
        """The KV cache was emptied."""
        self._keeping.reset(now_s)

    def is_held(self, call_id: str) -> bool:
        """Whether the call has to wait until it is admitted."""
        return self._gate.is_held(call_id)

    def place(self, call_id: str) -> tuple[int, int]:
        """The call's place in program order; in Continuum's order programs with kept KV go before all others. One let
        in for its age, or aged since, goes first: it would wait on behind earlier programs as it did before."""
        call = self._calls.get(call_id)
        if call is None:
            return (0, 0)
        if call.aged:
            return (-1, call.program.sequence)
        pinned_first = self.settings.order == "youngest" and not self._keeping.is_kept(call.branch.key)
        return (int(pinned_first), call.program.sequence)

    def worth(self, context_blocks: int, own_blocks: int) -> Worth:
        """Of so many blocks at the end of a context."""
        return self.measured.worth(context_blocks, own_blocks)

    def _enter(self, asked: Asked, program: Program, hints: Hints, now_s: float, after: str | None) -> Call:
        """It has the branch for itself: so a turn changes what is owned by no more than it adds."""
        prompt = self._roster.context(asked)
        branch = branch_for(program, prompt)
        call = Call(asked, branch, hints, now_s, Beginning(len(asked.chain), prompt.ending), after)
        self._calls[asked.id] = program.pending[asked.id] = branch.call = call
        return call

    def _go_on_with(self, asked: Asked, begun: Begun) -> None:
        """A call that stood alone so far."""
        program = self._roster.enter_alone(asked, begun.sequence)
        call = self._enter(asked, program, Hints(), begun.asked_s, None)
        self._gate.let_in(call, begun.asked_s if begun.ready_s is None else begun.ready_s)
        call.ready_s, call.ran = begun.asked_s, begun.ran
        if begun.ready_s is None:
            self._gate.started(call)

    def _started_alone(self, call_id: str, now_s: float) -> None:
        waited_s = self._alone.starts(call_id, now_s)
        if waited_s is not None:
            self.measured.queueing.admitted(waited_s, warm=False)

    def _count_start(self, call: Call, branch: Branch, ready_s: float, cached_tokens: int, now_s: float) -> bool:
        """Whether the call found what the branch has that its program comes back to."""
        warm = cached_tokens >= WARM * branch.blocks * self.measured.block_tokens
        self.measured.queueing.admitted(now_s - ready_s, warm=warm and branch.calls > 0)
        if branch.calls:
            self.counters.warm_resumes += warm
            self.counters.cold_resumes += not warm
        return warm

    def _resumed(self, call: Call, over: Iterable[tuple[Branch, bool]], now_s: float, *, warm: bool) -> list[Resumed]:
        branch, program = call.branch, call.program
        gone = [] if branch.waiting is None else [self._keeping.end(branch, now_s, used=warm)]
        gone += [self._leave(other, call.asked_s if back else None, now_s) for other, back in over]
        alone = len(program.pending) == 1
        return [Resumed(key, left=alone) for key in gone if key is not None]

    def _goes_on(
        self, call: Call, chain: Sequence[Hashable], now_s: float, *, aborted: bool
    ) -> tuple[bool, Sequence[str]]:
        """What becomes of the program now that the call is over: whether its branch is kept, and which are not."""
        branch, program = call.branch, call.program
        if call.hints.last and not program.pending:
            return False, self._end(program, now_s)
        if call.hints.last or (aborted and branch.tip is None):
            self._leave(branch, None, now_s)
            return False, ()
        if aborted:
            self._keeping.let_go(branch, now_s)
            return False, ()
        kept = self._wait(call, chain, now_s)
        gone = [self._leave(other, None, now_s) for other in too_many(program)]
        return kept, [key for key in gone if key is not None]

    def _count_turn(self, call: Call, chain: Sequence[Hashable], tokens: Sequence[int], now_s: float) -> None:
        branch = call.branch
        call.program.calls += 1
        branch.calls += 1
        if branch.calls > 1:
            self._gate.grew(len(chain) - branch.blocks)
        whole = self._roster.beginning(chain, tokens)
        branch.blocks, branch.tip = len(chain), Tip(call.prompt, whole, branch.fork)
        self._roster.finished(call, whole, now_s)

    def _wait(self, call: Call, chain: Sequence[Hashable], now_s: float) -> bool:
        """The branch waits from now on: is its context to be kept?"""
        branch, program = call.branch, call.program
        tools = _tools(program, call.hints)
        self._keeping.learnt.durations.began(branch.key, tools, now_s)
        if self._roster.comes_back(program):
            return self._keeping.keep(branch, chain, call.hints, tools, now_s)
        branch.waiting = Waiting(now_s, 0, tools)
        program.active = False
        return False

    def _let_go_all(self, program: Program, now_s: float) -> list[str]:
        """Of its branches those that wait."""
        waiting = [branch for branch in program.branches.values() if branch.call is None]
        gone = [self._keeping.let_go(branch, now_s) for branch in waiting]
        return [key for key in gone if key is not None]

    def _leave(self, branch: Branch, back_s: float | None, now_s: float) -> str | None:
        """Nobody goes on from the branch any more; its key if it was kept. `back_s`: when that came it waited for."""
        durations = self._keeping.learnt.durations
        if back_s is not None:
            durations.returned(branch.key, back_s)
        durations.lost(branch.key, now_s)
        del branch.program.branches[branch.key]
        return self._keeping.let_go(branch, now_s)

    def _end(self, program: Program, now_s: float) -> list[str]:
        self._keeping.learnt.turns.ended(program.calls)
        gone = [self._leave(branch, None, now_s) for branch in list(program.branches.values())]
        self._roster.remove(program)
        return [key for key in gone if key is not None]


def _comes_back_to(call: Call, over: Iterable[tuple[Branch, bool]]) -> Branch:
    """Its own branch, or that of those it is the end of which has most, where it writes anew what was said."""
    rewritten = [branch for branch, back in over if back]
    return call.branch if call.branch.calls else max(rewritten, key=lambda branch: branch.blocks, default=call.branch)


def _tools(program: Program, hints: Hints) -> tuple[ToolKey, ...]:
    """What a program waits for that tells nothing: whether it is back at all depends on how many calls it has made."""
    if program.named or hints.tools:
        return hints.tools
    calls = program.calls
    return after_calls(calls if calls <= EACH_CALL else 1 << calls.bit_length())
