"""Who is calm, which engines are quiet for them (`executor.policy.quiet`), and what others brought there."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, inf

from executor.policy.fairness import Account, FairShares
from executor.policy.quiet import OTHERS_SHARE, Standing, Unread, quiet_parts
from executor.policy.routing import EngineView
from executor.slo import SloClass
from planner.ir.ids import EngineId

#: How often it is looked who is calm: who had calls waiting two times in a row has a backlog.
LOOK_S = 1.0
#: So long engines are quiet for who had calls in any; the most that were inside at once in the last half of this or the
#: half before.
REMEMBERED_S = 60.0


class Quiet:
    """Of engines in pools that have some in common. Background work is nobody's that is calm."""

    def __init__(self, shares: FairShares) -> None:
        self._shares = shares
        self._inside: defaultdict[EngineId, Counter[str]] = defaultdict(Counter)
        self._seen: dict[str, _Seen] = {}
        self._known: frozenset[str] = frozenset()  # as of the last look, as the next two
        self._waited: frozenset[str] = frozenset()
        self._calm: frozenset[str] = frozenset()
        self._others: frozenset[str] = frozenset()
        self._unread: dict[EngineId, Unread] = {}
        self._parts: dict[EngineId, float] = {}
        self._keeps_room: frozenset[str] = frozenset()  # pools that have an engine beside those: others never starve
        self._looked_s = -inf
        self._opens_s = inf

    @property
    def anywhere(self) -> bool:
        """Whether any engine is quiet for somebody."""
        return bool(self._parts)

    def is_open(self, account: Account, pool: str, view: EngineView, now_s: float) -> bool:
        """Whether a call of the account to the pool may go to the engine: where not, it may when prompts are read, or
        when a call left the engine."""
        if view.spec.id not in self._parts or not self._disturbs(account):
            return True
        if not self._has_place(pool, view):
            return False
        unread = self._unread[view.spec.id]
        if unread.open(now_s):
            return True
        self._opens_s = min(self._opens_s, unread.opens_s())
        return False

    def open_to(self, account: Account, pool: str, views: Sequence[EngineView], now_s: float) -> Sequence[EngineView]:
        """Those of the pool's that are open to a call of the account."""
        if not self._parts or not self._disturbs(account):  # as nearly always: engines may be many
            return views
        return [view for view in views if self.is_open(account, pool, view, now_s)]

    def kv_share(self, account: Account, pool: str, engine: EngineId) -> float:
        """What calls inside may take of the engine's KV for one of the account to join them, of what they may else."""
        kept = engine in self._parts and self.keeps_room(account, pool)
        return OTHERS_SHARE if kept else 1.0

    def keeps_room(self, account: Account, pool: str) -> bool:
        """Whether any engine has less room for the account's calls to the pool: `kv_share`."""
        return pool in self._keeps_room and self._disturbs(account)

    def keeps(self, account: Account) -> bool:
        """Whether it matters what calls of the account are `kept_to`."""
        return bool(self._others and self._parts) and self._is_calm(account)

    def kept_to(self, account: Account, engines: Sequence[EngineId]) -> Sequence[EngineId]:
        """Of engines with room for a call of the account, those that it should go to: those of calm tenants leave the
        others to others while a quiet one has room."""
        if not self.keeps(account):
            return engines
        return [engine for engine in engines if engine in self._parts] or engines

    def sent(self, account: Account, engine: EngineId, prefill_s: float, now_s: float) -> None:
        if account.slo is not SloClass.BACKGROUND:
            self._inside[engine][account.tenant] += 1
            self._seen_of(account.tenant, now_s).enter(now_s)
        if engine not in self._parts:
            return
        if self._is_calm(account):
            self._unread[engine].goes_on(self._parts[engine], now_s)
        else:
            self._unread[engine].brought(prefill_s, now_s)

    def left(self, account: Account, engine: EngineId, now_s: float) -> None:
        if account.slo is SloClass.BACKGROUND:
            return
        inside = self._inside[engine]
        inside[account.tenant] -= 1
        if not inside[account.tenant]:
            del inside[account.tenant]  # tenants may be many
        self._seen[account.tenant].leave(now_s)
        if engine in self._parts:
            self._unread[engine].goes_on(self._part_now(engine), now_s)

    def opens_s(self) -> float:
        """When an engine opens that was asked for since this was asked; infinity where all were open."""
        opens_s, self._opens_s = self._opens_s, inf
        return opens_s

    def due(self, now_s: float) -> bool:
        """Whether it is time for a `look`."""
        return now_s >= self._looked_s + LOOK_S

    def look(self, pools: Mapping[str, Collection[EngineView]], waiting: Collection[Account], now_s: float) -> None:
        """Calls of these accounts wait though engines, which are told by pool, took what they may."""
        self._looked_s = now_s
        self._seen = {tenant: seen for tenant, seen in self._seen.items() if seen.inside or seen.recent(now_s)}
        waits = frozenset(one.tenant for one in waiting if one.slo is not SloClass.BACKGROUND)
        self._calm = self._known.intersection(self._seen) - (waits & self._waited)
        self._known, self._waited = frozenset(self._seen), waits
        self._others = self._known.union(one.tenant for one in waiting) - self._calm
        self._make_quiet(pools, now_s)

    def _make_quiet(self, pools: Mapping[str, Collection[EngineView]], now_s: float) -> None:
        views = {view.spec.id: view for members in pools.values() for view in members}
        engines = [self._standing(view) for view in views.values()] if self._calm else []
        calls = sum(self._seen[tenant].most(now_s) for tenant in self._calm)
        self._parts = quiet_parts(engines, calls, self._share())
        self._keeps_room = frozenset(pool for pool, members in pools.items() if self._has_others(members))
        for engine in self._parts:
            self._unread.setdefault(engine, Unread(at_s=now_s)).goes_on(self._part_now(engine), now_s)

    def _has_others(self, views: Collection[EngineView]) -> bool:
        """Besides quiet ones, where any are."""
        return self.anywhere and any(view.spec.id not in self._parts for view in views)

    def _standing(self, view: EngineView) -> Standing:
        engine = view.spec.id
        return Standing(engine, view.spec.max_running, self._calm_in(engine), view.load_s, engine in self._parts)

    def _share(self) -> float:
        """Of the calm. Who is not there yet, and may come with very much at once, counts as one of the others."""
        calm = fsum(self._shares.share(tenant).weight for tenant in self._calm)  # the same in whatever order
        others = fsum(self._shares.share(tenant).weight for tenant in self._others) or self._shares.others.weight
        return calm / (calm + others)

    def _seen_of(self, tenant: str, now_s: float) -> "_Seen":
        seen = self._seen.get(tenant)
        if seen is None:
            seen = self._seen[tenant] = _Seen(now_s)
        return seen

    def _has_place(self, pool: str, view: EngineView) -> bool:
        """In a quiet engine."""
        return pool not in self._keeps_room or view.running < OTHERS_SHARE * view.spec.max_running

    def _disturbs(self, account: Account) -> bool:
        """Work of a calm tenant's own is nothing to it."""
        return not self._is_calm(account) and self._calm != {account.tenant}

    def _is_calm(self, account: Account) -> bool:
        return account.tenant in self._calm and account.slo is not SloClass.BACKGROUND

    def _calm_in(self, engine: EngineId) -> int:
        return sum(calls for tenant, calls in self._inside.get(engine, {}).items() if tenant in self._calm)

    def _part_now(self, engine: EngineId) -> float:
        return self._parts[engine] if self._calm_in(engine) else 1.0


@dataclass(slots=True)
class _Seen:
    """Calls of one tenant inside engines."""

    since_s: float
    inside: int = 0
    last_s: float = 0.0
    most_now: int = 0
    most_before: int = 0

    def enter(self, now_s: float) -> None:
        self._turn_over(now_s)
        self.inside += 1
        self.most_now = max(self.most_now, self.inside)
        self.last_s = now_s

    def leave(self, now_s: float) -> None:
        self.inside -= 1
        self.last_s = now_s

    def recent(self, now_s: float) -> bool:
        return now_s < self.last_s + REMEMBERED_S

    def most(self, now_s: float) -> int:
        self._turn_over(now_s)
        return max(self.most_now, self.most_before)

    def _turn_over(self, now_s: float) -> None:
        if now_s >= self.since_s + REMEMBERED_S / 2:
            passed = now_s >= self.since_s + REMEMBERED_S
            self.most_before, self.most_now = self.inside if passed else self.most_now, self.inside
            self.since_s = now_s
