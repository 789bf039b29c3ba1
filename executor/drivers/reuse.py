"""What of a driver's work earlier jobs have done already, and what of it later ones may take."""

from collections.abc import Callable
from dataclasses import dataclass, field

from executor.drivers.recall import Fixed, Recall, fixed_work
from executor.drivers.revisions import Revisions
from executor.engines.port import GenerateRequest
from executor.events import Prepared
from executor.requests import ToolRequest
from executor.store.jobs import JobRecord
from executor.store.result_cache import CachedResult
from executor.store.writes import Work
from executor.tools import ToolRunner
from executor.values import Values
from planner.ir.ids import NodeRef, ProgramId


@dataclass(slots=True)
class _Program:
    """By path: fixed work that may have to be done, and of it what was done just now and is not yet saved."""

    fixed: dict[str, Fixed] = field(default_factory=dict)
    done: dict[str, Fixed] = field(default_factory=dict)


class Reuse:
    """Names fixed work for the result cache. Work that has no name is done as if there were no cache: of models whose
    weights are not known, and of tools that do not tell their version."""

    def __init__(self, recall: Recall, revisions: Revisions, tools: ToolRunner, values: Values) -> None:
        self._recall, self._revisions, self._tools, self._values = recall, revisions, tools, values
        self._programs: dict[ProgramId, _Program] = {}

    def look_up(self, event: Prepared, job: JobRecord, then: Callable[[CachedResult | None], None]) -> bool:
        """True when an earlier job seems to have done the work; `then` is told its result soon, or that it is gone."""
        if event.key is None or not job.cache or self._values.keeps(event.key):
            return False
        by, revision = self._doer(event.node)
        if revision is None:
            return False
        work = fixed_work(job.tenant, by, revision, event.key)
        self._programs.setdefault(event.node.program, _Program()).fixed[event.node.path] = work
        if not self._recall.knows(work):
            return False
        self._recall.ask(work, then)
        return True

    def done(self, node: NodeRef) -> None:
        """The node did its work itself, and well."""
        program = self._programs.get(node.program)
        work = program.fixed.pop(node.path, None) if program else None
        # Data that changed while a tool ran, or weights while a call did: nobody knows which of them it saw.
        if program is not None and work is not None and self._doer(node)[1] == work.revision:
            program.done[node.path] = work

    def save(self, node: NodeRef, output: str, took: Work) -> None:
        """Keep what the node gave, if it did its work itself and that is fixed."""
        program = self._programs.get(node.program)
        work = program.done.pop(node.path, None) if program else None
        if work is not None:
            self._recall.keep(CachedResult(work.name, work.tenant, work.by, output, took))

    def end(self, program: ProgramId) -> None:
        self._programs.pop(program, None)

    def _doer(self, node: NodeRef) -> tuple[str, str | None]:
        """The model or the tool that does it, and in which revision or version."""
        match self._values.request(node):
            case GenerateRequest(model=model):
                return model, self._revisions.of(model)
            case ToolRequest(spec=spec, arguments=arguments):
                return spec.name, self._tools.version(spec, arguments)
