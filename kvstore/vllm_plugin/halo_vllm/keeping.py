"""What is kept for programs that wait: until when, who gives way first, and how much may be kept at all."""

import heapq
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from halo_vllm.counters import Counters
from halo_vllm.gate import Gate
from halo_vllm.measured import Measured
from halo_vllm.policy.give_back import Caps, Holding, least_rank_first, over_caps, youngest_first
from halo_vllm.policy.hints import TOOL_FINISHED, Hints
from halo_vllm.policy.ledger import Ledger
from halo_vllm.policy.retention import RULES, Learnt, Waiting
from halo_vllm.policy.tools import ToolKey
from halo_vllm.program import Kept, Program
from halo_vllm.settings import Settings

RANK_AGAIN_S = 0.1
#: Who gives way is sorted anew so often: with a thousand programs that wait, a sort takes as long as a step.
ORDER_AGAIN_S = 0.5
ORDERS = {"rank": least_rank_first, "youngest": youngest_first}


class Keeping:
    """The programs for which something is kept. One for which nothing is kept any more leaves the `gate`: it is
    admitted anew when it is back."""

    def __init__(self, counters: Counters, settings: Settings, measured: Measured, ledger: Ledger, gate: Gate) -> None:
        self.learnt = Learnt()
        self._counters, self._settings, self._measured = counters, settings, measured
        self._ledger, self._gate = ledger, gate
        self._rule, self._caps = RULES[settings.rule], Caps(settings.share, settings.tenant_share)
        self._kept: dict[str, Program] = {}
        self._tenants: Counter[str] = Counter()
        self._expiries: list[tuple[float, int, str]] = []
        self._due_s: dict[str, float] = {}
        self._order: deque[str] = deque()
        self._ordered_s = self._gone_s = float("-inf")
        self._gone = 0.0
        self._number = 0

    def is_kept(self, key: str) -> bool:
        return key in self._kept

    def keep(
        self, program: Program, chain: Sequence[Hashable], hints: Hints, tools: tuple[ToolKey, ...], now_s: float
    ) -> bool:
        """The program waits from now on: is its context, whose blocks are these, to be kept?"""
        self._ledger.own(program.key, chain)
        own_blocks = self._ledger.own_blocks(program.key)
        program.waiting = Waiting(now_s, own_blocks, tools, hints.eta_s, hints.ttl_s, gap_s=self._true_gap_s(hints))
        self._tenants[program.tenant] += program.key not in self._kept
        self._kept[program.key] = program
        if now_s - self._ordered_s <= ORDER_AGAIN_S:
            self._order.append(program.key)  # until they are sorted anew
        return self._rerank(program, now_s) is None

    def reconsider(self, program: Program, event: str, hints: Hints, now_s: float) -> str | None:
        """More is known of what the program waits for; its key if it is kept for no longer."""
        assert program.waiting is not None
        waiting = program.waiting
        if event == TOOL_FINISHED:
            waiting = replace(waiting, eta_s=now_s - waiting.since_s)
        if hints.tools:
            self.learnt.durations.named(program.key, hints.tools, now_s)
            waiting = replace(waiting, tools=hints.tools)
        eta_s = hints.eta_s if hints.eta_s is not None else waiting.eta_s
        ttl_s = hints.ttl_s if hints.ttl_s is not None else waiting.ttl_s
        gap_s = eta_s if self._settings.rule == "oracle" else None
        program.waiting = replace(waiting, eta_s=eta_s, ttl_s=ttl_s, gap_s=gap_s)
        return self._rerank(program, now_s) if program.key in self._kept else None

    def expired(self, now_s: float) -> list[str]:
        """The programs whose time is up, and which are kept for no longer."""
        gone = []
        while self._expiries and self._expiries[0][0] <= now_s:
            due_s, _, key = heapq.heappop(self._expiries)
            if self._due_s.get(key) != due_s:
                continue
            del self._due_s[key]
            program = self._kept.get(key)
            if program is None or program.pending:
                continue
            if not _is_over(program, now_s):
                self._expect(program)
            elif self._rerank(program, now_s):
                self._counters.expiries += 1
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
        gives = over_caps(holdings, pool_blocks, caps, ORDERS[self._settings.order])
        return [(give.program, give.blocks) for give in gives]

    def lost(self, key: str, blocks: int, now_s: float, *, all_gone: bool) -> None:
        """Somebody who needed room took this many blocks of what was kept for the program."""
        program = self._kept.get(key)
        if program is None or program.waiting is None:
            return
        self._counters.pressure_evictions += blocks
        self._counters.wasted_block_seconds += blocks * max(now_s - program.waiting.since_s, 0.0)
        own_blocks = max(program.waiting.own_blocks - blocks, 0)
        program.waiting = replace(program.waiting, own_blocks=own_blocks)
        if all_gone and not program.pending:
            self.let_go(program, now_s)

    def relieved(self, key: str, now_s: float) -> None:
        """The program's pin was let go, so that others can run."""
        program = self._kept.get(key)
        if program is not None:
            self._counters.pressure_evictions += program.waiting.own_blocks if program.waiting is not None else 0
            self.let_go(program, now_s)

    def reset(self, now_s: float) -> None:
        """The KV cache was emptied."""
        for program in list(self._kept.values()):
            if not program.pending:
                self.let_go(program, now_s)

    def let_go(self, program: Program, now_s: float) -> str | None:
        """The program lives, but nothing is kept for it; its key if something was."""
        waiting = program.waiting
        gone = self.end(program, now_s, used=False) if waiting is not None else None
        program.waiting = waiting
        self._gate.left(program, now_s)
        return gone

    def end(self, program: Program, now_s: float, *, used: bool) -> str | None:
        """The program waits no longer; its key if something was kept for it, `used` or in vain."""
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
            self._counters.used_block_seconds += spent
        else:
            self._counters.wasted_block_seconds += spent
        return program.key

    def gone_blocks(self, now_s: float) -> float:
        """Of the blocks kept for programs that wait, those expected to be kept in vain: ended programs that did not say
        so, and tools that take too long. They count as free: who is less likely to be back gives way sooner."""
        if now_s - self._gone_s > RANK_AGAIN_S:
            self._gone_s = now_s
            self._gone = sum(self._expected_gone(program, now_s) for program in self._kept.values())
        return min(self._gone, self._ledger.owned_blocks)

    def _expected_gone(self, program: Program, now_s: float) -> float:
        if program.pending:
            return 0.0
        self._look_again(program, now_s)
        assert program.waiting is not None
        assert program.retention is not None
        return program.waiting.own_blocks * (1.0 - program.retention.back)

    def _true_gap_s(self, hints: Hints) -> float | None:
        return (hints.eta_s or 0.0) if self._settings.rule == "oracle" else None

    def _rerank(self, program: Program, now_s: float) -> str | None:
        """Decides anew how long to keep it; its key if that is no longer."""
        assert program.waiting is not None
        worth = self._measured.worth(program.blocks, program.waiting.own_blocks)
        program.retention = self._rule(program.waiting, self.learnt, worth, now_s)
        program.ranked_s = now_s
        if program.retention.until_s <= now_s:
            return self.let_go(program, now_s)
        self._expect(program)
        return None

    def _expect(self, program: Program) -> None:
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
        if self._settings.order == "rank" and now_s - self._ordered_s <= ORDER_AGAIN_S:
            return
        self._ordered_s = now_s
        holdings = sorted(self._holdings(now_s), key=ORDERS[self._settings.order])
        self._order = deque(holding.program for holding in holdings)

    def _look_again(self, program: Program, now_s: float) -> None:
        """Its rank and its chance as they are now; how long it is kept stays as it was decided."""
        if now_s - program.ranked_s <= RANK_AGAIN_S:
            return
        assert program.waiting is not None
        assert program.retention is not None
        worth = self._measured.worth(program.blocks, program.waiting.own_blocks)
        now = self._rule(program.waiting, self.learnt, worth, now_s)
        program.retention, program.ranked_s = replace(program.retention, rank=now.rank, back=now.back), now_s


def _is_over(program: Program, now_s: float) -> bool:
    assert program.retention is not None
    return not program.pending and program.retention.until_s <= now_s
