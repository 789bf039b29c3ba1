"""From a request to a job that can be stored: what a user can get wrong is found before anything is queued."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from executor.slo import SloClass
from executor.store.jobs import NewJob
from halo.service.catalog import Catalog
from halo.service.fleet import Served
from halo.service.problems import NotServed, RequestInvalid
from halo.service.schemas.plans import PlanSource
from halo.service.schemas.runs import PRIORITIES, RunRequest
from halo.settings import Bounds
from planner.advice import advice
from planner.errors import Problem, RowsInvalid
from planner.ir.check import require_valid
from planner.ir.codec import decode, encode
from planner.ir.ids import JobId
from planner.ir.needs import models_of, tools_of
from planner.ir.plan import Generate, Input, Plan
from planner.ir.sites import bodies_at, walk
from planner.ir.values import Json, canonical_json
from planner.table import Table


def new_job(
    request: RunRequest,
    plan: Plan,
    bounds: Bounds,
    *,
    id: JobId,
    tenant: str,
    idempotency_key: str | None,
) -> NewJob:
    """Raises `RowsInvalid` or `RequestInvalid`."""
    read_table([request.input], plan, bounds, "input")
    _require_metadata(request.metadata, bounds)
    return NewJob(
        id=id,
        workflow=plan.name,
        plan=encode(plan),
        rows=[request.input],
        tenant=tenant,
        priority=_priority(request),
        idempotency_key=idempotency_key,
        request_hash=request_hash(request),
        metadata=request.metadata,
        cache=request.cache,
        slo=_slo(request),
        deadline_s=request.deadline_s,
    )


def _slo(request: RunRequest) -> SloClass:
    """What was said, else what the priority is called."""
    named = request.priority if isinstance(request.priority, str) else SloClass.STANDARD
    return SloClass(request.slo or named)


def _priority(request: RunRequest) -> int:
    """A number that was given, else that of the name that was, else the class's."""
    if isinstance(request.priority, int):
        return request.priority
    return PRIORITIES[request.priority if "priority" in request.model_fields_set else _slo(request)]


def request_hash(request: RunRequest) -> str:
    """Equal for bodies that say the same, however they are written; what was not said of time counts for nothing."""
    silent = {name for name in ("slo", "deadline_s", "on_late") if name not in request.model_fields_set}
    return hashlib.sha256(canonical_json(request.model_dump(exclude=silent)).encode()).hexdigest()


def plan_of(source: PlanSource, catalog: Catalog, served: Served) -> Plan:
    """The plan a request names or brings, to be run by the tenant to whom that is `served`.

    Raises `NotServed`, `PlanUnreadable` or `PlanInvalid`.
    """
    if source.plan is None:
        plan = _registered(source.workflow or "", catalog)
        problems = list(_kept_problems(plan, served))
    else:
        plan = decode(json.dumps(source.plan, ensure_ascii=False))
        require_valid(plan)
        problems = [*_tool_problems(plan, catalog), *_pattern_problems(plan), *_model_problems(plan, served)]
    if problems:
        raise NotServed("the plan asks for what is not here", problems)
    return plan


def read_table(rows: Sequence[Mapping[str, Json]], plan: Plan, bounds: Bounds, where: str) -> Table:
    """Raises `RowsInvalid` with what is wrong with every row: values, columns that are no input, sizes."""
    if len(rows) > bounds.rows:
        raise RequestInvalid(
            f"{len(rows)} rows are too many", [Problem(where, "is too long", f"keep to {bounds.rows}")]
        )
    strangers = [problem for index, row in enumerate(rows) for problem in _row_problems(row, index, plan, bounds)]
    try:
        table = Table.from_rows(rows, plan.inputs)
    except RowsInvalid as error:
        raise RowsInvalid((*error.problems, *strangers)) from None
    if strangers:
        raise RowsInvalid(tuple(strangers))
    return table


def _registered(name: str, catalog: Catalog) -> Plan:
    workflow = catalog.workflows.get(name)
    if workflow is None:
        problem = Problem("workflow", f"{name[:200]!r} is not registered here", advice(name, catalog.workflows))
        raise NotServed("there is no such workflow", [problem])
    return workflow.plan


def _tool_problems(plan: Plan, catalog: Catalog) -> Iterator[Problem]:
    """A plan may ask for less of a tool than its author allows, never for more, and not call it harmless."""
    for asked in tools_of(plan):
        where = f"tool {asked.name!r}"
        tool = catalog.tools.get(asked.name)
        if tool is None:
            yield Problem(where, "is not registered here", advice(asked.name, catalog.tools))
            continue
        allowed = tool.spec
        if asked.effect is not allowed.effect:
            yield Problem(f"{where}.effect", f"is {asked.effect.value!r}", f"it is {allowed.effect.value!r}")
        for name in ("timeout_s", "concurrency", "max_batch", "retries"):
            if getattr(asked, name) > getattr(allowed, name):
                most = getattr(allowed, name)
                yield Problem(f"{where}.{name}", f"is {getattr(asked, name)}", f"at most {most} is allowed")


def _model_problems(plan: Plan, served: Served) -> Iterator[Problem]:
    if served.models is None:
        yield from _kept_problems(plan, served)
        return
    for model in sorted(models_of(plan)):
        if model not in served.models:
            yield _unserved(model, served)


def _kept_problems(plan: Plan, served: Served) -> Iterator[Problem]:
    yield from (_unserved(model, served) for model in sorted(models_of(plan)) if model in served.kept)


def _unserved(model: str, served: Served) -> Problem:
    """Whether others' engines serve the model is not told."""
    fix = advice(model, served.models or ())
    if not served.kept:
        return Problem(f"model {model!r}", "is served by no engine", fix)
    whose = "engines are kept for tenants in the fleet file (`tenants`)"
    return Problem(f"model {model!r}", "is served by no engine that you may use", f"{fix}; {whose}")


def _pattern_problems(plan: Plan) -> Iterator[Problem]:
    """A regular expression can be written so that matching never ends; from strangers none is taken."""
    for where, schema in _schemas(plan):
        if _has_pattern(schema):
            fix = "leave it out, or register the workflow with the service"
            yield Problem(where, "holds a pattern, which a plan sent as JSON must not", fix)


def _schemas(plan: Plan) -> Iterator[tuple[str, Json]]:
    yield from _input_schemas("inputs", plan.inputs)
    for site in walk(plan):
        for prefix, body in bodies_at(site.path, site.stage):
            yield from _input_schemas(f"{prefix}inputs", body.plan.inputs)
        if isinstance(site.stage, Generate):
            yield f"{site.path}.schema", site.stage.schema
    yield from ((f"tool {tool.name!r}.parameters", tool.parameters) for tool in tools_of(plan))


def _input_schemas(where: str, inputs: Iterable[Input]) -> Iterator[tuple[str, Json]]:
    yield from ((f"{where}.{given.name}.schema", given.schema) for given in inputs)


def _has_pattern(schema: Json) -> bool:
    if isinstance(schema, dict):
        named = isinstance(schema.get("pattern"), str) or isinstance(schema.get("patternProperties"), dict)
        return named or any(_has_pattern(member) for member in schema.values())
    return isinstance(schema, list) and any(_has_pattern(member) for member in schema)


def _row_problems(row: Mapping[str, Json], index: int, plan: Plan, bounds: Bounds) -> Iterator[Problem]:
    known = [given.name for given in plan.inputs]
    for name in row:
        if name not in known:
            yield Problem(f"row {index + 1}, column {name[:100]!r}", "is no input of the plan", advice(name, known))
    size = len(canonical_json(row).encode())
    if size > bounds.row_bytes:
        yield Problem(f"row {index + 1}", f"is {size} bytes of JSON", f"keep a row to {bounds.row_bytes} bytes")


def _require_metadata(metadata: Mapping[str, Any], bounds: Bounds) -> None:
    size = len(canonical_json(metadata).encode())
    if size > bounds.metadata_bytes:
        problem = Problem("metadata", f"is {size} bytes of JSON", f"keep it to {bounds.metadata_bytes} bytes")
        raise RequestInvalid("the metadata is too large", [problem])
