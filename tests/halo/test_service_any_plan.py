"""Plans come from strangers: any valid one is explained, run to an end and told, and no answer is a 500."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan_strategies import plans, rows_for
from service_stand import service

from executor.engines.port import EngineSpec
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.tools import ToolBody
from halo.service.catalog import Catalog
from planner.ir.codec import encode
from planner.ir.ids import EngineId
from planner.ir.plan import Effect, Plan, ToolSpec
from planner.ir.values import Json

Draw = Callable[..., Json]
ENGINE = EngineSpec(EngineId("e"), "scripted", ("small", "large"))


@dataclass(frozen=True)
class _Found:
    """A tool that finds the same whatever it is asked."""

    spec: ToolSpec
    isolated: bool = False
    target: str = ""
    memory_bytes: int = 0
    version: str | None = None

    @property
    def function(self) -> Callable[..., Any]:
        return self._find

    async def _find(self, **_: Json) -> Json:
        return {"rows": ["cats"], "k": "v"}


_SPECS = (
    ToolSpec("lookup", Effect.PURE),
    ToolSpec("search", Effect.IDEMPOTENT, retries=2),
    ToolSpec("send", Effect.UNSAFE),
)
TOOLS: dict[str, ToolBody] = {spec.name: _Found(spec) for spec in _SPECS}


@st.composite
def requests(draw: Draw) -> tuple[Plan, list[dict[str, Json]]]:
    plan = draw(plans())
    return plan, draw(rows_for(plan, max_rows=3))


@settings(max_examples=30, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(requests())
def test_any_plan_is_explained_run_to_an_end_and_analyzed(request: tuple[Plan, list[dict[str, Json]]]):
    asyncio.run(_explained_and_run(*request))


async def _explained_and_run(plan: Plan, rows: list[dict[str, Json]]) -> None:
    sent = {"plan": json.loads(encode(plan))}
    async with service(engines=[Scripted(ENGINE, Synthetic())], catalog=Catalog({}, TOOLS)) as stand:
        explained = await stand.api.post("/v1/plans", json={**sent, "rows": rows})
        assert explained.status_code == 200, explained.text
        for row in rows:
            await _runs_to_an_end(stand.api, {**sent, "input": row})


async def _runs_to_an_end(api: httpx.AsyncClient, body: dict[str, Json]) -> None:
    accepted = await api.post("/v1/runs", json=body)
    assert accepted.status_code == 202, accepted.text
    run = (await api.get(accepted.json()["links"]["wait"])).json()
    assert run["status"] in ("succeeded", "failed"), run
    assert (run["error"] is None) == (run["status"] == "succeeded")
    analyzed = await api.get(f"/v1/runs/{run['id']}/analyze")
    assert analyzed.status_code == 200, analyzed.text
    assert analyzed.json()["analysis"]["calls"] == run["usage"]["calls"]
    if run["status"] == "succeeded":
        assert analyzed.json()["analysis"]["calls"] <= analyzed.json()["analysis"]["prediction"]["calls"]["high"]
