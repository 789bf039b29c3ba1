"""Who may run: new programs are held until they fit beside the active ones."""

import heapq
from collections.abc import Callable

from halo_vllm.counters import Counters
from halo_vllm.policy.admission import Candidate, Limits, Room, Why, admissions
from halo_vllm.policy.ledger import Ledger
from halo_vllm.policy.meters import Mean
from halo_vllm.program import Call, Program
from halo_vllm.settings import Settings

#: Calls that are asked about for admission in one step: those first in program order, and the one that waits longest.
LOOKED_AT = 32
ASK_AGAIN_S = 0.25


class Gate:
    """Calls that are held, the programs that are active, and what those own (`ledger`)."""

    def __init__(self, counters: Counters, settings: Settings, capacity_blocks: int, ledger: Ledger) -> None:
        self._counters, self._turns_ahead = counters, settings.turns_ahead
        self._limits = Limits(idle_s=settings.idle_s, fill=settings.fill)
        self._capacity_blocks, self._ledger = capacity_blocks, ledger
        self._growth = Mean()
        self._held: dict[str, Call] = {}
        self._ready: dict[str, tuple[float, Call]] = {}
        self._ask_s, self._forced_s = 0.0, float("-inf")
        self._idle_since_s: float | None = None

    def let_in(self, call: Call, now_s: float) -> None:
        """The call may run, and its program is active."""
        call.ready_s = now_s
        self.waits(call, now_s)
        self._ledger.own(call.branch.key, call.asked.chain)
        call.program.active = True

    def waits(self, call: Call, now_s: float) -> None:
        """The call may run, and waits for its turn from now on."""
        self._ready[call.asked.id] = (now_s, call)

    def started(self, call: Call) -> None:
        self._ready.pop(call.asked.id, None)

    def aged(self, now_s: float) -> str | None:
        """The call that has waited for its turn longest, if that is too long: earlier programs that come back again and
        again would go before it for ever. The same bound as for those that are held, from when it might run."""
        since_s, call = next(iter(self._ready.values()), (now_s, None))
        limits = self._limits
        if call is None or now_s - since_s < limits.patience_s or now_s - self._forced_s < limits.spacing_s:
            return None
        self._forced_s = now_s
        call.aged = True
        self.started(call)
        return call.asked.id

    def hold(self, call: Call, now_s: float) -> None:
        self._held[call.asked.id] = call
        self._ask_s = now_s

    def is_held(self, call_id: str) -> bool:
        return call_id in self._held

    def admitted(self, now_s: float, gone_blocks: Callable[[float], float], *, idle: bool) -> list[str]:
        """Of the calls that were held, those that may run now. `gone_blocks`: of what is kept for programs that wait,
        how much is expected to be kept in vain."""
        self._idle_since_s = _since(self._idle_since_s, now_s) if idle else None
        if not self._held or (now_s < self._ask_s and not idle):
            return []
        self._ask_s = now_s + ASK_AGAIN_S
        heads = heapq.nsmallest(LOOKED_AT, self._held.values(), key=lambda call: call.program.sequence)
        oldest = next(iter(self._held.values()))  # always asked about: else those that come back go first for ever
        by_program = {call.program.key: call for call in (oldest, *reversed(heads))}
        candidates = [self._candidate(call, now_s) for call in by_program.values()]
        room = self._room(gone_blocks(now_s), now_s)
        ready: list[str] = []
        for verdict in admissions(candidates, room, self._limits):
            call = by_program[verdict.program]
            call.bypassed = verdict.bypassed
            if verdict.admitted:
                self._force(verdict.why, now_s)
                call.aged = verdict.why is Why.AGED
                ready += self._release(call.program, now_s)
        return ready

    def ended(self, call: Call, now_s: float) -> None:
        """The call is over, whether it ran or not."""
        self._held.pop(call.asked.id, None)
        self.started(call)
        self._ask_s = now_s

    def left(self, program: Program, now_s: float) -> None:
        """The program is admitted anew when it is back."""
        program.active = False
        self._ask_s = now_s

    def grew(self, blocks: int) -> None:
        """A branch's context grew by so many blocks in a turn."""
        self._growth.saw(max(blocks, 0))

    def _candidate(self, call: Call, now_s: float) -> Candidate:
        """Its program's calls come in together."""
        held = [other for other in call.program.pending.values() if other.asked.id in self._held]
        need = self._ledger.missing_together([other.asked.chain for other in held]) + len(held)
        ahead, waited_s = len(held) * self._ahead(), now_s - call.asked_s
        return Candidate(call.program.key, call.program.sequence, need, ahead, waited_s, call.bypassed)

    def _room(self, gone_blocks: float, now_s: float) -> Room:
        idle_s = None if self._idle_since_s is None else now_s - self._idle_since_s
        owned = round(self._ledger.owned_blocks - gone_blocks)
        return Room(self._capacity_blocks, owned, self._ledger.chains * self._ahead(), idle_s, now_s - self._forced_s)

    def _ahead(self) -> int:
        return round(self._turns_ahead * self._growth.value(0.0))

    def _force(self, why: Why, now_s: float) -> None:
        if why is not Why.FITS:
            self._counters.forced_admissions += 1
        if why is Why.AGED:
            self._forced_s = now_s

    def _release(self, program: Program, now_s: float) -> list[str]:
        ready = [call_id for call_id in program.pending if call_id in self._held]
        for call_id in ready:
            self.let_in(self._held.pop(call_id), now_s)
        return ready


def _since(since_s: float | None, now_s: float) -> float:
    return now_s if since_s is None else since_s
