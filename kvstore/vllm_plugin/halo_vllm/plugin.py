"""What vLLM loads by entry point: two calls into the engine's process, and an endpoint and metrics in the server's.

The endpoint is loaded only where `VLLM_PLUGINS` names it: `VLLM_PLUGINS=halo`.
"""

import asyncio
import json
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from prometheus_client import Gauge
from vllm.logger import init_logger
from vllm.v1.engine.core import EngineCore

from halo_vllm.counters import Counters
from halo_vllm.policy.hints import EVENTS, HINT_PATH, STATS_PATH

logger = init_logger(__name__)

READ_EVERY_S = 2.0
MOST_BODY_BYTES = 16_384


def register() -> None:
    """Entry point `vllm.general_plugins`: utility calls reach an engine's methods by name, so these become methods."""
    EngineCore.halo_hint = _hint
    EngineCore.halo_stats = _stats


def _hint(core: EngineCore, hint: dict[str, Any]) -> bool:
    take = getattr(core.scheduler, "halo_hint", None)
    return bool(take(hint)) if take is not None else False


def _stats(core: EngineCore) -> dict[str, float]:
    read = getattr(core.scheduler, "halo_stats", None)
    return dict(read()) if read is not None else {}


class HaloEndpoint:
    """Entry point `vllm.endpoint_plugins`: `POST /halo/hint`, `GET /halo/stats`, and the counters on `/metrics`."""

    name = "halo"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._engine: Any = None
        self._gauges: dict[str, Gauge] = {}
        self._reading: asyncio.Task[None] | None = None

    def attach_router(self, app: FastAPI) -> None:
        app.add_api_route(HINT_PATH, self.hint, methods=["POST"], status_code=202)
        app.add_api_route(STATS_PATH, self.stats, methods=["GET"])

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        self._engine = getattr(engine_client, "engine_core", None)
        if self._engine is None:
            logger.warning("halo_vllm: this server has no engine of its own; /halo answers 503")
            return
        self._gauges = {name: _gauge(name) for name in Counters().values()}
        self._reading = asyncio.create_task(self._read_for_ever(), name="halo_vllm counters")

    async def hint(self, request: Request) -> dict[str, bool]:
        """The body: `program`, `event` (one of EVENTS), `cache_salt` if calls have one, and hints of `policy.hints`."""
        body = await request.body()
        told = _told(body)
        return {"taken": any(await self._ask("halo_hint", told))}

    async def stats(self) -> dict[str, float]:
        """Summed over the engines of this server."""
        return _summed(await self._ask("halo_stats"))

    async def _ask(self, method: str, *args: Any) -> list[Any]:
        if self._engine is None:
            raise HTTPException(503, "this server has no engine of its own")
        ask_all = getattr(self._engine, "call_utility_all_async", None)
        if ask_all is not None:
            return list(await ask_all(method, *args))
        return [await self._engine.call_utility_async(method, *args)]

    async def _read_for_ever(self) -> None:
        while True:
            await asyncio.sleep(READ_EVERY_S)
            try:
                values = await self.stats()
            except Exception as problem:  # noqa: BLE001 - foreign code; counters are no reason to die
                logger.warning_once("halo_vllm: no counters from the engine (%s)", type(problem).__name__)
                continue
            for name, value in values.items():
                self._gauges[name].set(value)


def _told(body: bytes) -> Mapping[str, Any]:
    problem = f"send a JSON object with `program` (a text) and `event`, one of {', '.join(EVENTS)}"
    try:
        told = json.loads(body) if len(body) <= MOST_BODY_BYTES else None
    except ValueError:
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("program"), str) or told.get("event") not in EVENTS:
        raise HTTPException(422, problem)
    return told


def _gauge(name: str) -> Gauge:
    return Gauge(f"halo:{name}", f"halo_vllm: {name.replace('_', ' ')}", multiprocess_mode="mostrecent")


def _summed(values: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(value.get(name, 0.0) for value in values) for value in values[:1] for name in value}
