"""The calls that wait at the door: earliest program first, and nobody for ever."""

from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

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
    sent_before: int = 0  # calls that had been sent when it came into the line
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
        self._in_order: list[DoorCall] = []
        self._by_arrival: dict[int, DoorCall] = {}
        self._of_tenant: Counter[str] = Counter()
        self.sent = 0

    def __len__(self) -> int:
        return len(self._in_order)

    def __iter__(self) -> Iterator[DoorCall]:
        """In the order in which they should be sent. Taking calls out meanwhile is allowed."""
        overdue = self._overdue()
        yield from overdue
        yield from [call for call in self._in_order if call not in overdue] if overdue else list(self._in_order)

    def of_tenant(self, tenant: str) -> int:
        return self._of_tenant[tenant]

    def add(self, call: DoorCall) -> None:
        call.sent_before = self.sent
        insort(self._in_order, call, key=_place)
        self._by_arrival[call.number] = call
        self._of_tenant[call.tenant] += 1

    def take(self, call: DoorCall) -> None:
        self._in_order.remove(call)
        del self._by_arrival[call.number]
        self._of_tenant[call.tenant] -= 1
        if not self._of_tenant[call.tenant]:
            del self._of_tenant[call.tenant]

    def _overdue(self) -> list[DoorCall]:
        """Those that came into the line first have been passed over most."""
        first = next(iter(self._by_arrival.values()), None)
        return [first] if first and passed_over(self.sent - first.sent_before, self._most_passes) else []


def _place(call: DoorCall) -> tuple[int, int]:
    """The program-level order of Continuum (arXiv 2511.02230, section 4): a program that has begun is ahead of every
    later one, so programs end instead of all being half done."""
    return call.program.sequence, call.number
