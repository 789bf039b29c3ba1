"""What each node took to do, so that it can be stored with its output and told when sharing saved it."""

from collections.abc import Mapping
from dataclasses import dataclass

from executor.engines.port import Usage
from executor.store.port import NO_WORK, SavedProgram, Work
from planner.ir.ids import ContentKey, EngineId, NodeRef, ProgramId
from planner.ir.paths import insides


@dataclass(frozen=True, slots=True)
class Done:
    """`work` includes what is inside the node; `tools` are those an agent's turn asks for."""

    work: Work = NO_WORK
    engine: EngineId | None = None
    tools: tuple[str, ...] = ()


class Ledger:
    """Entries by program and path, from a program's begin to its end; kept ones by key, as long as the output is."""

    def __init__(self) -> None:
        self._done: dict[ProgramId, dict[str, Done]] = {}
        self._kept: dict[ContentKey, Done] = {}

    def begin(self, program: ProgramId, saved: SavedProgram | None) -> None:
        """A program begins; `saved` is what an earlier process did for it."""
        self._done[program] = _done_before(saved) if saved else {}

    def end(self, program: ProgramId) -> None:
        self._done.pop(program, None)

    def called(self, node: NodeRef, usage: Usage, engine: EngineId, tools: tuple[str, ...]) -> None:
        self._done[node.program][node.path] = Done(Work.of_call(usage), engine, tools)

    def ran_tool(self, node: NodeRef) -> None:
        self._done[node.program][node.path] = Done(Work(tools=1))

    def of(self, node: NodeRef) -> Done:
        return self._done[node.program].get(node.path, Done())

    def keep(self, node: NodeRef, key: ContentKey) -> None:
        self._kept[key] = _whole(self._done[node.program], node.path)

    def take(self, node: NodeRef, key: ContentKey) -> None:
        self._done[node.program][node.path] = self._kept[key]

    def recall(self, key: ContentKey, saved: SavedProgram, path: str) -> None:
        """Keep under `key` what the node at `path` took in an earlier process."""
        self._kept[key] = _whole(_done_before(saved), path)

    def forget(self, key: ContentKey) -> None:
        self._kept.pop(key, None)


def _done_before(saved: SavedProgram) -> dict[str, Done]:
    return {path: Done(work, tools=saved.tools.get(path, ())) for path, work in saved.work.items()}


def _whole(done: Mapping[str, Done], path: str) -> Done:
    """What a node took, with all that is inside it."""
    if path in done:
        return done[path]
    inside = [part.work for name, part in done.items() if name.startswith(insides(path))]
    return Done(sum(inside, NO_WORK))
