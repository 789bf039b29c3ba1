"""/v1/plans: what would be done, told before anything is."""

import asyncio

from fastapi import APIRouter

from halo.service import views
from halo.service.accept import plan_of, read_table
from halo.service.json_body import JsonRoute
from halo.service.parts import TheParts, TheTenant
from halo.service.schemas import PlanExplained, PlanRequest
from planner.explain import explain
from planner.explanation import Explanation
from planner.job import JobPart
from planner.optimize import optimize

router = APIRouter(prefix="/v1/plans", tags=["plans"], route_class=JsonRoute)


@router.post("")
async def explain_plan(request: PlanRequest, parts: TheParts, tenant: TheTenant) -> PlanExplained:
    """The plan, and what it asks for on given rows, before and after merging. Nothing is queued, no model is called."""
    plan = plan_of(request, parts.catalog, parts.fleet.models)
    if request.rows is None:
        return views.explained(plan)
    table = await asyncio.to_thread(read_table, request.rows, plan, parts.bounds, "rows")
    return views.explained(plan, table.notes, await asyncio.to_thread(_forecast, JobPart(plan, table)))


def _forecast(part: JobPart) -> Explanation:
    return explain([part], optimize([part]))
