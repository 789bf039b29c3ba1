"""GET /v1/fleet/signals where engines are kept for tenants."""

from dataclasses import replace
from hashlib import sha256

from service_stand import SPEC, service

from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from planner.ir.ids import EngineId

ANNS = replace(SPEC, id=EngineId("anns-own"), tenants=("ann", "cy"))


async def test_engines_that_are_kept_for_tenants_are_scaled_by_what_these_ask() -> None:
    keys = {sha256(name.encode()).hexdigest(): name for name in ("ann", "bob", "ops")}
    engines = [Scripted(SPEC, Synthetic(7)), Scripted(ANNS, Synthetic(7))]
    seen = {}
    async with service(engines=engines, tenants=keys, operators=("ops",)) as stand:
        run = {"workflow": "greet", "input": {"name": "ada"}}
        head = {who: {"Authorization": f"Bearer {who}"} for who in keys.values()}
        run_id = (await stand.api.post("/v1/runs", json=run, headers=head["bob"])).json()["id"]
        await stand.api.get(f"/v1/runs/{run_id}/wait", headers=head["bob"])
        for who in head:
            seen[who] = (await stand.api.get("/v1/fleet/signals", headers=head[who])).json()["models"]
    assert {who: [(one["tenants"], one["engines"]) for one in models] for who, models in seen.items()} == {
        "ann": [([], 1), (["ann"], 1)],
        "bob": [([], 1)],
        "ops": [([], 1), (["ann", "cy"], 1)],
    }
    everybodys, anns = seen["ops"]
    assert everybodys["calls_per_s"] > 0 == anns["calls_per_s"]
