"""/healthz and /readyz, without a key, for supervisors and load balancers; /metrics, with an operator's."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from executor.store.failures import StoreUnavailable
from executor.store.port import Store
from halo.service.fleet import FleetView
from halo.service.live import state_check
from halo.service.parts import TheOperator, TheParts
from halo.service.schemas.health import Alive, Check, Readiness

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def alive() -> Alive:
    """The process answers."""
    return Alive()


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(parts: TheParts, operator: TheOperator) -> Response:
    """What calls did and do on which engine, for Prometheus: it sends an operator's key, where there are keys."""
    return Response(generate_latest(parts.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/readyz", responses={503: {"model": Readiness, "description": "not ready"}})
async def ready(response: Response, parts: TheParts) -> Readiness:
    """Whether runs are taken and worked on: 503 when the database does not answer, or no engine does."""
    database, engines = await _database(parts.store), await _engines(parts.fleet)
    state = await state_check(parts)
    told = Readiness(ready=database.ready and engines.ready, database=database, state=state, engines=engines)
    if not told.ready:
        response.status_code = 503
    return told


async def _database(store: Store) -> Check:
    try:
        await store.ping()
    except StoreUnavailable as error:
        return Check(ready=False, detail=f"does not answer: {error}")
    return Check(ready=True, detail="answers")


async def _engines(fleet: FleetView) -> Check:
    found = await fleet.look()
    ready = sum(health.ready for _, health in found)
    return Check(ready=ready > 0, detail=f"{ready} of {len(found)} ready")
