"""Which programs of the door may run: those whose KV fits, as for agents of jobs (`executor.core.working_sets`).

Asked about is what may come back: a program that called a tool, and a new one whose client names it or offers it tools.
Chats are not: they go to the engine as they come. Of a program with several calls open each is a branch with room of
its own, what they share counted once; a branch goes on with the call that shares most with it. Only the first asks for
room: the others wait while it is held, and else need no leave of their own. One that does not fit is no branch.

Of several tenants, those enter first that have had least of the engines' time for their weight; of each, the earliest
program. In the written bound, who is before whom goes by that; who has waited longest is let in whosever turn it is.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from executor.core.fleet import Fleet
from executor.core.working_sets import Held, WorkingSets
from executor.door.line import DoorCall
from executor.door.programs import Program
from executor.door.turns_of_tenants import TurnsOfTenants
from halo_vllm.policy.admission import Limits
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import EngineId, ProgramId


class DoorAdmission:
    """The written bound is that of `Limits`; without them everybody is let in."""

    def __init__(self, fleet: Fleet[DoorCall], limits: Limits | None, turns: TurnsOfTenants) -> None:
        self._fleet, self._turns = fleet, turns
        self.sets: WorkingSets[DoorCall] = WorkingSets(fleet, limits, self._in_turn)
        self._models = list(dict.fromkeys(model for view in fleet.views.values() for model in view.spec.served))
        self._standing: dict[str, dict[str, DoorCall]] = {}  # a program's calls to one model, each by its branch
        self._branches: dict[str, list[str]] = {}  # of programs that have had several calls open
        self._unasked: dict[DoorCall, None] = {}  # open beside others, and not sent yet
        self._behind: dict[str, list[DoorCall]] = {}
        self._of_tenant: Counter[str] = Counter()
        self.held: dict[DoorCall, None] = {}

    @property
    def tenants(self) -> Collection[str]:
        """Those with calls that are held."""
        return self._of_tenant.keys()

    def of_tenant(self, tenant: str) -> int:
        """How many of its calls are held."""
        return self._of_tenant[tenant]

    def asks(self, call: DoorCall, at: float) -> bool:
        """Whether the call may go to an engine. If not, it is held until `admitted` gives it."""
        if call.conversation is None and not self._opens(call):
            return call not in self.held
        assert call.conversation is not None
        if self.sets.asks(call, call.conversation, (call.program.sequence, call.number), at):
            return True
        self._hold(call)
        return False

    def admitted(self, at: float) -> list[DoorCall]:
        """Of the calls that are held, those that may go to an engine from now on. Ask whose turn it is before."""
        return [call for admitted in self.sets.admitted(at) for call in self._release(admitted, at)]

    def newly_held(self) -> list[tuple[Program, str]]:
        """Programs that are held since this was asked last, and why."""
        newly = self.sets.newly_held()
        return [(one.call.program, one.why.value) for one in newly if one.why is not None and one.call in self.held]

    def may_enter(self, call: DoorCall, engine: EngineId) -> bool:
        return call.conversation is None or self.sets.may_enter(call.conversation, call, engine)

    def sent(self, call: DoorCall, engine: EngineId, at: float) -> str:
        """Returns what there is to say about how long it was held, and why."""
        if call in self._unasked:
            del self._unasked[call]
            assert call.conversation is not None
            if not self.sets.has_room_for(call.conversation, call, engine):
                self._close(call)
        return "" if call.conversation is None else self.sets.sent(call.conversation, call, engine, at)

    def answered(self, call: DoorCall, tools: Sequence[ToolKey], at: float) -> None:
        """Its program keeps its room while a tool runs, for as long as that pays."""
        name = call.conversation
        if name is None:
            return
        self._close(call)
        if tools:
            self.sets.answered(name, call, tools, at)
        else:
            self.sets.leave(name, at)

    def failed(self, call: DoorCall, *, elsewhere: bool) -> None:
        """It will be tried again."""
        if call.conversation is not None:
            self.sets.failed(call.conversation, elsewhere=elsewhere)

    def gone(self, call: DoorCall, at: float) -> list[DoorCall]:
        """The call ends without an answer. Returns those that waited behind it: they have to ask for themselves."""
        if call in self.held:
            self._unhold(call)
        name = call.conversation
        if name is None:
            self._leave_those_behind(call)
            return []
        self._close(call)
        self.sets.leave(name, at)
        behind = self._behind.pop(_conversation_of(call), [])
        for other in behind:
            self._unhold(other)
        return behind

    def lost(self, engine: EngineId) -> list[DoorCall]:
        """The engine's KV is gone. Returns the calls that were let in but not sent yet: they have to ask anew."""
        return self.sets.lost(engine)

    def forgotten(self, program: ProgramId, at: float) -> None:
        """Nobody came back for it."""
        for model in self._models:
            name = _conversation(program, model)
            for branch in self._branches.pop(name, (name,)):
                self.sets.leave(branch, at)

    def _in_turn(self, line: Sequence[Held[DoorCall]]) -> Iterator[Held[DoorCall]]:
        if len(self._of_tenant) == 1:
            return iter(line)
        of: dict[str, list[Held[DoorCall]]] = {}
        for held in line:
            of.setdefault(held.call.tenant, []).append(held)
        loads = {tenant: map(self._load_s, theirs) for tenant, theirs in of.items()}
        first = {tenant: iter(theirs) for tenant, theirs in of.items()}
        return (next(first[tenant]) for tenant in self._turns.one_by_one(loads))

    def _load_s(self, held: Held[DoorCall]) -> float:
        """About what it is charged for when it is sent: nobody knows yet to which engine."""
        call = held.call
        return self._fleet.offers(call, self._fleet.serving(call.pool)[:1])[0].load_s

    def _opens(self, call: DoorCall) -> bool:
        """Whether the call has to ask for room: the first that its program has open; one that has room is given it."""
        if not _may_come_back(call) or not self.sets.bounds(call.pool):
            return False
        name = _conversation_of(call)
        others = self._standing.setdefault(name, {})
        if any(other in self.held for other in others.values()):
            self._behind.setdefault(name, []).append(call)
            self._hold(call)
            return False
        call.conversation = branch = self._branch_of(call, name, others)
        others[branch] = call
        asks = len(others) == 1 or self.sets.shared_blocks(branch, call) is not None
        if not asks:
            self._unasked[call] = None
        return asks

    def _branch_of(self, call: DoorCall, name: str, others: Collection[str]) -> str:
        """One that the call goes on from; else one without room, or a new one, beside others that have room. A call
        without others writes anew what it has most of."""
        branches = self._branches.get(name, [name])
        shared = {branch: self.sets.shared_blocks(branch, call) for branch in branches if branch not in others}
        begun = {branch: found[0] for branch, found in shared.items() if found and (found[1] or not others)}
        free = [branch for branch, found in shared.items() if found is None]
        if begun or free:
            return max(begun, key=lambda branch: begun[branch]) if begun else free[0]
        branch = f"{name}\0{len(branches)}"
        self._branches[name] = [*branches, branch]
        return branch

    def _close(self, call: DoorCall) -> None:
        assert call.conversation is not None
        self._unasked.pop(call, None)
        name = _conversation_of(call)
        del self._standing[name][call.conversation]
        if not self._standing[name]:
            del self._standing[name]
        call.conversation = None

    def _release(self, call: DoorCall, at: float) -> list[DoorCall]:
        behind = self._behind.pop(_conversation_of(call), ())
        for one in (call, *behind):
            self._unhold(one)
        return [call, *(one for one in behind if self.asks(one, at))]

    def _leave_those_behind(self, call: DoorCall) -> None:
        behind = self._behind.get(_conversation_of(call), [])
        if call in behind:
            behind.remove(call)

    def _hold(self, call: DoorCall) -> None:
        self.held[call] = None
        self._of_tenant[call.tenant] += 1

    def _unhold(self, call: DoorCall) -> None:
        del self.held[call]
        self._of_tenant[call.tenant] -= 1
        if not self._of_tenant[call.tenant]:
            del self._of_tenant[call.tenant]


def _may_come_back(call: DoorCall) -> bool:
    """A program that had turns and never asked for a tool is a chat."""
    program = call.program
    return program.calls_tools or (not program.turns and call.looks_like_agent)


def _conversation_of(call: DoorCall) -> str:
    return _conversation(call.program.id, call.model)


def _conversation(program: ProgramId, model: str) -> str:
    """Engines of different models share no KV."""
    return f"{program}\0{model}"
