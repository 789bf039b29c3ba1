"""What each node took to do, and when, so that it can be stored with its output and told when sharing saved it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from executor.engines.port import Usage
from executor.store.jobs import SavedProgram
from executor.store.writes import NO_WORK, Times, Work
from planner.ir.ids import ContentKey, EngineId, NodeRef, ProgramId
from planner.ir.paths import insides


@dataclass(frozen=True, slots=True)
class Done:
    """`work` includes what is inside the node; `tools` are those an agent's turn asks for."""

    work: Work = NO_WORK
    engine: EngineId | None = None
    tools: tuple[str, ...] = ()
    times: Times | None = None


@dataclass(slots=True)
class _Program:
    """By path: what is done, since when each call and tool is ready, and when its newest attempt began."""

    done: dict[str, Done]
    ready_at: dict[str, float] = field(default_factory=dict)
    begun_at: dict[str, float] = field(default_factory=dict)

    def times(self, path: str, ended_at: float) -> Times:
        begun_at = self.begun_at.pop(path, ended_at)
        return Times(self.ready_at.pop(path, begun_at), begun_at, ended_at)


class Ledger:
    """Entries by program and path, from a program's begin to its end; kept ones by key, as long as the output is.

    Instants are given in seconds of the driver's clock; at its 0, it was `epoch_s` seconds since 1970.
    """

    def __init__(self, epoch_s: float = 0.0) -> None:
        self._epoch_s = epoch_s
        self._programs: dict[ProgramId, _Program] = {}
        self._kept: dict[ContentKey, Done] = {}

    def begin(self, program: ProgramId, saved: SavedProgram | None) -> None:
        """A program begins; `saved` is what an earlier process did for it."""
        self._programs[program] = _Program(_done_before(saved) if saved else {})

    def end(self, program: ProgramId) -> None:
        self._programs.pop(program, None)

    def ready(self, node: NodeRef, at: float) -> None:
        """The inputs of a call or a tool are known. Attempts after the first were ready then too."""
        self._programs[node.program].ready_at.setdefault(node.path, at + self._epoch_s)

    def ready_at(self, node: NodeRef, at: float) -> float:
        """When the inputs of the call were known, in seconds since 1970: `at` where nobody said."""
        return self._programs[node.program].ready_at.get(node.path, at)

    def begun(self, node: NodeRef, at: float) -> None:
        self._programs[node.program].begun_at[node.path] = at + self._epoch_s

    def hand_over(self, node: NodeRef, heir: NodeRef) -> None:
        """What runs for `node` began when it began, whoever it is for by now."""
        begun_at = self._programs[node.program].begun_at.pop(node.path, None)
        if begun_at is not None:
            self._programs[heir.program].begun_at[heir.path] = begun_at

    def called(self, node: NodeRef, usage: Usage, engine: EngineId, tools: tuple[str, ...], at: float) -> None:
        program = self._programs[node.program]
        times = program.times(node.path, at + self._epoch_s)
        program.done[node.path] = Done(Work.of_call(usage), engine, tools, times)

    def ran_tool(self, node: NodeRef, at: float) -> None:
        program = self._programs[node.program]
        program.done[node.path] = Done(Work(tools=1), times=program.times(node.path, at + self._epoch_s))

    def recalled(self, node: NodeRef, work: Work, tools: tuple[str, ...]) -> None:
        """An earlier job did it, and took `work`."""
        program = self._programs.get(node.program)
        if program is not None:
            program.done[node.path] = Done(work, tools=tools)

    def of(self, node: NodeRef) -> Done:
        return self._programs[node.program].done.get(node.path, _NOTHING)

    def keep(self, node: NodeRef, key: ContentKey) -> None:
        self._kept[key] = _whole(self._programs[node.program].done, node.path)

    def take(self, node: NodeRef, key: ContentKey) -> None:
        self._programs[node.program].done[node.path] = self._kept[key]

    def recall(self, key: ContentKey, saved: SavedProgram, path: str) -> None:
        """Keep under `key` what the node at `path` took in an earlier process."""
        self._kept[key] = _whole(_done_before(saved), path)

    def forget(self, key: ContentKey) -> None:
        self._kept.pop(key, None)


_NOTHING = Done()


def _done_before(saved: SavedProgram) -> dict[str, Done]:
    return {path: Done(work, tools=saved.tools.get(path, ())) for path, work in saved.work.items()}


def _whole(done: Mapping[str, Done], path: str) -> Done:
    """What a node took, with all that is inside it."""
    if path in done:
        own = done[path]
        return Done(own.work, own.engine, own.tools)
    inside = [part.work for name, part in done.items() if name.startswith(insides(path))]
    return Done(sum(inside, NO_WORK))
