"""/v1/plans: what would be done, told before anything is."""

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter

from executor.drivers.experiences import MOST_SEEN
from halo.priced_fleet import Fleet, engines_or_reference
from halo.service import views
from halo.service.accept import plan_of, read_table
from halo.service.json_body import JsonRoute
from halo.service.parts import TheParts, TheTenant
from halo.service.schemas.plans import PlanExplained, PlanRequest
from planner.cost.experience import experience_of
from planner.cost.history import Seen, history_of
from planner.explanation import Explanation
from planner.foretell import foretell
from planner.job import JobPart

router = APIRouter(prefix="/v1/plans", tags=["plans"], route_class=JsonRoute)


@router.post("")
async def explain_plan(request: PlanRequest, parts: TheParts, tenant: TheTenant) -> PlanExplained:
    """The plan, and what it asks for on given rows, before and after merging. Nothing is queued, no model is called."""
    plan = plan_of(request, parts.catalog, parts.fleet.served_to(tenant))
    if request.rows is None:
        return views.explained(plan)
    table = await asyncio.to_thread(read_table, request.rows, plan, parts.bounds, "rows")
    fleet = engines_or_reference(parts.fleet.open_to(tenant), parts.prices, "the engines of this service")
    seen = await parts.store.seen(plan.name, tenant, MOST_SEEN)
    told = await asyncio.to_thread(_foretold, JobPart(plan, table), fleet, seen)
    return views.explained(plan, table.notes, told)


def _foretold(part: JobPart, fleet: Fleet, seen: Sequence[Seen]) -> Explanation:
    """With what earlier jobs of the workflow took."""
    experience = experience_of(part.plan, history_of(seen))
    return foretell([part], fleet.engines, fleet.origin, experience=experience).explanation
