"""/v1/runs: submit, look, wait, cancel."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from executor.policy.entrance import OnLate
from executor.store.failures import JobUnknown
from executor.store.jobs import JobRecord, JobStatus, NewJob
from halo.service import views
from halo.service.accept import new_job, plan_of
from halo.service.event_stream import event_stream
from halo.service.json_body import JsonRoute
from halo.service.live import live_of, wake_workers
from halo.service.parts import Parts, TheParts, TheTenant
from halo.service.problems import RequestInvalid
from halo.service.schemas.decisions import DecisionPage
from halo.service.schemas.runs import EventPage, RowPage, Run, RunAccepted, RunPage, RunRequest
from halo.service.waiting import until_ended
from planner.errors import Problem
from planner.ir.ids import JobId

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=JsonRoute)

RETRY_AFTER_S = 1
STREAM = "text/event-stream"

RunId = Annotated[str, Path(max_length=200, description="the id that the submit gave")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="the same key and body never make a second run",
    ),
]
Name = Annotated[str | None, Query(max_length=200)]
PageSize = Annotated[int, Query(ge=1, le=500)]
Seconds = Annotated[float, Query(ge=0, allow_inf_nan=False)]
Seq = Annotated[int, Query(ge=0, lt=2**63)]
_HEADER = {"schema": {"type": "string"}}


@router.post("", status_code=202, responses={202: {"headers": {"Location": _HEADER}}})
async def submit_run(
    request: RunRequest, response: Response, parts: TheParts, tenant: TheTenant, key: Key = None
) -> RunAccepted:
    """Accept one program to run. When this is answered, the run is stored and will be done."""
    plan = plan_of(request, parts.catalog, parts.fleet.served_to(tenant))
    job = new_job(request, plan, parts.bounds, id=parts.new_id(), tenant=tenant, idempotency_key=key)
    told = views.accepted(await _accept(job, OnLate(request.on_late), parts))
    await wake_workers(parts)
    response.headers["Location"] = told.links.run
    return told


async def _accept(job: NewJob, on_late: OnLate, parts: Parts) -> JobRecord:
    """A run that was accepted before is there already: no quota and no deadline is asked about a second time."""
    if parts.doorkeeper is None:
        return await parts.store.create_job(job)
    if job.idempotency_key is not None and (before := await parts.store.accepted(job)) is not None:
        return before
    return await parts.store.create_job(await parts.doorkeeper.admit(job, on_late))


@router.get("")
async def list_runs(
    parts: TheParts,
    tenant: TheTenant,
    status: JobStatus | None = None,
    workflow: Name = None,
    cursor: Name = None,
    limit: PageSize = 50,
) -> RunPage:
    """Newest first, a page at a time. `cursor` is the `next_cursor` of the page before."""
    before = await _last_seen(cursor, parts, tenant) if cursor else None
    records = await parts.store.jobs(tenant, status, workflow, before, limit + 1)
    page = [views.summary(record) for record in records[:limit]]
    return RunPage(runs=page, next_cursor=page[-1].id if len(records) > limit else None)


async def _last_seen(cursor: str, parts: Parts, tenant: str) -> JobId:
    try:
        return (await parts.store.job(JobId(cursor), tenant)).id
    except JobUnknown:
        what = f"{cursor[:100]!r} is the next_cursor of no page, or its run is gone since"
        problem = Problem("query.cursor", what, "leave it out to begin with the newest runs")
        raise RequestInvalid("the page cannot be found", [problem]) from None


@router.get("/{run_id}")
async def get_run(run_id: RunId, parts: TheParts, tenant: TheTenant) -> Run:
    """The run as it stands, with its result once it has one."""
    record = await parts.store.job(JobId(run_id), tenant)
    return await views.whole_run(record, parts.store, await live_of(record, parts))


@router.get(
    "/{run_id}/wait",
    responses={202: {"model": Run, "description": "not done yet: ask again", "headers": {"Retry-After": _HEADER}}},
)
async def wait_for_run(
    run_id: RunId,
    response: Response,
    parts: TheParts,
    tenant: TheTenant,
    timeout: Seconds = 30.0,  # noqa: ASYNC109 - the parameter of the address
) -> Run:
    """200 when the run is done; 202 with Retry-After when it is not done after `timeout` seconds."""
    record = await until_ended(parts, JobId(run_id), tenant, min(timeout, parts.bounds.wait_s))
    if not record.status.ended:
        response.status_code = 202
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return await views.whole_run(record, parts.store, await live_of(record, parts))


@router.post("/{run_id}/cancel", status_code=202)
async def cancel_run(run_id: RunId, parts: TheParts, tenant: TheTenant) -> Run:
    """Ask that the run be stopped; what it has finished is kept. Asking twice, or too late, changes nothing."""
    record = await parts.store.request_cancel(JobId(run_id), tenant)
    parts.cancel(record.id)
    if record.status.ended:
        parts.endings.tell(record.id)
    return await views.whole_run(record, parts.store, [])


@router.get("/{run_id}/rows")
async def list_rows(
    run_id: RunId,
    parts: TheParts,
    tenant: TheTenant,
    after: Annotated[int, Query(ge=-1, lt=2**31)] = -1,
    limit: PageSize = 200,
) -> RowPage:
    """What became of each row after row number `after`, in order, a page at a time. A run made here has row 0 alone."""
    record = await parts.store.job(JobId(run_id), tenant)
    return await views.rows_after(record, parts.store, after, limit)


@router.get(
    "/{run_id}/events",
    response_model=EventPage,
    responses={200: {"content": {STREAM: {"schema": {"type": "string"}}}}},
)
async def list_events(
    request: Request,
    run_id: RunId,
    parts: TheParts,
    tenant: TheTenant,
    after: Seq = 0,
    limit: PageSize = 200,
    last_event_id: Annotated[Seq | None, Header()] = None,
) -> EventPage | StreamingResponse:
    """What happened to the run after event number `after`, oldest first.

    Asked for `text/event-stream`, events are sent as they happen until the run ends; `Last-Event-ID` goes on
    after that one.
    """
    record = await parts.store.job(JobId(run_id), tenant)
    if STREAM in request.headers.get("accept", ""):
        return StreamingResponse(event_stream(parts, record, last_event_id or after), media_type=STREAM)
    events = [views.event(stored) for stored in await parts.store.events(record.id, after, limit)]
    return EventPage(events=events, next_after=events[-1].seq if events else after)


@router.get("/{run_id}/decisions")
async def list_decisions(
    run_id: RunId,
    parts: TheParts,
    tenant: TheTenant,
    after: Seq = 0,
    limit: PageSize = 200,
    row: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    node: Annotated[str | None, Query(max_length=2000)] = None,
) -> DecisionPage:
    """Why each call went to its engine, oldest first, after decision number `after`; and what waits now, and why.

    With `row` only of that row, with `node` only of the calls at that path.
    """
    record = await parts.store.job(JobId(run_id), tenant)
    found = await parts.store.decisions(record.id, after, limit, row, node)
    now = [] if record.status.ended else parts.doings(record.id)
    return views.decisions(record, found, after, now, parts.bounds.decisions)
