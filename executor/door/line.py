"""The calls that wait at the door: tenants in turn, of each the earliest program first, and nobody for ever."""

from bisect import insort
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge

from executor.door.programs import Program
from executor.policy.ordering import passed_over
from executor.policy.retry import Tries
from kvstore.prefix_index import BlockName
from planner.ir.ids import EngineId


@dataclass(slots=True, eq=False)
class DoorCall:
    """A call from its arrival to its end. What the fleet writes down with it is as in `executor.core.fleet`."""

    number: int
    tenant: str
    model: str
    program: Program
    prefix: tuple[BlockName, ...]
    prompt_tokens: int
    output_tokens: int
    pool: str = ""
    looks_like_agent: bool = False  # its client names its program, or offers it tools
    conversation: str | None = None  # that which it stands for before `DoorAdmission`
    sent_before: int = 0  # calls of its tenant that had been sent when it came into the line
    tries: Tries = field(default_factory=Tries)
    avoid: tuple[EngineId, ...] = ()
    stranded_at: float | None = None  # since when no engine of its model answers
    engine: EngineId | None = None
    load_s: float = 0.0
    sent_at: float = 0.0
    beside: int = 0
    own_kv_tokens: float = 0.0

    @property
    def suspect(self) -> bool:
        """It was in flight on two engines that died, so it runs alone from now on."""
        return self.tries.deaths >= 2


class Line:
    def __init__(self, most_passes: int) -> None:
        self._most_passes = most_passes
        self._queues: dict[str, _Queue] = {}  # of each tenant that waits

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[DoorCall]:
        """All of them, whoever's turn it is."""
        return (call for queue in self._queues.values() for call in queue.in_order)

    @property
    def tenants(self) -> Collection[str]:
        """Those that wait."""
        return self._queues.keys()

    def in_turn(self, tenants: Iterable[Collection[str]]) -> Iterator[DoorCall]:
        """In the order in which they should be sent: groups of `tenants`, one after the other; within a group earliest
        program first. Taking calls out meanwhile is allowed."""
        for group in tenants:
            queues = [self._queues[tenant] for tenant in group if tenant in self._queues]
            overdue = [call for queue in queues for call in queue.overdue(self._most_passes)]
            later = list(merge(*(queue.in_order for queue in queues), key=_place))
            yield from overdue
            ahead = set(overdue)
            yield from [call for call in later if call not in ahead] if overdue else later

    def of_tenant(self, tenant: str) -> int:
        return len(self._queues.get(tenant, ()))

    def add(self, call: DoorCall) -> None:
        self._queues.setdefault(call.tenant, _Queue()).add(call)

    def send(self, call: DoorCall) -> None:
        self._queues[call.tenant].sent += 1
        self.take(call)

    def take(self, call: DoorCall) -> None:
        self._queues[call.tenant].take(call)
        if not self._queues[call.tenant]:
            del self._queues[call.tenant]


class _Queue:
    """What one tenant has in the line."""

    def __init__(self) -> None:
        self.in_order: list[DoorCall] = []
        self._by_arrival: dict[int, DoorCall] = {}
        self.sent = 0

    def __len__(self) -> int:
        return len(self.in_order)

    def add(self, call: DoorCall) -> None:
        call.sent_before = self.sent
        insort(self.in_order, call, key=_place)
        self._by_arrival[call.number] = call

    def take(self, call: DoorCall) -> None:
        self.in_order.remove(call)
        del self._by_arrival[call.number]

    def overdue(self, most_passes: int) -> list[DoorCall]:
        """Those that came into the line first have been passed over most."""
        first = next(iter(self._by_arrival.values()), None)
        return [first] if first and passed_over(self.sent - first.sent_before, most_passes) else []


def _place(call: DoorCall) -> tuple[int, int]:
    """The program-level order of Continuum (arXiv 2511.02230, section 4): a program that has begun is ahead of every
    later one, so programs end instead of all being half done."""
    return call.program.sequence, call.number
