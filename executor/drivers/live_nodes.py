"""Calls and tools of live jobs while they run: each ends in one event, or, where it was aborted, in none."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b

import structlog

from executor.child_process import ToolFailed
from executor.clock import Clock
from executor.commands import Dispatch, RunTool
from executor.drivers.call_metrics import CallMetrics
from executor.drivers.ledger import Ledger
from executor.drivers.live_job import LiveJob
from executor.drivers.outcomes import Outcomes
from executor.drivers.reuse import Reuse
from executor.drivers.tasks import Tasks
from executor.drivers.underway import Running
from executor.drivers.writer import Writer
from executor.engines.port import Completion, Engine, EngineFailed, Failure, FailureClass
from executor.events import CallFinished, Event, NodeFailed, ToolFinished, ToolStarted
from executor.policy.places import Kind
from executor.policy.urgency import priority_of
from executor.tools import ToolRunner
from executor.values import Values
from planner.ir.ids import EngineId, NodeRef
from planner.ir.plan import Effect, ToolSpec

log = structlog.get_logger(__name__)


class LiveNodes:
    """`post` takes the events; `job_of` knows the job of a node that runs. The clock began at `epoch_s`: engines that
    several processes call are told instants of no process."""

    def __init__(
        self,
        engines: Mapping[EngineId, Engine],
        tools: ToolRunner,
        values: Values,
        ledger: Ledger,
        reuse: Reuse | None,
        writer: Writer,
        outcomes: Outcomes,
        tasks: Tasks,
        metrics: CallMetrics,
        clock: Clock,
        job_of: Callable[[NodeRef], LiveJob],
        post: Callable[[Event], None],
        epoch_s: float = 0.0,
    ) -> None:
        self._engines, self._tools, self._values, self._ledger, self._reuse = engines, tools, values, ledger, reuse
        self._writer, self._outcomes, self._tasks, self._metrics = writer, outcomes, tasks, metrics
        self._clock, self._job_of, self._post, self._epoch_s = clock, job_of, post, epoch_s

    def call(self, command: Dispatch) -> None:
        running = Running(command.node, command.attempt)
        self._tasks.begin(running, self._call(running, command.engine, command.due_s))

    def run_tool(self, command: RunTool) -> None:
        running = Running(command.node, command.attempt)
        self._tasks.begin(running, self._tool(running, command.spec))

    async def _call(self, running: Running, engine: EngineId, due_s: float | None) -> None:
        salt, id = self._job_of(running.node).cache_salt, call_id(running.node, running.attempt)
        priority = None if due_s is None else priority_of(self._epoch_s + due_s)
        request = replace(self._values.call(running.node), call_id=id, cache_salt=salt, priority=priority)
        try:
            if self._writer.crowded:
                await self._writer.room()
            began_s = self._clock.now()
            self._ledger.begun(running.node, began_s)
            completion = await self._engines[engine].generate(request)
        except EngineFailed as failed:
            self._metrics.failed(Kind.JOBS, engine, failed.failure.code)
            self._failed(running, failed.failure)
        except Exception as error:  # an engine body that breaks its promise must not stop the others
            log.exception("engine body failed", engine=engine)
            self._failed(
                running, Failure(FailureClass.ENGINE, "engine_body_failed", f"{type(error).__name__}: {error}")
            )
        else:
            self._metrics.answered(Kind.JOBS, engine, completion.usage, self._clock.now() - began_s)
            self._ended(running, self._completed(running, engine, completion))

    def _completed(self, running: Running, engine: EngineId, completion: Completion) -> Event:
        node, attempt, at = running.node, running.attempt, self._clock.now()
        self._job_of(node).progress.called(completion.usage)
        event = self._values.take_completion(node, attempt, completion, at)
        if isinstance(event, CallFinished):
            self._ledger.called(node, completion.usage, engine, event.tools, at)
            self._note_done(node)
        return event

    async def _tool(self, running: Running, spec: ToolSpec) -> None:
        if spec.effect is Effect.UNSAFE:
            await self._outcomes.begin_tool(self._job_of(running.node), running.node, running.attempt)
        arguments = self._values.tool(running.node).arguments
        try:
            result = await self._tools.run(spec, arguments, lambda: self._tool_begun(running))
        except ToolFailed as failed:
            self._failed(running, failed.failure)
            return
        now = self._clock.now()
        self._job_of(running.node).progress.tools += 1
        self._values.take_tool_result(running.node, result)
        self._ledger.ran_tool(running.node, now)
        self._note_done(running.node)
        self._ended(running, ToolFinished(now, running.node, running.attempt))

    def _tool_begun(self, running: Running) -> None:
        """It has a slot of its own or stands in a batch that begins: until now it waited."""
        began = self._clock.now()
        self._ledger.begun(running.node, began)
        self._post(ToolStarted(began, running.node, running.attempt))

    def _note_done(self, node: NodeRef) -> None:
        if self._reuse is not None:
            self._reuse.done(node)

    def _failed(self, running: Running, failure: Failure) -> None:
        self._ended(running, NodeFailed(self._clock.now(), running.node, running.attempt, failure))

    def _ended(self, running: Running, event: Event) -> None:
        if self._tasks.end(running):
            self._post(event)


def call_id(node: NodeRef, attempt: int) -> str:
    """The same call of the same program has the same id in every process; another attempt has another."""
    return blake2b(f"{node}@{attempt}".encode(), digest_size=16).hexdigest()
