"""/v1/fleet/signals: what an autoscaler goes by."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from halo.fleet.seen import SeenModel, seen_models
from halo.service.parts import TheParts, TheTenant
from halo.service.schemas.fleet import FleetSignal, FleetSignals
from planner.errors import FleetImpossible
from planner.fleet.signals import TARGET_LOAD, signals
from planner.fleet.workload import Slo

router = APIRouter(prefix="/v1/fleet", tags=["fleet"])

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
    """Tokens a second asked for and possible, for each model: scale by these, not by how busy GPUs are."""
    served = [*await parts.store.served(window_s), *parts.door.served(window_s)]
    slo = Slo(token_ms / 1000 if token_ms is not None else None, first_token_s, call_s)
    models = seen_models(parts.fleet.specs, served, window_s, parts.prices)
    told = await asyncio.to_thread(lambda: [_signal(model, slo, target) for model in models])
    return FleetSignals(window_s=window_s, target_load=target, models=told)


def _signal(seen: SeenModel, slo: Slo, target: float) -> FleetSignal:
    told = FleetSignal(
        model=seen.model,
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
