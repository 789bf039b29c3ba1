"""/v1/fleet: what an autoscaler goes by, and engines that an operator takes out."""

import asyncio
from collections.abc import Sequence, Set
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query

from executor.engines.port import EngineSpec
from halo.fleet.seen import SeenModel, seen_models
from halo.service.parts import Parts, TheOperator, TheParts, TheTenant
from halo.service.problems import EngineUnknown
from halo.service.schemas.engines import EngineDrained
from halo.service.schemas.fleet import FleetSignal, FleetSignals
from planner.errors import FleetImpossible
from planner.fleet.signals import TARGET_LOAD, signals
from planner.fleet.workload import Slo
from planner.ir.ids import EngineId

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/v1/fleet", tags=["fleet"])

_Engine = Annotated[str, Path(max_length=200)]
_Seconds = Annotated[float | None, Query(ge=0.001)]


@router.get("/signals")
async def fleet_signals(
    parts: TheParts,
    tenant: TheTenant,
    window_s: Annotated[float, Query(ge=1, le=3600)] = 300.0,
    token_ms: _Seconds = None,
    first_token_s: _Seconds = None,
    call_s: _Seconds = None,
    target: Annotated[float, Query(ge=0.01, le=1)] = TARGET_LOAD,
) -> FleetSignals:
    """Tokens a second asked for and possible, for each model: scale by these, not by how busy GPUs are.

    To operators of all engines, to others of those that take their calls.
    """
    served = [*await parts.store.served(window_s), *parts.door.served(window_s)]
    slo = Slo(token_ms / 1000 if token_ms is not None else None, first_token_s, call_s)
    models = seen_models(parts.seen_by(tenant), served, window_s, parts.prices)
    hidden = {name for model in models for name in model.tenants if name != tenant and not parts.operates(tenant)}
    told = await asyncio.to_thread(lambda: [_signal(model, slo, target, hidden) for model in models])
    return FleetSignals(window_s=window_s, target_load=target, models=told)


@router.post("/engines/{engine:path}/drain")
async def drain_engine(engine: _Engine, parts: TheParts, operator: TheOperator) -> EngineDrained:
    """Send nothing more to the engine. What it has ends there; programs whose KV it keeps go on elsewhere.

    Other replicas follow within a second or two, and so does every later start, until it is resumed.
    """
    id = _known(engine, parts)
    log.info("told to drain an engine", engine=id, operator=operator)
    await parts.draining.drain(id, operator)
    return _drained(id, parts)


@router.post("/engines/{engine:path}/resume")
async def resume_engine(engine: _Engine, parts: TheParts, operator: TheOperator) -> EngineDrained:
    """Send calls to the engine again, from every replica."""
    id = _known(engine, parts)
    log.info("told to resume an engine", engine=id, operator=operator)
    await parts.draining.resume(id)
    return _drained(id, parts)


def _known(engine: str, parts: Parts) -> EngineId:
    known = [spec.id for spec in parts.fleet.specs]
    if engine not in known:
        raise EngineUnknown(f"the fleet has no engine {engine!r}; it has: {', '.join(known) or 'none'}")
    return EngineId(engine)


def _drained(engine: EngineId, parts: Parts) -> EngineDrained:
    draining, specs = parts.draining, parts.fleet.specs
    (mine,) = (spec for spec in specs if spec.id == engine)
    others = [spec for spec in specs if not draining.drains(spec.id)]
    unserved = [model for model in mine.served if not _served(model, mine.tenants or ("",), others)]
    return EngineDrained(id=engine, draining=draining.drains(engine), calls=draining.inside(engine), unserved=unserved)


def _served(model: str, tenants: Sequence[str], engines: Sequence[EngineSpec]) -> bool:
    """To each of the tenants; an engine that is kept for some serves it to nobody without a name."""
    return all(any(engine.serves(model, tenant) for engine in engines) for tenant in tenants)


def _signal(seen: SeenModel, slo: Slo, target: float, hidden: Set[str]) -> FleetSignal:
    told = FleetSignal(
        model=seen.model,
        tenants=[name for name in seen.tenants if name not in hidden],
        engines=sum(seen.engines.values()),
        calls_per_s=seen.calls_per_s,
        prefill_demanded=seen.prefill_per_s,
        decode_demanded=seen.decode_per_s,
    )
    if seen.workload is None:
        return told.model_copy(update={"note": "no call was answered"})
    try:
        (found,) = signals(seen.workload, slo, seen.engines, target)
    except FleetImpossible as problem:
        return told.model_copy(update={"note": str(problem)})
    possible = {"prefill_possible": found.prefill_possible, "decode_possible": found.decode_possible}
    return told.model_copy(update=possible | {"load": found.load, "engines_wanted": found.engines_wanted})
