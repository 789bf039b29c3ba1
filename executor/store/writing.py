"""One transaction a group of writes: the fence, node outputs, tools begun, programs and jobs that ended, counters."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Integer, Select, case, func, literal, select, update

from executor.store.bulk import (
    END_PROGRAMS,
    INSERT_BEGUN,
    INSERT_DECISIONS,
    INSERT_EVENTS,
    INSERT_OUTPUTS,
    select_at,
)
from executor.store.claims import check_fence, end_job
from executor.store.jobs import Claim, JobStatus
from executor.store.records import ENDED, PENDING, countable, counted, encode_failure
from executor.store.tables import TIMES, WORK_COLUMNS, jobs, nodes, programs, stored_text
from executor.store.writes import (
    DECISIONS_A_CLAIM,
    MADE,
    RECALLED,
    RESULT_CACHE,
    SAVED,
    DecisionMade,
    JobBelieved,
    JobEnded,
    NodeOutput,
    ProgramEnded,
    ToolBegun,
    Write,
)
from planner.ir.ids import JobId


@dataclass(frozen=True, slots=True)
class _Group:
    """Writes by kind, each node and row once: what is written first stands."""

    outputs: dict[tuple[int, str], NodeOutput] = field(default_factory=dict)
    begun: dict[tuple[int, str], ToolBegun] = field(default_factory=dict)
    ended: dict[int, ProgramEnded] = field(default_factory=dict)
    decisions: list[DecisionMade] = field(default_factory=list)
    believed: list[JobBelieved] = field(default_factory=list)
    job: list[JobEnded] = field(default_factory=list)


def write(connection: Connection, claim: Claim, writes: Sequence[Write]) -> None:
    group = _by_kind(writes)
    job_id = stored_text(claim.job)
    begun = [_begun_row(job_id, tool) for tool in group.begun.values()]
    outputs = [_output_row(job_id, output) for output in group.outputs.values()]
    check_fence(connection, claim)
    INSERT_BEGUN.run(connection, begun)
    if INSERT_OUTPUTS.run(connection, outputs) == len(outputs):
        _count_outputs(connection, claim.job, group.outputs.values())
    else:
        _count_again(connection, claim.job)
    _end_programs(connection, claim.job, group.ended)
    INSERT_DECISIONS.run(connection, [_decision_row(job_id, claim.attempt, one) for one in group.decisions])
    for believed in group.believed[:1]:
        _keep(connection, claim.job, jobs.c.beliefs, believed.beliefs)
    for job in group.job[:1]:
        if job.learnt is not None:
            _keep(connection, claim.job, jobs.c.learnt, job.learnt)
        end_job(connection, claim.job, JobStatus(job.status.value))


def _by_kind(writes: Iterable[Write]) -> _Group:
    group = _Group()
    for write in writes:
        if isinstance(write, NodeOutput):
            group.outputs.setdefault((write.row, write.path), write)
        elif isinstance(write, DecisionMade):
            group.decisions.append(write)
        elif isinstance(write, ProgramEnded):
            group.ended.setdefault(write.row, write)
        elif isinstance(write, ToolBegun):
            group.begun.setdefault((write.row, write.path), write)
        elif isinstance(write, JobBelieved):
            group.believed.append(write)
        else:
            group.job.append(write)
    return group


def _keep(connection: Connection, job: JobId, column: Column[Any], text: str) -> None:
    """What is written first stands."""
    connection.execute(update(jobs).where(jobs.c.id == job, column.is_(None)).values({column: text}))


def _begun_row(job_id: str, tool: ToolBegun) -> tuple[Any, ...]:
    path = stored_text(tool.path)
    return (job_id, tool.row, path, tool.attempt, "begun", *[None] * 5, *[0] * len(MADE), None, *_NO_TIMES)


def _decision_row(job_id: str, claim: int, made: DecisionMade) -> tuple[Any, ...]:
    seq = claim * DECISIONS_A_CLAIM + made.number
    return (job_id, seq, made.row, stored_text(made.path), made.attempt, made.at, stored_text(made.detail))


_NO_TIMES = (None,) * len(TIMES)


def _output_row(job_id: str, node: NodeOutput) -> tuple[Any, ...]:
    times = node.times
    job, row, path = node.shared_from or (None, None, None)
    return (
        job_id,
        node.row,
        stored_text(node.path),
        node.attempt,
        "done",
        None if node.output is None else stored_text(node.output),
        json.dumps(node.tools) if node.tools else None,
        None if job is None else stored_text(job),
        row,
        None if path is None else stored_text(path),
        *(countable(getattr(node.work, name)) for name in MADE),
        None if node.engine is None else stored_text(node.engine),
        *(_NO_TIMES if times is None else (times.ready_at, times.begun_at, times.ended_at)),
    )


def _count_outputs(connection: Connection, job: JobId, outputs: Iterable[NodeOutput]) -> None:
    more = {name: jobs.c[name] + count for name, count in counted(outputs).items() if count}
    if more:
        connection.execute(update(jobs).where(jobs.c.id == job).values(more))


def _count_again(connection: Connection, job: JobId) -> None:
    """Some of the outputs were there already: rare, so the sums are taken over all of the job's nodes."""
    sums = connection.execute(_sums(job)).one()
    connection.execute(update(jobs).where(jobs.c.id == job).values(sums._asdict()))


def _sums(job: JobId) -> Select[*tuple[Any, ...]]:
    own = nodes.c.shared_job.is_(None)
    recalled = nodes.c.shared_job == RESULT_CACHE[0]
    sums: list[ColumnElement[int]] = [_sum(name, own) for name in MADE]
    sums += [_sum(name, ~own) for name in SAVED] + [_sum(name, recalled) for name in RECALLED]
    return select(*sums).where(nodes.c.job_id == job)


def _sum(name: str, which: ColumnElement[bool]) -> ColumnElement[int]:
    column = nodes.c[WORK_COLUMNS[name.removeprefix("saved_").removeprefix("recalled_")]]
    return func.coalesce(func.sum(case((which, column), else_=0)), literal(0, Integer)).label(name)


def _end_programs(connection: Connection, job: JobId, ended: dict[int, ProgramEnded]) -> None:
    if not ended:
        return
    pending = _pending(connection, job, ended)
    new = [program for row, program in ended.items() if row in pending]
    if not new:
        return
    job_id = stored_text(job)
    END_PROGRAMS.run(connection, [_ended_row(job_id, program) for program in new])
    kinds = [(job_id, program.row, f"program.{program.status.value}", _reason(program)) for program in new]
    INSERT_EVENTS.run(connection, kinds)
    counts = {status: sum(program.status.value == status for program in new) for status in ENDED}
    more = {status: jobs.c[status] + count for status, count in counts.items() if count}
    connection.execute(update(jobs).where(jobs.c.id == job).values(more))


def _pending(connection: Connection, job: JobId, rows: Iterable[int]) -> set[int]:
    """Those of the rows whose programs have not ended."""
    key, keys = (programs.c.job_id, programs.c.row_index), [(job, row) for row in rows]
    found = select_at(connection, [programs.c.row_index], key, keys).where(programs.c.status == PENDING)
    return set(connection.execute(found).scalars())


def _ended_row(job_id: str, program: ProgramEnded) -> tuple[Any, ...]:
    result = None if program.result is None else stored_text(program.result)
    return (program.status.value, result, encode_failure(program.failure), job_id, program.row)


def _reason(program: ProgramEnded) -> str | None:
    """The event's detail, as JSON: why it failed, in a word."""
    return None if program.failure is None else json.dumps({"code": program.failure.code})
