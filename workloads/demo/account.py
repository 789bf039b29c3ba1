"""What a run did, where and when: its journal, fed once more to a scheduler, which says again what it said then."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from executor.commands import Abort, Command, Dispatch, FinishProgram, RunTool, SaveNode
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec
from executor.events import CallFinished, Event, NodeFailed, ToolFinished, ToolStarted
from executor.store.writes import NO_WORK, Work
from planner.ir.ids import EngineId, NodeRef, ProgramId
from planner.ir.paths import insides


@dataclass(frozen=True, slots=True)
class Span:
    """A call inside an engine, or a tool that ran (`engine` is None). Seconds count from the run's first event."""

    function: str
    engine: EngineId | None
    began_s: float
    ended_s: float

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s


@dataclass(frozen=True, slots=True)
class FunctionWork:
    """What one function of the workflow (an LLM call or a tool) took over all rows, and what was saved of it."""

    made: Work = NO_WORK
    saved: Work = NO_WORK


@dataclass(frozen=True, slots=True)
class Account:
    """`functions` stand in the order in which they first ran; `rows_ended_s` in order of time."""

    spans: Sequence[Span]
    functions: Mapping[str, FunctionWork]
    rows_ended_s: Sequence[float]

    @property
    def makespan_s(self) -> float:
        """From the first event until the last row ended."""
        return max(self.rows_ended_s, default=0.0)

    def of_engine(self, engine: EngineId | None) -> list[Span]:
        """The calls of an engine, or with None the runs of tools."""
        return [span for span in self.spans if span.engine == engine]

    def busy_share(self, engine: EngineId | None) -> float:
        """Of the makespan, how much had at least one call inside."""
        return _union_s(self.of_engine(engine)) / self.makespan_s if self.makespan_s else 0.0


def read_account(
    events: Iterable[Event], engines: Sequence[EngineSpec], limits: Limits | None = None, *, pace: float = 1.0
) -> Account:
    """The account of one run. `engines` and `limits` are those it ran with; it passed `pace` seconds in a real one."""
    reader = _Reader(Scheduler(engines, limits), pace)
    for event in events:
        reader.take(event)
    functions = {name: FunctionWork(reader.made[name], reader.saved[name]) for name in reader.names}
    return Account(tuple(reader.spans), functions, tuple(reader.rows_ended_s))


def function_of(path: str) -> str:
    """`repair_2#1/run_sql_3` is a call of `run_sql`; `solve#3/1`, a tool of an agent's turn, counts for `solve`."""
    name = re.sub(r"/\d+$", "", path).rpartition("/")[2]
    return re.sub(r"(_\d+)?([\[#?].*)?$", "", name)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one call or tool took."""

    function: str
    work: Work


class _Reader:
    def __init__(self, core: Scheduler, pace: float) -> None:
        self._core, self._pace = core, pace
        self._began_at: float | None = None
        self._open: dict[tuple[NodeRef, int], tuple[EngineId | None, float]] = {}
        self._done: dict[ProgramId, dict[str, list[_Part]]] = defaultdict(dict)
        self.spans: list[Span] = []
        self.rows_ended_s: list[float] = []
        self.names: dict[str, None] = {}
        self.made: dict[str, Work] = defaultdict(Work)
        self.saved: dict[str, Work] = defaultdict(Work)

    def take(self, event: Event) -> None:
        began = self._began_at = event.at if self._began_at is None else self._began_at
        at = (event.at - began) * self._pace
        match event:
            case ToolStarted(node=node, attempt=attempt):
                self._open[node, attempt] = None, at
            case ToolFinished(node=node, attempt=attempt):
                self._end(node, attempt, at, Work(tools=1))
            case CallFinished(node=node, attempt=attempt, usage=usage):
                self._end(node, attempt, at, Work.of_call(usage))
            case NodeFailed(node=node, attempt=attempt):
                self._end(node, attempt, at, None)
        for command in self._core.handle(event):
            self._perform(command, at)

    def _perform(self, command: Command, at: float) -> None:
        match command:
            case Dispatch(node=node, attempt=attempt, engine=engine):
                self._name(node)
                self._open[node, attempt] = engine, at
            case RunTool(node=node):
                self._name(node)
            case Abort(node=node, attempt=attempt):
                self._end(node, attempt, at, None)
            case SaveNode(node=node, shared_from=source) if source is not None:
                self._share(node, source)
            case FinishProgram():
                self.rows_ended_s.append(at)

    def _name(self, node: NodeRef) -> None:
        self.names.setdefault(function_of(node.path))

    def _end(self, node: NodeRef, attempt: int, at: float, work: Work | None) -> None:
        """`work` is None for what came to nothing."""
        if (begun := self._open.pop((node, attempt), None)) is None:
            return
        function = function_of(node.path)
        self.spans.append(Span(function, begun[0], begun[1], at))
        if work is not None:
            self._done[node.program][node.path] = [_Part(function, work)]
            self.made[function] += work

    def _share(self, node: NodeRef, source: NodeRef) -> None:
        """The node took what `source` had done, with all that is inside it."""
        parts = self._whole(source)
        self._done[node.program][node.path] = parts
        for part in parts:
            self.saved[part.function] += part.work

    def _whole(self, node: NodeRef) -> list[_Part]:
        done = self._done[node.program]
        if node.path in done:
            return done[node.path]
        return [part for path, parts in done.items() if path.startswith(insides(node.path)) for part in parts]


def _union_s(spans: Sequence[Span]) -> float:
    total, until = 0.0, 0.0
    for span in sorted(spans, key=lambda span: span.began_s):
        total += max(0.0, span.ended_s - max(span.began_s, until))
        until = max(until, span.ended_s)
    return total
