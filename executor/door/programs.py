"""The programs that come through the door: who they are, in which order they came, and what they do between calls."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from halo_vllm.policy.tools import ToolKey
from kvstore.program_state import ProgramState
from planner.ir.ids import EngineId, ProgramId

#: What a state's `node` says of programs that are not run by Halo.
DOOR = "door"


@dataclass(slots=True, eq=False)
class Program:
    """`sequence` is the millisecond in which it began, or a little later: no two of a process have the same."""

    id: ProgramId
    sequence: int
    turns: int = 0
    attained_tokens: int = 0
    engine: EngineId | None = None
    context_tokens: int = 0
    kept_until: float | None = None
    doing: str = "waiting"
    since: float = 0.0
    tools: tuple[ToolKey, ...] = ()
    open_calls: int = 0
    cache_salt: str | None = None
    calls_tools: bool = False  # it did once

    def become(self, doing: str, at: float, tools: tuple[ToolKey, ...] = ()) -> None:
        self.doing, self.since, self.tools = doing, at, tools
        self.calls_tools |= bool(tools)

    def move(self, engine: EngineId) -> None:
        """Its next call runs there; what another engine holds of it is not believed for longer."""
        if engine != self.engine:
            self.engine, self.context_tokens, self.kept_until = engine, 0, None

    def state(self) -> ProgramState:
        tool = self.tools[0] if self.tools else None
        return ProgramState(
            program=self.id,
            version=0,
            node=DOOR,
            doing=self.doing,
            since=self.since,
            engine=self.engine,
            turns=self.turns,
            attained_tokens=self.attained_tokens,
            sequence=self.sequence,
            context_tokens=self.context_tokens,
            until=self.kept_until,
            tool=tool.tool if tool else "",
            tool_arguments=tool.arguments if tool else "",
        )


class Programs:
    """At most `most` are remembered beside those that have calls open, each for `idle_s` after its last call."""

    def __init__(self, most: int, idle_s: float) -> None:
        self._most, self._idle_s = most, idle_s
        self._known: OrderedDict[ProgramId, Program] = OrderedDict()
        self._last_sequence = 0

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Program]:
        return iter(self._known.values())

    def __contains__(self, program: ProgramId) -> bool:
        return program in self._known

    def enter(self, id: ProgramId, at: float, known: ProgramState | None) -> Program:
        """A call of the program came. `known` is its state as any replica saved it: later turns may have been there."""
        program = self._known.pop(id, None) or Program(id, self._next_sequence(at, known))
        self._known[id] = program
        if known is not None and known.turns > program.turns:
            program.turns, program.attained_tokens = known.turns, known.attained_tokens
            program.engine, program.context_tokens = known.engine, known.context_tokens
            program.kept_until = known.until
            program.calls_tools |= bool(known.tool)
        program.open_calls += 1
        return program

    def forget_old(self, at: float) -> list[Program]:
        """Those that are forgotten now."""
        forgotten = []
        for id in list(self._known):
            program = self._known[id]
            if len(self._known) <= self._most and program.since + self._idle_s >= at:
                break
            if program.open_calls:
                self._known.move_to_end(id)
            else:
                forgotten.append(self._known.pop(id))
        return forgotten

    def _next_sequence(self, at: float, known: ProgramState | None) -> int:
        if known is not None and known.sequence:
            return known.sequence
        self._last_sequence = max(self._last_sequence + 1, int(at * 1000))
        return self._last_sequence
