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
from halo_vllm.program import Branch, Kept
from halo_vllm.settings import Settings

RANK_AGAIN_S = 0.1
#: So often, when somebody has to give way or is let in, so many programs are looked at again, those looked at longest
#: ago first: with a thousand that wait, to look at all of them takes longer than a step. Who is first to give way is
#: looked at again each time.
LOOK_AROUND_S, LOOKED_AT = 0.05, 8
ORDERS = {"rank": least_rank_first, "youngest": youngest_first}


class Keeping:
    """The branches for which something is kept. A program that has none of them any more leaves the `gate`: it is
    admitted anew when it is back."""

    def __init__(self, counters: Counters, settings: Settings, measured: Measured, ledger: Ledger, gate: Gate) -> None:
        self.learnt = Learnt()
        self._counters, self._settings, self._measured = counters, settings, measured
        self._ledger, self._gate = ledger, gate
        self._rule, self._caps = RULES[settings.rule], Caps(settings.share, settings.tenant_share)
        self._kept: OrderedDict[str, Branch] = OrderedDict()
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
        self, branch: Branch, chain: Sequence[Hashable], hints: Hints, tools: tuple[ToolKey, ...], now_s: float
    ) -> bool:
        """The branch waits from now on: is its context, whose blocks are these, to be kept?"""
        self._ledger.own(branch.key, chain)
        own_blocks = self._ledger.own_blocks(branch.key)
        branch.waiting = Waiting(now_s, own_blocks, tools, hints.eta_s, hints.ttl_s, gap_s=self._true_gap_s(hints))
        if branch.key not in self._kept:
            self._tenants[branch.program.tenant] += 1
            self._order.entered()
        self._kept[branch.key] = branch
        return self._rerank(branch, now_s) is None

    def reconsider(self, branch: Branch, event: str, hints: Hints, now_s: float) -> str | None:
        """More is known of what the branch waits for; its key if it is kept for no longer."""
        assert branch.waiting is not None
        was = branch.waiting
        if hints.tools:
            self.learnt.durations.named(branch.key, hints.tools)
        eta_s = now_s - was.since_s if event == TOOL_FINISHED else was.eta_s
        eta_s = hints.eta_s if hints.eta_s is not None else eta_s
        ttl_s = hints.ttl_s if hints.ttl_s is not None else was.ttl_s
        gap_s = eta_s if self._settings.rule == "oracle" else None
        branch.waiting = Waiting(was.since_s, was.own_blocks, hints.tools or was.tools, eta_s, ttl_s, was.last, gap_s)
        return self._rerank(branch, now_s) if branch.key in self._kept else None

    def expired(self, now_s: float) -> list[str]:
        """The branches whose time is up, and which are kept for no longer."""
        gone = []
        while self._expiries and self._expiries[0][0] <= now_s:
            due_s, _, key = heapq.heappop(self._expiries)
            if self._due_s.get(key) != due_s:
                continue
            del self._due_s[key]
            branch = self._kept.get(key)
            if branch is None or branch.call is not None:
                continue
            if not _is_over(branch, now_s):
                self._expect(branch)
            elif self._rerank(branch, now_s):
                self._counters.expiries += 1
                gone.append(key)
        return gone

    def order(self, now_s: float) -> Iterator[str]:
        """Who gives way when room is wanted, the first first. Those whose next call is here already come last."""
        self._look_around(now_s)
        for branch in self._order.first(lambda branch: self._look_again(branch, now_s)):
            yield branch.key

    def freed(self, blocks: int) -> None:
        """A call ended, and so many blocks may now be kept that nobody kept before."""
        self._uncounted += blocks

    def over(self, now_s: float, kept: Kept, pool_blocks: int) -> list[tuple[str, int]]:
        """(branch, blocks) to be given back because more of the pool is kept than may be."""
        gives = self._gives(now_s, kept, pool_blocks)
        for key, blocks in gives:
            self._loses(self._kept[key], blocks)
        return gives

    def _gives(self, now_s: float, kept: Kept, pool_blocks: int) -> list[tuple[str, int]]:
        if len(self._tenants) > 1 and self._uncounted >= self._slack:
            return self._over_caps(kept, pool_blocks)
        over = kept.kept_blocks - int(pool_blocks * self._caps.share)
        gives: list[tuple[str, int]] = []
        for key in self.order(now_s) if over > 0 else ():
            if blocks := min(kept.kept_of(key), over):
                gives.append((key, blocks))
                over -= blocks
            if not over:
                break
        return gives

    def _over_caps(self, kept: Kept, pool_blocks: int) -> list[tuple[str, int]]:
        """No tenant can be over its cap before so many blocks are freed as the one that keeps most has left of it."""
        of_tenant: Counter[str] = Counter()
        for branch in self._kept.values():
            of_tenant[branch.program.tenant] += kept.kept_of(branch.key)
        self._uncounted = 0
        self._slack = int(pool_blocks * self._caps.tenant_share) - max(of_tenant.values())
        if self._slack >= 0 and kept.kept_blocks <= int(pool_blocks * self._caps.share):
            return []
        holdings = [replace(holding_of(branch), blocks=kept.kept_of(branch.key)) for branch in self._kept.values()]
        gives = over_caps(holdings, pool_blocks, self._caps, ORDERS[self._settings.order])
        return [(give.program, give.blocks) for give in gives]

    def lost(self, key: str, blocks: int, now_s: float, *, all_gone: bool) -> None:
        """Somebody who needed room took this many blocks of what was kept for the branch."""
        branch = self._kept.get(key)
        if branch is None or branch.waiting is None:
            return
        self._counters.pressure_evictions += blocks
        self._counters.wasted_block_seconds += blocks * max(now_s - branch.waiting.since_s, 0.0)
        self._loses(branch, blocks)
        if all_gone and branch.call is None:
            self.let_go(branch, now_s)

    def relieved(self, key: str, now_s: float) -> None:
        """The branch's pin was let go, so that others can run."""
        branch = self._kept.get(key)
        if branch is not None:
            self._counters.pressure_evictions += branch.waiting.own_blocks if branch.waiting is not None else 0
            self.let_go(branch, now_s)

    def reset(self, now_s: float) -> None:
        """The KV cache was emptied."""
        for branch in list(self._kept.values()):
            if branch.call is None:
                self.let_go(branch, now_s)

    def let_go(self, branch: Branch, now_s: float) -> str | None:
        """The branch lives, but nothing is kept for it; its key if something was."""
        waiting = branch.waiting
        gone = self.end(branch, now_s, used=False) if waiting is not None else None
        branch.waiting = waiting
        program = branch.program
        if not program.pending and not any(other in self._kept for other in program.branches):
            self._gate.left(program, now_s)
        return gone

    def end(self, branch: Branch, now_s: float, *, used: bool) -> str | None:
        """The branch waits no longer; its key if something was kept for it, `used` or in vain."""
        waiting, branch.waiting = branch.waiting, None
        assert waiting is not None
        if self._kept.pop(branch.key, None) is None:
            return None
        self._order.left(branch)
        self._gone -= self._expected_gone.pop(branch.key)
        tenant = branch.program.tenant
        self._tenants[tenant] -= 1
        if not self._tenants[tenant]:
            del self._tenants[tenant]
        if branch.call is None:
            self._ledger.release(branch.key)
        spent = waiting.own_blocks * max(now_s - waiting.since_s, 0.0)
        if used:
            self._counters.used_block_seconds += spent
        else:
            self._counters.wasted_block_seconds += spent
        return branch.key

    def gone_blocks(self, now_s: float) -> float:
        """Of the blocks kept for programs that wait, those expected to be kept in vain: ended programs that did not say
        so, and tools that take too long. They count as free: who is less likely to be back gives way sooner."""
        self._look_around(now_s)
        return min(max(self._gone, 0.0), self._ledger.owned_blocks)

    def comes(self, branch: Branch) -> None:
        """Its next call is here."""
        if branch.key in self._kept:
            self._order.changed(branch)
            self._expect_gone(branch)

    def _expect_gone(self, branch: Branch) -> None:
        assert branch.waiting is not None
        assert branch.retention is not None
        gone = 0.0 if branch.call is not None else branch.waiting.own_blocks * (1.0 - branch.retention.back)
        self._gone += gone - self._expected_gone.get(branch.key, 0.0)
        self._expected_gone[branch.key] = gone

    def _loses(self, branch: Branch, blocks: int) -> None:
        """It keeps less. In the ledger all stays its own: it is active, and takes as much again when it is back."""
        assert branch.waiting is not None
        branch.waiting = replace(branch.waiting, own_blocks=max(branch.waiting.own_blocks - blocks, 0))
        self._expect_gone(branch)

    def _true_gap_s(self, hints: Hints) -> float | None:
        return (hints.eta_s or 0.0) if self._settings.rule == "oracle" else None

    def _rerank(self, branch: Branch, now_s: float) -> str | None:
        """Decides anew how long to keep it; its key if that is no longer."""
        assert branch.waiting is not None
        worth = self._measured.worth(branch.blocks, branch.waiting.own_blocks)
        branch.retention = self._rule(branch.waiting, self.learnt, worth, now_s)
        self._note(branch, now_s)
        self._order.changed(branch)
        if branch.retention.until_s <= now_s:
            return self.let_go(branch, now_s)
        self._expect(branch)
        return None

    def _expect(self, branch: Branch) -> None:
        """One entry a branch is enough, however often what is known of it changes: the earliest is looked at."""
        assert branch.retention is not None
        until_s = branch.retention.until_s
        if until_s < self._due_s.get(branch.key, float("inf")):
            self._due_s[branch.key] = until_s
            self._number += 1
            heapq.heappush(self._expiries, (until_s, self._number, branch.key))

    def _look_around(self, now_s: float) -> None:
        if now_s - self._looked_s < LOOK_AROUND_S:
            return
        self._looked_s = now_s
        for branch in list(islice(self._kept.values(), LOOKED_AT)):
            if self._look_again(branch, now_s):
                self._order.changed(branch)

    def _look_again(self, branch: Branch, now_s: float) -> bool:
        """Its rank and its chance as they are now; how long it is kept stays as it was decided."""
        if now_s - branch.ranked_s <= RANK_AGAIN_S:
            return False
        assert branch.waiting is not None
        assert branch.retention is not None
        worth = self._measured.worth(branch.blocks, branch.waiting.own_blocks)
        now = self._rule(branch.waiting, self.learnt, worth, now_s)
        branch.retention = Retention(branch.retention.until_s, now.rank, now.pinned, now.back)
        self._note(branch, now_s)
        return True

    def _note(self, branch: Branch, now_s: float) -> None:
        branch.ranked_s = now_s
        self._kept.move_to_end(branch.key)
        self._expect_gone(branch)


def _is_over(branch: Branch, now_s: float) -> bool:
    assert branch.retention is not None
    return branch.call is None and branch.retention.until_s <= now_s
