"""The programs an engine serves: which of them may run, what is kept for those that wait, who gives way.

Decides only: no vLLM types, no clock. The scheduler tells what happened and when, and does what is answered.
"""

import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from halo_vllm.counters import Counters
from halo_vllm.policy.admission import Candidate, Limits, Room, Why, admissions
from halo_vllm.policy.give_back import Caps, Holding, least_rank_first, over_caps, youngest_first
from halo_vllm.policy.hints import LAST_STEP, LET_GO, TOOL_FINISHED, Clamps, Hints, read_hints, scoped
from halo_vllm.policy.identity import Context, Conversations
from halo_vllm.policy.ledger import Ledger
from halo_vllm.policy.meters import Mean, PrefillMeter, QueueingMeter
from halo_vllm.policy.retention import RULES, Learnt, Retention, Waiting
from halo_vllm.policy.tools import ToolKey
from halo_vllm.policy.worth import Worth, worth_of
from halo_vllm.settings import Settings
from halo_vllm.trust import Trust

WARM = 0.9
MOST_PROGRAMS = 65_536
#: Calls that are asked about for admission in one step: those first in program order, and the one that waits longest.
LOOKED_AT = 32
ASK_AGAIN_S = 0.25
RANK_AGAIN_S = 0.1
#: Who gives way is sorted anew so often: with a thousand programs that wait, a sort takes as long as a step.
ORDER_AGAIN_S = 0.5
#: Calls of a program that are told apart by their number, where it tells nothing; later ones by its order of magnitude.
EACH_CALL = 16
ORDERS = {"rank": least_rank_first, "youngest": youngest_first}
CLAMPS = Clamps()


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it arrives. `chain`: the chained hashes of its prompt's full blocks; `said`: what the client added."""

    id: str
    chain: Sequence[Hashable]
    tokens: Sequence[int]
    tenant: str = ""
    session: str | None = None
    said: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to do with the blocks of a program: keep those of the call that ended, or nothing at all."""

    program: str
    keep: bool


class Kept(Protocol):
    """What is kept in the block pool, as it is: a block that two programs share counts for one of them."""

    kept_blocks: int

    def kept_of(self, program: str) -> int: ...


@dataclass(slots=True, eq=False)
class _Call:
    asked: Asked
    program: "_Program"
    hints: Hints
    asked_s: float
    after: str | None = None
    ready_s: float | None = None
    bypassed: int = 0
    aged: bool = False


@dataclass(slots=True, eq=False)
class _Program:
    key: str
    sequence: int
    tenant: str
    named: bool
    calls: int = 0
    active: bool = False
    pending: dict[str, _Call] = field(default_factory=dict)
    blocks: int = 0
    waiting: Waiting | None = None
    retention: Retention | None = None
    ranked_s: float = 0.0


class Programs:
    """The state of the decider: the same events give the same answers. Times never go back."""

    def __init__(self, settings: Settings, capacity_blocks: int, block_tokens: int) -> None:
        self.counters = Counters()
        self.prefill = PrefillMeter()
        self.settings = settings
        self._capacity_blocks, self._block_tokens = capacity_blocks, block_tokens
        self._limits, self._caps = (
            Limits(idle_s=settings.idle_s, fill=settings.fill),
            Caps(settings.share, settings.tenant_share),
        )
        self._rule, self._learnt = RULES[settings.rule], Learnt()
        self._queueing, self._growth = QueueingMeter(), Mean()
        self._conversations, self._trust = Conversations(), Trust()
        self._ledger = Ledger()
        self._programs: OrderedDict[str, _Program] = OrderedDict()
        self._calls: dict[str, _Call] = {}
        self._held: dict[str, _Call] = {}
        self._kept: dict[str, _Program] = {}
        self._tenants: Counter[str] = Counter()
        self._active = 0
        self._expiries: list[tuple[float, int, str]] = []
        self._due_s: dict[str, float] = {}
        self._order: deque[str] = deque()
        self._ordered_s = self._gone_s = float("-inf")
        self._gone = 0.0
        self._number = 0
        self._admit_s, self._forced_s = 0.0, float("-inf")
        self._idle_since_s: float | None = None

    @property
    def awake(self) -> bool:
        """Whether there is anything to decide about: a program by name, or one known by its prompts."""
        return bool(self.counters.programs)

    def asked(self, asked: Asked, now_s: float) -> bool:
        """A call arrived: may it run, as far as admission goes?"""
        hints = self._hints(asked)
        program, after = self._program_of(asked, hints)
        call = _Call(asked, program, hints, now_s, after)
        if program.waiting is not None:
            self._learnt.durations.returned(program.key, now_s)
        self._calls[asked.id] = program.pending[asked.id] = call
        if program.active or not self._gated(program):
            self._make_ready(call, now_s)
            return True
        self._held[asked.id] = call
        self._admit_s = now_s
        return False

    def admitted(self, now_s: float, *, idle: bool) -> list[str]:
        """Of the calls that were held, those that may run now. `idle`: nothing runs and no call is ready."""
        self._idle_since_s = (self._idle_since_s or now_s) if idle else None
        if not self._held or (now_s < self._admit_s and not idle):
            return []
        self._admit_s = now_s + ASK_AGAIN_S
        heads = heapq.nsmallest(LOOKED_AT, self._held.values(), key=lambda call: call.program.sequence)
        oldest = next(iter(self._held.values()))  # always asked about: else those that come back go first for ever
        by_program = {call.program.key: call for call in (oldest, *reversed(heads))}
        candidates = [self._candidate(call, now_s) for call in by_program.values()]
        room = self._room(now_s)
        ready: list[str] = []
        for verdict in admissions(candidates, room, self._limits):
            call = by_program[verdict.program]
            call.bypassed = verdict.bypassed
            if verdict.admitted:
                self._force(verdict.why, now_s)
                call.aged = verdict.why is Why.AGED
                ready += self._release(call.program, now_s)
        return ready

    def started(self, call_id: str, cached_tokens: int, now_s: float) -> str | None:
        """The call's prompt has its blocks; the program for which nothing need be kept now, since it uses it itself."""
        call = self._calls.get(call_id)
        if call is None or call.ready_s is None:
            return None
        program = call.program
        warm = cached_tokens >= WARM * program.blocks * self._block_tokens
        self._queueing.admitted(now_s - call.ready_s, warm=warm and program.calls > 0)
        if program.calls:
            self.counters.warm_resumes += warm
            self.counters.cold_resumes += not warm
        return self._unkeep(program, now_s, used=warm) if program.waiting is not None else None

    def finished(
        self, call_id: str, chain: Sequence[Hashable], tokens: Sequence[int], now_s: float, *, aborted: bool
    ) -> "Outcome | None":
        """The call is over: are its blocks to be kept for its program? None for a call nobody knows."""
        call = self._calls.pop(call_id, None)
        if call is None:
            return None
        self._held.pop(call_id, None)
        self._ledger.release(call_id)
        self._admit_s = now_s
        program = call.program
        del program.pending[call_id]
        if not aborted:
            self._count_turn(call, chain, tokens, now_s)
        if program.pending:
            return Outcome(program.key, keep=False)
        if call.hints.last:
            self._end(program, now_s)
        elif aborted:
            self._let_go(program, now_s)
        return Outcome(program.key, keep=not (aborted or call.hints.last) and self._keep(program, chain, call, now_s))

    def hinted(self, tenant: str, name: str, event: str, said: Mapping[str, object], now_s: float) -> str | None:
        """What a client tells between calls; the program for which nothing is to be kept any more, if it is one."""
        self.counters.hints += 1
        program = self._programs.get(scoped(tenant, name))
        hints = read_hints(said, CLAMPS)
        self.counters.ignored_hints += len(hints.ignored)
        if program is None or program.waiting is None or program.pending:
            return None
        if event == LAST_STEP or hints.last:
            self._end(program, now_s)
            return program.key
        if event == LET_GO:
            return self._let_go(program, now_s)
        return self._reconsider(program, event, hints, now_s)

    def expired(self, now_s: float) -> list[str]:
        """The programs whose time is up, and which are kept for no longer."""
        self._trust.settle(now_s)
        gone = []
        while self._expiries and self._expiries[0][0] <= now_s:
            due_s, _, key = heapq.heappop(self._expiries)
            if self._due_s.get(key) != due_s:
                continue
            del self._due_s[key]
            program = self._kept.get(key)
            if program is None or program.pending:
                continue
            if not self._is_over(program, now_s):
                self._expect(program)
            elif self._rerank(program, now_s):
                self.counters.expiries += 1
                gone.append(key)
        return gone

    def order(self, now_s: float) -> Iterator[str]:
        """Who gives way when room is wanted, the first first. Those whose next call is here already come last."""
        self._sort_again(now_s)
        while self._order and self._order[0] not in self._kept:
            self._order.popleft()
        here = (program for key in self._order if (program := self._kept.get(key)) is not None)
        waiting = []
        for program in here:
            if program.pending:
                waiting.append(program.key)
            else:
                yield program.key
        yield from waiting

    def over(self, now_s: float, kept: Kept, pool_blocks: int) -> list[tuple[str, int]]:
        """(program, blocks) to be given back because more of the pool is kept than may be."""
        caps = self._caps
        least = caps.share if len(self._tenants) < 2 else min(caps.share, caps.tenant_share)
        if kept.kept_blocks <= int(pool_blocks * least):
            return []
        holdings = [replace(holding, blocks=kept.kept_of(holding.program)) for holding in self._holdings(now_s)]
        gives = over_caps(holdings, pool_blocks, caps, ORDERS[self.settings.order])
        return [(give.program, give.blocks) for give in gives]

    def lost(self, key: str, blocks: int, now_s: float, *, all_gone: bool) -> None:
        """Somebody who needed room took this many blocks of what was kept for the program."""
        program = self._kept.get(key)
        if program is None or program.waiting is None:
            return
        self.counters.pressure_evictions += blocks
        self.counters.wasted_block_seconds += blocks * max(now_s - program.waiting.since_s, 0.0)
        own_blocks = max(program.waiting.own_blocks - blocks, 0)
        program.waiting = replace(program.waiting, own_blocks=own_blocks)
        if all_gone and not program.pending:
            self._let_go(program, now_s)

    def relieved(self, key: str, now_s: float) -> None:
        """The program's pin was let go, so that others can run."""
        program = self._kept.get(key)
        if program is not None:
            self.counters.pressure_evictions += program.waiting.own_blocks if program.waiting is not None else 0
            self._let_go(program, now_s)

    def reset(self, now_s: float) -> None:
        """The KV cache was emptied."""
        for program in list(self._kept.values()):
            if not program.pending:
                self._let_go(program, now_s)

    def is_held(self, call_id: str) -> bool:
        """Whether the call has to wait until it is admitted."""
        return call_id in self._held

    def place(self, call_id: str) -> tuple[int, int]:
        """The call's place in program order; in Continuum's order programs with kept KV go before all others. One let
        in for its age goes first: it would wait on behind earlier programs as it did before."""
        call = self._calls.get(call_id)
        if call is None:
            return (0, 0)
        if call.aged:
            return (-1, call.program.sequence)
        pinned_first = self.settings.order == "youngest" and call.program.key not in self._kept
        return (int(pinned_first), call.program.sequence)

    def worth(self, context_blocks: int, own_blocks: int) -> Worth:
        tokens, own = context_blocks * self._block_tokens, own_blocks * self._block_tokens
        capacity = self._capacity_blocks * self._block_tokens
        return worth_of(capacity, self.prefill.cost(), tokens, own, self._queueing.miss_s())

    # --- who a call belongs to

    def _hints(self, asked: Asked) -> Hints:
        said = asked.said if asked.session is None else {"session_id": asked.session, **asked.said}
        if not said:
            return Hints()
        hints = read_hints(said, CLAMPS)
        self.counters.ignored_hints += len(hints.ignored)
        return hints

    def _program_of(self, asked: Asked, hints: Hints) -> tuple[_Program, str | None]:
        if hints.program is not None:
            return self._named(scoped(asked.tenant, hints.program), asked, named=True), None
        found = self._conversations.continued(self._context(asked.chain, asked.tokens)) if self.settings.infer else None
        if found is None:
            return self._named(f"call:{asked.id}", asked, named=False), None
        program = self._programs.get(found.program)
        if program is None or program.pending:
            return self._named(f"call:{asked.id}", asked, named=False), found.call
        if program.calls == 1 and not program.named:
            self._trust.returned(program.key)
            self.counters.programs += 1
        return program, found.call

    def _named(self, key: str, asked: Asked, *, named: bool) -> _Program:
        program = self._programs.get(key)
        if program is None:
            self._number += 1
            program = self._programs[key] = _Program(key, self._number, asked.tenant, named)
            self.counters.programs += named
            self._forget_oldest()
        self._programs.move_to_end(key)
        return program

    def _forget_oldest(self) -> None:
        if len(self._programs) > MOST_PROGRAMS:
            oldest = next(iter(self._programs.values()))
            if not oldest.pending and oldest.key not in self._kept:
                del self._programs[oldest.key]

    def _context(self, chain: Sequence[Hashable], tokens: Sequence[int]) -> Context:
        return Context(chain, tokens, self._block_tokens)

    # --- who may run

    def _gated(self, program: _Program) -> bool:
        if not self.settings.admission:
            return False
        return program.named or program.calls > 0 or self._trust.given

    def _candidate(self, call: _Call, now_s: float) -> Candidate:
        need = self._ledger.missing_blocks(call.asked.chain) + 1
        waited_s = now_s - call.asked_s
        return Candidate(call.program.key, call.program.sequence, need, self._ahead(), waited_s, call.bypassed)

    def _room(self, now_s: float) -> Room:
        growth = self._active * self._ahead()
        idle_s = None if self._idle_since_s is None else now_s - self._idle_since_s
        owned = round(self._ledger.owned_blocks - self._gone_blocks(now_s))
        return Room(self._capacity_blocks, owned, growth, idle_s, now_s - self._forced_s)

    def _gone_blocks(self, now_s: float) -> float:
        """Of the blocks kept for programs that wait, those expected to be kept in vain: ended programs that did not say
        so, and tools that take too long. They count as free: who is less likely to be back gives way sooner."""
        if now_s - self._gone_s > RANK_AGAIN_S:
            self._gone_s, self._gone = (
                now_s,
                sum(self._expected_gone(program, now_s) for program in self._kept.values()),
            )
        return min(self._gone, self._ledger.owned_blocks)

    def _expected_gone(self, program: _Program, now_s: float) -> float:
        if program.pending:
            return 0.0
        self._look_again(program, now_s)
        assert program.waiting is not None
        assert program.retention is not None
        return program.waiting.own_blocks * (1.0 - program.retention.back)

    def _ahead(self) -> int:
        return round(self.settings.turns_ahead * self._growth.value(0.0))

    def _force(self, why: Why, now_s: float) -> None:
        if why is not Why.FITS:
            self.counters.forced_admissions += 1
        if why is Why.AGED:
            self._forced_s = now_s

    def _release(self, program: _Program, now_s: float) -> list[str]:
        ready = [call_id for call_id in program.pending if call_id in self._held]
        for call_id in ready:
            self._make_ready(self._held.pop(call_id), now_s)
        return ready

    def _make_ready(self, call: _Call, now_s: float) -> None:
        call.ready_s = now_s
        self._ledger.own(call.asked.id, call.asked.chain)
        self._activate(call.program)

    def _activate(self, program: _Program) -> None:
        self._active += not program.active
        program.active = True

    def _deactivate(self, program: _Program) -> None:
        self._active -= program.active
        program.active = False

    # --- what is kept

    def _count_turn(self, call: _Call, chain: Sequence[Hashable], tokens: Sequence[int], now_s: float) -> None:
        program = call.program
        program.calls += 1
        if program.calls > 1:
            self._growth.saw(max(len(chain) - program.blocks, 0))
        program.blocks = len(chain)
        if self.settings.infer:
            prompt = self._context(call.asked.chain, call.asked.tokens)
            self._conversations.finished(call.asked.id, program.key, prompt, self._context(chain, tokens), call.after)
        if program.calls == 1 and not program.named:
            self._trust.wait(program.key, now_s)

    def _keep(self, program: _Program, chain: Sequence[Hashable], call: _Call, now_s: float) -> bool:
        tools = call.hints.tools if program.named or call.hints.tools else (_call_number(program.calls),)
        self._learnt.durations.began(program.key, tools, now_s)
        if not (program.named or program.calls > 1 or self._trust.given):
            program.waiting = Waiting(now_s, 0, tools)
            self._deactivate(program)
            return False
        self._ledger.own(program.key, chain)
        own = self._ledger.own_blocks(program.key)
        program.waiting = self._waiting(call.hints, tools, own, now_s)
        self._tenants[program.tenant] += program.key not in self._kept
        self._kept[program.key] = program
        if now_s - self._ordered_s <= ORDER_AGAIN_S:
            self._order.append(program.key)  # until they are sorted anew
        return self._rerank(program, now_s) is None

    def _is_over(self, program: _Program, now_s: float) -> bool:
        assert program.retention is not None
        return not program.pending and program.retention.until_s <= now_s

    def _waiting(self, hints: Hints, tools: tuple[ToolKey, ...], own_blocks: int, now_s: float) -> Waiting:
        gap_s = (hints.eta_s or 0.0) if self.settings.rule == "oracle" else None
        return Waiting(now_s, own_blocks, tools, hints.eta_s, hints.ttl_s, gap_s=gap_s)

    def _reconsider(self, program: _Program, event: str, hints: Hints, now_s: float) -> str | None:
        assert program.waiting is not None
        waiting = program.waiting
        if event == TOOL_FINISHED:
            waiting = replace(waiting, eta_s=now_s - waiting.since_s)
        if hints.tools:
            self._learnt.durations.named(program.key, hints.tools, now_s)
            waiting = replace(waiting, tools=hints.tools)
        eta_s = hints.eta_s if hints.eta_s is not None else waiting.eta_s
        ttl_s = hints.ttl_s if hints.ttl_s is not None else waiting.ttl_s
        gap_s = eta_s if self.settings.rule == "oracle" else None
        program.waiting = replace(waiting, eta_s=eta_s, ttl_s=ttl_s, gap_s=gap_s)
        return self._rerank(program, now_s) if program.key in self._kept else None

    def _rerank(self, program: _Program, now_s: float) -> str | None:
        """Decides anew how long to keep it; its key if that is no longer."""
        assert program.waiting is not None
        worth = self.worth(program.blocks, program.waiting.own_blocks)
        program.retention = self._rule(program.waiting, self._learnt, worth, now_s)
        program.ranked_s = now_s
        if program.retention.until_s <= now_s:
            return self._let_go(program, now_s)
        self._expect(program)
        return None

    def _expect(self, program: _Program) -> None:
        """One entry a program is enough, however often what is known of it changes: the earliest is looked at."""
        assert program.retention is not None
        until_s = program.retention.until_s
        if until_s < self._due_s.get(program.key, float("inf")):
            self._due_s[program.key] = until_s
            self._number += 1
            heapq.heappush(self._expiries, (until_s, self._number, program.key))

    def _holdings(self, now_s: float) -> list[Holding]:
        holdings = []
        for program in self._kept.values():
            self._look_again(program, now_s)
            assert program.waiting is not None
            assert program.retention is not None
            own, rank = program.waiting.own_blocks, program.retention.rank
            holdings.append(
                Holding(program.key, own, rank, program.sequence, program.tenant, turn_waiting=bool(program.pending))
            )
        return holdings

    def _sort_again(self, now_s: float) -> None:
        if self.settings.order == "rank" and now_s - self._ordered_s <= ORDER_AGAIN_S:
            return
        self._ordered_s = now_s
        holdings = sorted(self._holdings(now_s), key=ORDERS[self.settings.order])
        self._order = deque(holding.program for holding in holdings)

    def _look_again(self, program: _Program, now_s: float) -> None:
        """Its rank and its chance as they are now; how long it is kept stays as it was decided."""
        if now_s - program.ranked_s <= RANK_AGAIN_S:
            return
        assert program.waiting is not None
        assert program.retention is not None
        worth = self.worth(program.blocks, program.waiting.own_blocks)
        now = self._rule(program.waiting, self._learnt, worth, now_s)
        program.retention, program.ranked_s = replace(program.retention, rank=now.rank, back=now.back), now_s

    def _unkeep(self, program: _Program, now_s: float, *, used: bool) -> str | None:
        waiting, program.waiting = program.waiting, None
        assert waiting is not None
        if self._kept.pop(program.key, None) is None:
            return None
        self._gone_s = float("-inf")
        self._tenants[program.tenant] -= 1
        if not self._tenants[program.tenant]:
            del self._tenants[program.tenant]
        self._ledger.release(program.key)
        spent = waiting.own_blocks * max(now_s - waiting.since_s, 0.0)
        if used:
            self.counters.used_block_seconds += spent
        else:
            self.counters.wasted_block_seconds += spent
        return program.key

    def _let_go(self, program: _Program, now_s: float) -> str | None:
        """The program lives, but nothing is kept for it: it is admitted anew when it is back."""
        waiting = program.waiting
        gone = self._unkeep(program, now_s, used=False) if waiting is not None else None
        program.waiting = waiting
        self._deactivate(program)
        self._admit_s = now_s
        return gone

    def _end(self, program: _Program, now_s: float) -> None:
        self._learnt.turns.ended(program.calls)
        self._learnt.durations.lost(program.key, now_s)
        self._let_go(program, now_s)
        self._programs.pop(program.key, None)


def _call_number(calls: int) -> ToolKey:
    """What a program waits for that tells nothing: whether it is back at all depends on how many calls it has made."""
    return ToolKey("", str(calls if calls <= EACH_CALL else 1 << calls.bit_length()))
