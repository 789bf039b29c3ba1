"""/v1/plans: what would be done, told before anything is."""

import asyncio

from fastapi import APIRouter

from halo.priced_fleet import engines_or_reference
from halo.service import views
from halo.service.accept import plan_of, read_table
from halo.service.json_body import JsonRoute
from halo.service.parts import TheParts, TheTenant
from halo.service.schemas import PlanExplained, PlanRequest
from planner.foretell import foretell
from planner.job import JobPart

router = APIRouter(prefix="/v1/plans", tags=["plans"], route_class=JsonRoute)


@router.post("")
async def explain_plan(request: PlanRequest, parts: TheParts, tenant: TheTenant) -> PlanExplained:
    """The plan, and what it asks for on given rows, before and after merging. Nothing is queued, no model is called."""
    plan = plan_of(request, parts.catalog, parts.fleet.models)
    if request.rows is None:
        return views.explained(plan)
    table = await asyncio.to_thread(read_table, request.rows, plan, parts.bounds, "rows")
    fleet = engines_or_reference(parts.fleet.specs, parts.prices, "the engines of this service")
    told = await asyncio.to_thread(foretell, [JobPart(plan, table)], fleet.engines, fleet.origin)
    return views.explained(plan, table.notes, told.explanation)
