"""What live jobs gave, on its way to the store: nodes, programs, and jobs that ended."""

import json
from collections.abc import Mapping

from executor.beliefs import encode_corrections
from executor.commands import Dispatch, FinishProgram, SaveNode, Status
from executor.drivers.job_beliefs import JobBeliefs
from executor.drivers.ledger import Ledger
from executor.drivers.live_job import LiveJob
from executor.drivers.reasons import Reasons
from executor.drivers.reuse import Reuse
from executor.drivers.writer import Writer
from executor.store.failures import Fenced
from executor.store.writes import RESULT_CACHE, JobEnded, NodeOutput, ProgramEnded, ToolBegun, Write
from executor.values import Values
from planner.cost.correction import Correction
from planner.ir.ids import EngineId, JobId, NodeRef, job_of, row_of


class Outcomes:
    """Written in the order they came in; with each, the job's progress moves on."""

    def __init__(
        self,
        writer: Writer,
        beliefs: JobBeliefs,
        values: Values,
        ledger: Ledger,
        reuse: Reuse | None,
        reasons: Reasons,
    ) -> None:
        self._writer, self._beliefs, self._values, self._ledger = writer, beliefs, values, ledger
        self._reuse, self._reasons = reuse, reasons

    def sent(self, job: LiveJob, command: Dispatch, at: float) -> None:
        """A call goes to its engine, at `at` seconds since 1970. Why is kept with the job, if anybody may ask."""
        made = self._reasons.sent(job.claim.job, command, self._ledger.ready_at(command.node, at), at)
        if made is not None:
            self._write(job, made)

    def save_node(self, job: LiveJob, command: SaveNode) -> None:
        node, shared = command.node, command.shared_from
        done = self._ledger.of(node)
        if shared is not None:
            job.progress.saved(done.work)
        elif command.recalled:
            job.progress.recalled(done.work)
        output = None if shared else json.dumps(self._values.output(node), ensure_ascii=False)
        if output is not None and self._reuse is not None:
            self._reuse.save(node, output, done.work)
        self._write(
            job,
            NodeOutput(
                row=row_of(node.program),
                path=node.path,
                attempt=command.attempt,
                output=output,
                tools=done.tools,
                shared_from=_source(command),
                work=done.work,
                engine=None if shared else done.engine,
                times=None if shared else done.times,
            ),
        )

    def finish_program(self, job: LiveJob, command: FinishProgram) -> None:
        result = None
        if command.status is Status.SUCCEEDED:
            result = json.dumps(self._values.output(NodeRef(command.program, "")), ensure_ascii=False)
        self._write(job, ProgramEnded(command.row, command.status, result, command.failure))
        job.progress.end(command.status)

    async def finish_job(self, job: LiveJob, status: Status, corrections: Mapping[EngineId, Correction]) -> None:
        """Tells whoever waits for the job once all of it is committed, or that somebody else took it over."""
        self._reasons.end(job.claim.job)
        self._write(job, JobEnded(status, encode_corrections(corrections)))
        committed = await self._writer.flush(job.claim)
        if job.ended.done():
            return
        if committed:
            job.ended.set_result(status)
        else:
            job.ended.set_exception(taken_over(job.claim.job))

    async def begin_tool(self, job: LiveJob, node: NodeRef, attempt: int) -> None:
        """An `unsafe` tool runs only after it is on record that it does."""
        self._write(job, ToolBegun(row_of(node.program), node.path, attempt))
        await self._writer.flush(job.claim)

    def _write(self, job: LiveJob, write: Write) -> None:
        if (first := self._beliefs.to_write(job.claim.job)) is not None:
            self._writer.add(job.claim, first)
        self._writer.add(job.claim, write)


def taken_over(job: JobId) -> Fenced:
    return Fenced(f"job {job} was taken over by another process")


def _source(command: SaveNode) -> tuple[JobId, int, str] | None:
    if command.recalled:
        return RESULT_CACHE
    node = command.shared_from
    return (job_of(node.program), row_of(node.program), node.path) if node else None
