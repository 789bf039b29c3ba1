"""/v1/workflows, /v1/engines and /v1/tuning: what is here, and how it is set."""

from typing import Annotated

from fastapi import APIRouter, Path

from halo.service import views
from halo.service.parts import TheParts, TheTenant
from halo.service.problems import WorkflowUnknown
from halo.service.schemas.engines import EngineList
from halo.service.schemas.tuning import Tuning
from halo.service.schemas.workflows import WorkflowDetails, WorkflowList

router = APIRouter(prefix="/v1", tags=["catalog"])


@router.get("/workflows")
async def list_workflows(parts: TheParts, tenant: TheTenant) -> WorkflowList:
    """The workflows that runs may name."""
    workflows = parts.catalog.workflows
    return WorkflowList(workflows=[views.workflow_summary(workflows[name].plan) for name in sorted(workflows)])


@router.get("/workflows/{name}")
async def get_workflow(
    name: Annotated[str, Path(max_length=200)], parts: TheParts, tenant: TheTenant
) -> WorkflowDetails:
    """A workflow with the JSON schema of its input, and its plan."""
    workflow = parts.catalog.workflows.get(name)
    if workflow is None:
        raise WorkflowUnknown(f"no workflow {name!r} is registered here; GET /v1/workflows lists them")
    return views.workflow_details(workflow.plan)


@router.get("/engines")
async def list_engines(parts: TheParts, tenant: TheTenant) -> EngineList:
    """The engines and what they say of themselves; to operators all, to others those that take their calls."""
    told, found, draining = parts.door.hints(), await parts.fleet.look(), parts.draining
    seen = {spec.id for spec in parts.seen_by(tenant)}
    engines = [
        views.engine_state(
            spec,
            health,
            told[spec.id].values(),
            tenants=[name for name in spec.tenants if name == tenant or parts.operates(tenant)],
            draining=draining.drains(spec.id),
            calls=draining.inside(spec.id),
        )
        for spec, health in found
        if spec.id in seen
    ]
    return EngineList(engines=engines)


@router.get("/tuning")
async def get_tuning(parts: TheParts, tenant: TheTenant) -> Tuning:
    """How the scheduler's knobs stand in this process, what was found last, and whether a change is still watched."""
    return views.tuning(parts.tuning())
