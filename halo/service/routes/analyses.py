"""/v1/runs/{id}/analyze and /v1/jobs/{id}/analyze: what was predicted, and what became of it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from halo.analysis import analyze_job
from halo.priced_fleet import engines_or_reference
from halo.service import views
from halo.service.json_body import JsonRoute
from halo.service.parts import TheParts, TheTenant
from halo.service.schemas.jobs import JobAnalyzed
from planner.ir.ids import JobId
from planner.page import analysis_page

router = APIRouter(prefix="/v1", tags=["runs"], route_class=JsonRoute)

PAGE = "text/html"
_BOTH: dict[int | str, dict[str, Any]] = {200: {"content": {PAGE: {"schema": {"type": "string"}}}}}

RunId = Annotated[str, Path(max_length=200, description="the id that the submit gave")]


@router.get("/runs/{run_id}/analyze", response_model=JobAnalyzed, responses=_BOTH)
async def analyze_run(
    request: Request, run_id: RunId, parts: TheParts, tenant: TheTenant
) -> JobAnalyzed | HTMLResponse:
    """What was predicted of each stage, what became of it, and what each pass of the planner saved.

    The prediction is made again from what was submitted. Asked for `text/html`, the answer is one page by itself. While
    the run goes on, figures are of what has finished.
    """
    fleet = engines_or_reference(parts.fleet.open_to(tenant), parts.prices, "the engines of this service")
    found = await analyze_job(parts.store, JobId(run_id), fleet, tenant)
    if PAGE in request.headers.get("accept", ""):
        return HTMLResponse(analysis_page(found))
    return views.analyzed(run_id, found)


@router.get("/jobs/{run_id}/analyze", response_model=JobAnalyzed, responses=_BOTH)
async def analyze_any_job(
    request: Request, run_id: RunId, parts: TheParts, tenant: TheTenant
) -> JobAnalyzed | HTMLResponse:
    """The same, by the name that jobs of many rows go by."""
    return await analyze_run(request, run_id, parts, tenant)
