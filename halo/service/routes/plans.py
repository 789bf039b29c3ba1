"""/v1/plans: what would be done, told before anything is."""

import asyncio
from collections.abc import Sequence

import structlog
from fastapi import APIRouter

from executor.drivers.experiences import MOST_SEEN
from executor.engines.port import EngineSpec
from executor.tokenization.counting import Counted
from halo.priced_fleet import Fleet, engines_or_reference
from halo.service import views
from halo.service.accept import plan_of, read_table
from halo.service.json_body import JsonRoute
from halo.service.parts import TheParts, TheTenant
from halo.service.schemas.plans import PlanExplained, PlanRequest
from halo.tokens import count_prompts, foretell_counted
from planner.cost.experience import experience_of
from planner.cost.history import Seen, history_of
from planner.explanation import Explanation
from planner.job import JobPart, JobPlan
from planner.optimize import optimize

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/v1/plans", tags=["plans"], route_class=JsonRoute)

UNCOUNTED = "no tokenizer of an engine was to be had: tokens are estimated by characters"


@router.post("")
async def explain_plan(request: PlanRequest, parts: TheParts, tenant: TheTenant) -> PlanExplained:
    """The plan, and what it asks for on given rows, before and after merging. Nothing is queued, no model is called.

    With `"tokenizer": "engines"` prompts are counted as the engines count them: by the tokenizer that the fleet file
    names for a model, else by its vLLM server. Where that is not to be had, `notes` say so.
    """
    plan = plan_of(request, parts.catalog, parts.fleet.served_to(tenant))
    if request.rows is None:
        return views.explained(plan)
    table = await asyncio.to_thread(read_table, request.rows, plan, parts.bounds, "rows")
    specs, part = parts.fleet.open_to(tenant), JobPart(plan, table)
    fleet = engines_or_reference(specs, parts.prices, "the engines of this service")
    job_plan = await asyncio.to_thread(optimize, [part])
    counted = await _counted(part, job_plan, specs) if request.tokenizer == "engines" else None
    seen = await parts.store.seen(plan.name, tenant, MOST_SEEN)
    told = await asyncio.to_thread(_foretold, part, job_plan, fleet, counted, seen)
    uncounted = [UNCOUNTED] if counted is not None and counted.problem else []
    return views.explained(plan, (*table.notes, *uncounted), told)


async def _counted(part: JobPart, job_plan: JobPlan, specs: Sequence[EngineSpec]) -> Counted:
    """Why nothing was counted is for the log: it names servers and folders."""
    counted = await count_prompts([part], job_plan, specs)
    if counted.problem:
        log.warning("prompts of a forecast are not counted in tokens", reason=counted.problem)
    return counted


def _foretold(
    part: JobPart, job_plan: JobPlan, fleet: Fleet, counted: Counted | None, seen: Sequence[Seen]
) -> Explanation:
    """With what earlier jobs of the workflow took."""
    experience = experience_of(part.plan, history_of(seen))
    return foretell_counted(part, job_plan, fleet, counted, experience).explanation
