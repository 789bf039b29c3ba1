"""The KV that one engine is to have room for: that of conversations which run there, or are soon back from a tool."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from executor.core.engine_cache import CachedCall, EngineCache
from halo_vllm.policy.admission import Candidate, Room
from halo_vllm.policy.ledger import Ledger


@dataclass(slots=True, eq=False)
class Member:
    """`own_blocks` are those of its last call beside the full blocks of its prompt. It has a call in the line or in
    the engine while `hold_until_s` is None; else it waits for a tool, and until then that pays."""

    name: str
    own_blocks: int = 0
    running: bool = False
    hold_until_s: float | None = None


class WorkingSet:
    """Counts blocks as `EngineCache` does, those of several conversations once. `ahead` is what a conversation is
    expected to grow by until it is asked about again."""

    def __init__(self, cache: EngineCache, ahead: Callable[[], float]) -> None:
        self._cache, self._ahead = cache, ahead
        self.members: dict[str, Member] = {}
        self._owned, self._inside = Ledger(), Ledger()
        self._idle_since_s: float | None = None
        self.forced_at_s = -inf

    @property
    def bounded(self) -> bool:
        """False where the room of the engine is not known: then everybody has room."""
        return self._cache.kv_tokens > 0

    @property
    def promised(self) -> float:
        """What part of the engine's KV those that are here have, and will grow to."""
        return (self._taken() + self._to_grow()) / self._cache.room_blocks if self._cache.room_blocks else 0.0

    def room(self, now_s: float) -> Room:
        idle_s = None if self._idle_since_s is None else now_s - self._idle_since_s
        owned = self._taken() + self._cache.others_blocks
        return Room(self._cache.room_blocks, owned, self._to_grow(), idle_s, now_s - self.forced_at_s)

    def candidate(self, name: str, call: CachedCall, place: int, waited_s: float, bypassed: int) -> Candidate:
        need, own = self._owned.missing_blocks(call.prefix), self._cache.own_blocks(call)
        return Candidate(name, place, need, self._growth(own), waited_s, bypassed)

    def join(self, name: str, call: CachedCall) -> None:
        """The conversation's call may run here."""
        member = self.members.setdefault(name, Member(name))
        member.own_blocks, member.hold_until_s = self._cache.own_blocks(call), None
        self._idle_since_s = None
        self._owned.own(name, call.prefix)

    def sent(self, name: str, call: CachedCall) -> None:
        self.members[name].running = True
        self._inside.own(name, call.prefix)

    def out(self, name: str) -> None:
        """Its call is no longer inside."""
        self.members[name].running = False
        self._inside.release(name)

    def leave(self, name: str) -> None:
        if self.members.pop(name, None) is not None:
            self._owned.release(name)
            self._inside.release(name)

    def gone(self, now_s: float) -> list[str]:
        """Those for which holding does not pay any longer."""
        members = self.members.values()
        return [one.name for one in members if one.hold_until_s is not None and one.hold_until_s <= now_s]

    def next_gone_s(self) -> float:
        return min((one.hold_until_s for one in self.members.values() if one.hold_until_s is not None), default=inf)

    def note_idle(self, running: int, now_s: float) -> float:
        """Since when nothing runs here and no call that may is in the line; infinity while something does. Where nobody
        may be back either, there is nobody to stand idle for."""
        if running or any(one.hold_until_s is None for one in self.members.values()):
            self._idle_since_s = None
        elif not self.members:
            self._idle_since_s = -inf
        elif self._idle_since_s is None:
            self._idle_since_s = now_s
        return inf if self._idle_since_s is None else self._idle_since_s

    def shared_blocks(self, name: str, call: CachedCall) -> tuple[int, bool]:
        """Of what the conversation has here, so many blocks the call begins with; and whether that is all."""
        return self._owned.shared_blocks(name, call.prefix)

    def alone_blocks(self, name: str) -> int:
        """What only this conversation has here."""
        return self._owned.own_blocks(name) + self.members[name].own_blocks

    def _growth(self, own_blocks: int) -> int:
        return max(own_blocks, round(self._ahead()))

    def _to_grow(self) -> int:
        return sum(self._growth(member.own_blocks) for member in self.members.values())

    def _taken(self) -> int:
        return self._owned.owned_blocks + self._single()

    def _single(self) -> int:
        """What calls inside take that are of no conversation: single ones, which have the KV window."""
        inside = sum(one.own_blocks for one in self.members.values() if one.running)
        return max(0, round(self._cache.in_flight_blocks) - self._inside.owned_blocks - inside)
