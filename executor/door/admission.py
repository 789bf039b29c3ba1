"""Which programs of the door may run: those whose KV fits, as for agents of jobs (`executor.core.working_sets`).

Asked about is what may come back: a program that called a tool, and a new one whose client names it or offers it tools.
Chats are not: they go to the engine as they come. Of a program with several calls open one stands for it; the others
wait while it is held, and else need no leave of their own.
"""

from collections import Counter
from collections.abc import Sequence

from executor.core.fleet import Fleet
from executor.core.working_sets import WorkingSets
from executor.door.line import DoorCall
from executor.door.programs import Program
from halo_vllm.policy.admission import Limits
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import EngineId, ProgramId


class DoorAdmission:
    """The written bound is that of `Limits`; without them everybody is let in."""

    def __init__(self, fleet: Fleet[DoorCall], limits: Limits | None) -> None:
        self._fleet = fleet
        self.sets: WorkingSets[DoorCall] = WorkingSets(fleet, limits)
        self._models = list(dict.fromkeys(model for view in fleet.views.values() for model in view.spec.served))
        self._standing: dict[str, DoorCall] = {}  # by conversation: a program's calls to one model
        self._behind: dict[str, list[DoorCall]] = {}
        self._of_tenant: Counter[str] = Counter()
        self.held: dict[DoorCall, None] = {}

    def of_tenant(self, tenant: str) -> int:
        """How many of its calls are held."""
        return self._of_tenant[tenant]

    def asks(self, call: DoorCall, at: float) -> bool:
        """Whether the call may go to an engine. If not, it is held until `admitted` gives it."""
        if call.conversation is None and not self._stands(call):
            return call not in self.held
        assert call.conversation is not None
        if self.sets.asks(call, call.conversation, (call.program.sequence, call.number), at):
            return True
        self._hold(call)
        return False

    def admitted(self, at: float) -> list[DoorCall]:
        """Of the calls that are held, those that may go to an engine from now on."""
        return [call for admitted in self.sets.admitted(at) for call in self._release(admitted)]

    def newly_held(self) -> list[tuple[Program, str]]:
        """Programs that are held since this was asked last, and why."""
        newly = self.sets.newly_held()
        return [(one.call.program, one.why.value) for one in newly if one.why is not None and one.call in self.held]

    def may_enter(self, call: DoorCall, engine: EngineId) -> bool:
        return call.conversation is None or self.sets.may_enter(call.conversation, call, engine)

    def sent(self, call: DoorCall, engine: EngineId, at: float) -> str:
        """Returns what there is to say about how long it was held, and why."""
        return "" if call.conversation is None else self.sets.sent(call.conversation, call, engine, at)

    def answered(self, call: DoorCall, tools: Sequence[ToolKey], at: float) -> None:
        """Its program keeps its room while a tool runs, for as long as that pays."""
        name = call.conversation
        if name is None:
            return
        self._stand_down(call)
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
        self._stand_down(call)
        self.sets.leave(name, at)
        behind = self._behind.pop(name, [])
        for other in behind:
            self._unhold(other)
        return behind

    def lost(self, engine: EngineId) -> list[DoorCall]:
        """The engine's KV is gone. Returns the calls that were let in but not sent yet: they have to ask anew."""
        return self.sets.lost(engine)

    def forgotten(self, program: ProgramId, at: float) -> None:
        """Nobody came back for it."""
        for model in self._models:
            self.sets.leave(_conversation(program, model), at)

    def _stands(self, call: DoorCall) -> bool:
        """Whether the call stands for its program from now on."""
        if not _may_come_back(call) or not self.sets.bounds(call.pool):
            return False
        name = _conversation(call.program.id, call.model)
        standing = self._standing.setdefault(name, call)
        if standing is call:
            call.conversation = name
        elif standing in self.held:
            self._behind.setdefault(name, []).append(call)
            self._hold(call)
        return standing is call

    def _stand_down(self, call: DoorCall) -> None:
        assert call.conversation is not None
        del self._standing[call.conversation]
        call.conversation = None

    def _release(self, call: DoorCall) -> list[DoorCall]:
        assert call.conversation is not None
        released = [call, *self._behind.pop(call.conversation, ())]
        for one in released:
            self._unhold(one)
        return released

    def _leave_those_behind(self, call: DoorCall) -> None:
        behind = self._behind.get(_conversation(call.program.id, call.model), [])
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


def _conversation(program: ProgramId, model: str) -> str:
    """Engines of different models share no KV."""
    return f"{program}\0{model}"
