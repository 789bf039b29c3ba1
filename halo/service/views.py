"""From stored values to what is told over HTTP."""

import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from urllib.parse import quote

from executor.core import waiting
from executor.decisions import Considered, decode_decision
from executor.drivers.reasons import every
from executor.engines.port import EngineHealth, EngineSpec, Failure
from executor.store.jobs import JobRecord, JobStatus
from executor.store.port import Store
from executor.store.told import ResultRow, StoredDecision, StoredEvent
from halo.deadline import took_s
from halo.service.schemas.decisions import DecisionPage, EngineConsidered, RunDecision, RunDoing
from halo.service.schemas.engines import EngineState
from halo.service.schemas.jobs import JobAnalyzed
from halo.service.schemas.plans import PlanExplained
from halo.service.schemas.runs import (
    Doing,
    Links,
    RowPage,
    Run,
    RunAccepted,
    RunDeadline,
    RunError,
    RunEvent,
    RunRow,
    RunSummary,
)
from halo.service.schemas.tuning import Tuning, TuningFound
from halo.service.schemas.workflows import WorkflowDetails, WorkflowSummary
from halo.tuning import TuningState
from kvstore.program_state import ProgramState
from planner.analysis import Analysis
from planner.explanation import Explanation
from planner.ir.codec import encode
from planner.ir.ids import JobId
from planner.ir.needs import models_of, tools_of
from planner.ir.plan import Input, Plan
from planner.ir.render import render
from planner.ir.sites import walk
from planner.ir.values import Json


def accepted(record: JobRecord) -> RunAccepted:
    return RunAccepted(id=record.id, workflow=record.workflow, created_at=record.created_at, links=_links(record.id))


def summary(record: JobRecord) -> RunSummary:
    return RunSummary(**_summary(record))


async def whole_run(record: JobRecord, store: Store, live: list[Doing]) -> Run:
    """The run with its result or its failure, if it is of one row and has ended."""
    end = await _only_row(record, store)
    return Run(
        **_summary(record),
        result=end.result if end else None,
        error=_error(end.failure) if end and end.failure else None,
        live=live,
        usage=dict(await store.usage(record.id)),
    )


def doing(state: ProgramState) -> Doing:
    return Doing(
        program=state.program,
        node=state.node,
        doing=state.doing,
        since=state.since,
        engine=state.engine,
        turns=state.turns,
        attained_tokens=state.attained_tokens,
    )


def tuning(state: TuningState | None) -> Tuning:
    if state is None:
        return Tuning(on=False)
    found = None if state.found is None else TuningFound(**asdict(state.found))
    told = {name: getattr(state, name) for name in ("looks", "failures", "changes", "rollbacks", "why", "watching")}
    return Tuning(on=True, setting=dict(state.setting), began=dict(state.began), found=found, **told)


def event(stored: StoredEvent) -> RunEvent:
    return RunEvent(seq=stored.seq, kind=stored.kind, at=stored.at, row=stored.row, detail=stored.detail)


def decisions(
    record: JobRecord, found: Sequence[StoredDecision], after: int, now: Sequence[waiting.Doing], most_programs: int
) -> DecisionPage:
    """They are kept of `most_programs` programs of the run."""
    return DecisionPage(
        decisions=[decision(stored) for stored in found],
        next_after=found[-1].seq if found else after,
        every=every(record.rows, most_programs) if most_programs else 0,
        now=[_doing_now(one) for one in now],
    )


def workflow_summary(plan: Plan) -> WorkflowSummary:
    return WorkflowSummary(**_workflow(plan))


def workflow_details(plan: Plan) -> WorkflowDetails:
    return WorkflowDetails(
        **_workflow(plan),
        inputs=input_schema(plan),
        models=sorted(models_of(plan)),
        tools=[tool.name for tool in tools_of(plan)],
        plan=render(plan),
        document=json.loads(encode(plan)),
    )


def explained(plan: Plan, notes: Sequence[str] = (), forecast: Explanation | None = None) -> PlanExplained:
    return PlanExplained(
        name=plan.name,
        version=plan.version,
        models=sorted(models_of(plan)),
        tools=[tool.name for tool in tools_of(plan)],
        plan=render(plan),
        notes=list(notes),
        forecast=forecast.to_json() if forecast else None,
        text=forecast.to_text() if forecast else None,
    )


def analyzed(job: str, found: Analysis) -> JobAnalyzed:
    return JobAnalyzed(
        id=job,
        rows=sum(found.prediction.rows),
        rows_ended=found.rows_ended,
        seconds=found.seconds,
        analysis=found.to_json(),
        text=found.to_text(),
    )


def input_schema(plan: Plan) -> dict[str, Json]:
    """A JSON schema of the object a run takes as its input."""
    properties: dict[str, Json] = {}
    for given in plan.inputs:
        properties[given.name] = _embedded(given)
        if given.default is not None:
            properties[given.name]["default"] = given.default.value
    required = [given.name for given in plan.inputs if given.default is None]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _embedded(given: Input) -> dict[str, Json]:
    """References inside the schema of an input are meant from its own root; an `$id` makes it one."""
    schema = dict(given.schema or {})
    return {"$id": f"urn:halo:input:{quote(given.name)}", **schema} if "$defs" in schema else schema


def engine_state(
    spec: EngineSpec,
    health: EngineHealth,
    hints: Mapping[str, int],
    *,
    tenants: Sequence[str],
    draining: bool,
    calls: int,
) -> EngineState:
    return EngineState(
        id=spec.id,
        kind=spec.kind,
        gpu=spec.gpu,
        models=list(health.models or spec.models),
        tenants=list(tenants),
        max_running=spec.max_running,
        context_tokens=health.context_tokens or spec.context_tokens,
        price_per_hour=spec.price_per_hour,
        ready=health.ready,
        version=health.version,
        detail=health.detail,
        retention=health.rung,
        draining=draining,
        calls=calls,
        hints=dict(hints),
    )


def decision(stored: StoredDecision) -> RunDecision:
    made = decode_decision(stored.detail)
    return RunDecision(
        seq=stored.seq,
        at=stored.at,
        row=stored.row,
        path=stored.path,
        attempt=stored.attempt,
        engine=made.engine,
        reason=made.reason,
        waited_s=made.waited_s,
        engines=made.engines,
        considered=[_considered(one) for one in made.considered],
        after=made.after,
    )


def _considered(one: Considered) -> EngineConsidered:
    return EngineConsidered(
        engine=one.engine,
        queue_s=one.queue_s,
        prefill_s=one.prefill_s,
        decode_s=one.decode_s,
        done_s=round(one.done_s, 4),
        prompt_tokens=one.prompt_tokens,
        warm_tokens=one.warm_tokens,
        running=one.running,
        room=one.room,
    )


def _doing_now(one: waiting.Doing) -> RunDoing:
    return RunDoing(row=one.row, path=one.path, attempt=one.attempt, waits=one.waits, why=one.why, engine=one.engine)


def _summary(record: JobRecord) -> dict[str, Json]:
    return {
        "id": record.id,
        "workflow": record.workflow,
        "status": record.status.value,
        "priority": record.priority,
        "rows": record.rows,
        "counts": dict(record.counts),
        "metadata": dict(record.metadata),
        "created_at": record.created_at,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "cancel_requested": record.cancel_requested,
        "slo": record.slo.value,
        "deadline": _deadline(record),
        "links": _links(record.id),
    }


def _deadline(record: JobRecord) -> RunDeadline | None:
    if record.deadline_s is None:
        return None
    if (took := took_s(record)) is None:
        return RunDeadline(deadline_s=record.deadline_s)
    left_s = record.deadline_s - took
    return RunDeadline(deadline_s=record.deadline_s, took_s=round(took, 3), met=left_s >= 0, left_s=round(left_s, 3))


def _links(job: JobId) -> Links:
    address = f"/v1/runs/{job}"
    return Links(run=address, wait=f"{address}/wait", events=f"{address}/events", cancel=f"{address}/cancel")


async def _only_row(record: JobRecord, store: Store) -> ResultRow | None:
    if record.rows != 1 or record.status not in (JobStatus.SUCCEEDED, JobStatus.FAILED):
        return None
    async with aclosing(store.results(record.id)) as rows:  # type: ignore[type-var] # bodies are generators
        return await anext(aiter(rows), None)


async def rows_after(record: JobRecord, store: Store, after: int, limit: int) -> RowPage:
    """At most `limit` rows of the run."""
    found: list[RunRow] = []
    async with aclosing(store.results(record.id, after)) as ends:  # type: ignore[type-var] # bodies are generators
        async for end in ends:
            found.append(_row(end))
            if len(found) == limit:
                break
    return RowPage(rows=found, next_after=found[-1].row if found else after)


def _row(end: ResultRow) -> RunRow:
    failed = _error(end.failure) if end.failure else None
    return RunRow(row=end.row, status=end.status or "pending", result=end.result, error=failed)


def _error(failure: Failure) -> RunError:
    return RunError(code=failure.code, message=failure.message, kind=failure.failure_class.value)


def _workflow(plan: Plan) -> dict[str, Json]:
    return {"name": plan.name, "version": plan.version, "stages": sum(1 for _ in walk(plan))}
