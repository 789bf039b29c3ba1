"""What is kept for programs that wait: until when, who gives way first, and how much may be kept at all."""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from halo_vllm.counters import Counters
from halo_vllm.gate import Gate
from halo_vllm.giving_way import GivingWay, holding_of
from halo_vllm.measured import Measured
from halo_vllm.policy.give_back import Caps, least_rank_first, over_caps, youngest_first
from halo_vllm.policy.hints import TOOL_FINISHED, Hints
from halo_vllm.policy.ledger import Ledger
from halo_vllm.policy.retention import RULES, Learnt, Retention, Waiting
from halo_vllm.policy.tools import ToolKey
from halo_vllm.program import Kept, Program
from halo_vllm.settings import Settings

RANK_AGAIN_S = 0.1
#: So often, when somebody has to give way or is let in, so many programs are looked at again, those looked at longest
#: ago first: with a thousand that wait, to look at all of them takes longer than a step. Who is first to give way is
#: looked at again each time.
LOOK_AROUND_S, LOOKED_AT = 0.05, 8
ORDERS = {"rank": least_rank_first, "youngest": youngest_first}


class Keeping:
    """The programs for which something is kept. One for which nothing is kept any more leaves the `gate`: it is
    admitted anew when it is back."""

    def __init__(self, counters: Counters, settings: Settings, measured: Measured, ledger: Ledger, gate: Gate) -> None:
        self.learnt = Learnt()
        self._counters, self._settings, self._measured = counters, settings, measured
        self._ledger, self._gate = ledger, gate
        self._rule, self._caps = RULES[settings.rule], Caps(settings.share, settings.tenant_share)
        self._kept: OrderedDict[str, Program] = OrderedDict()
        self._order = GivingWay(ORDERS[settings.order])
        self._tenants: Counter[str] = Counter()
        self._expiries: list[tuple[float, int, str]] = []
        self._due_s: dict[str, float] = {}
        self._expected_gone: dict[str, float] = {}
        self._gone = 0.0
        self._uncounted, self._slack = 0, 0
        self._number = 0
        self._looked_s = float("-inf")

    def is_kept(self, key: str) -> bool:
        return key in self._kept

    def keep(
        self, program: Program, chain: Sequence[Hashable], hints: Hints, tools: tuple[ToolKey, ...], now_s: float
    ) -> bool:
        """The program waits from now on: is its context, whose blocks are these, to be kept?"""
        self._ledger.own(program.key, chain)
        own_blocks = self._ledger.own_blocks(program.key)
        program.waiting = Waiting(now_s, own_blocks, tools, hints.eta_s, hints.ttl_s, gap_s=self._true_gap_s(hints))
        if program.key not in self._kept:
            self._tenants[program.tenant] += 1
            self._order.entered()
        self._kept[program.key] = program
        return self._rerank(program, now_s) is None

    def reconsider(self, program: Program, event: str, hints: Hints, now_s: float) -> str | None:
        """More is known of what the program waits for; its key if it is kept for no longer."""
        assert program.waiting is not None
        was = program.waiting
        if hints.tools:
            self.learnt.durations.named(program.key, hints.tools)
        eta_s = now_s - was.since_s if event == TOOL_FINISHED else was.eta_s
        eta_s = hints.eta_s if hints.eta_s is not None else eta_s
        ttl_s = hints.ttl_s if hints.ttl_s is not None else was.ttl_s
        gap_s = eta_s if self._settings.rule == "oracle" else None
        program.waiting = Waiting(was.since_s, was.own_blocks, hints.tools or was.tools, eta_s, ttl_s, was.last, gap_s)
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
        self._look_around(now_s)
        for program in self._order.first(lambda program: self._look_again(program, now_s)):
            yield program.key

    def freed(self, blocks: int) -> None:
        """A call ended, and so many blocks may now be kept that nobody kept before."""
        self._uncounted += blocks

    def over(self, now_s: float, kept: Kept, pool_blocks: int) -> list[tuple[str, int]]:
        """(program, blocks) to be given back because more of the pool is kept than may be."""
        gives = self._gives(now_s, kept, pool_blocks)
        for key, blocks in gives:
            self._loses(self._kept[key], blocks)
        return gives

    def _gives(self, now_s: float, kept: Kept, pool_blocks: int) -> list[tuple[str, int]]:
        if len(self._tenants) > 1 and self._uncounted >= self._slack:
            return self._over_caps(kept, pool_blocks)
        over = kept.kept_blocks - int(pool_blocks * self._caps.share)
        gives: list[tuple[str, int]] = []
        for program in self.order(now_s) if over > 0 else ():
            if blocks := min(kept.kept_of(program), over):
                gives.append((program, blocks))
                over -= blocks
            if not over:
                break
        return gives

    def _over_caps(self, kept: Kept, pool_blocks: int) -> list[tuple[str, int]]:
        """No tenant can be over its cap before so many blocks are freed as the one that keeps most has left of it."""
        of_tenant: Counter[str] = Counter()
        for program in self._kept.values():
            of_tenant[program.tenant] += kept.kept_of(program.key)
        self._uncounted = 0
        self._slack = int(pool_blocks * self._caps.tenant_share) - max(of_tenant.values())
        if self._slack >= 0 and kept.kept_blocks <= int(pool_blocks * self._caps.share):
            return []
        holdings = [replace(holding_of(program), blocks=kept.kept_of(program.key)) for program in self._kept.values()]
        gives = over_caps(holdings, pool_blocks, self._caps, ORDERS[self._settings.order])
        return [(give.program, give.blocks) for give in gives]

    def lost(self, key: str, blocks: int, now_s: float, *, all_gone: bool) -> None:
        """Somebody who needed room took this many blocks of what was kept for the program."""
        program = self._kept.get(key)
        if program is None or program.waiting is None:
            return
        self._counters.pressure_evictions += blocks
        self._counters.wasted_block_seconds += blocks * max(now_s - program.waiting.since_s, 0.0)
        self._loses(program, blocks)
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
        self._order.left(program)
        self._gone -= self._expected_gone.pop(program.key)
        self._tenants[program.tenant] -= 1
        if not self._tenants[program.tenant]:
            del self._tenants[program.tenant]
        if not program.pending:
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
        self._look_around(now_s)
        return min(max(self._gone, 0.0), self._ledger.owned_blocks)

    def comes(self, program: Program) -> None:
        """Its next call is here."""
        if program.key in self._kept:
            self._order.changed(program)
            self._expect_gone(program)

    def _expect_gone(self, program: Program) -> None:
        assert program.waiting is not None
        assert program.retention is not None
        gone = 0.0 if program.pending else program.waiting.own_blocks * (1.0 - program.retention.back)
        self._gone += gone - self._expected_gone.get(program.key, 0.0)
        self._expected_gone[program.key] = gone

    def _loses(self, program: Program, blocks: int) -> None:
        """It keeps less. In the ledger all stays its own: it is active, and takes as much again when it is back."""
        assert program.waiting is not None
        program.waiting = replace(program.waiting, own_blocks=max(program.waiting.own_blocks - blocks, 0))
        self._expect_gone(program)

    def _true_gap_s(self, hints: Hints) -> float | None:
        return (hints.eta_s or 0.0) if self._settings.rule == "oracle" else None

    def _rerank(self, program: Program, now_s: float) -> str | None:
        """Decides anew how long to keep it; its key if that is no longer."""
        assert program.waiting is not None
        worth = self._measured.worth(program.blocks, program.waiting.own_blocks)
        program.retention = self._rule(program.waiting, self.learnt, worth, now_s)
        self._note(program, now_s)
        self._order.changed(program)
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

    def _look_around(self, now_s: float) -> None:
        if now_s - self._looked_s < LOOK_AROUND_S:
            return
        self._looked_s = now_s
        for program in list(islice(self._kept.values(), LOOKED_AT)):
            if self._look_again(program, now_s):
                self._order.changed(program)

    def _look_again(self, program: Program, now_s: float) -> bool:
        """Its rank and its chance as they are now; how long it is kept stays as it was decided."""
        if now_s - program.ranked_s <= RANK_AGAIN_S:
            return False
        assert program.waiting is not None
        assert program.retention is not None
        worth = self._measured.worth(program.blocks, program.waiting.own_blocks)
        now = self._rule(program.waiting, self.learnt, worth, now_s)
        program.retention = Retention(program.retention.until_s, now.rank, now.pinned, now.back)
        self._note(program, now_s)
        return True

    def _note(self, program: Program, now_s: float) -> None:
        program.ranked_s = now_s
        self._kept.move_to_end(program.key)
        self._expect_gone(program)


def _is_over(program: Program, now_s: float) -> bool:
    assert program.retention is not None
    return not program.pending and program.retention.until_s <= now_s
