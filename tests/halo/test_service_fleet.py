"""/v1/fleet: what was asked of engines lately and what is possible, and engines that an operator takes out."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

import pytest
from service_stand import SPEC, service
from structlog.testing import capture_logs

from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.store.failures import StoreUnavailable
from executor.store.memory import MemoryStore
from halo.service.draining import LOOK_S, Draining
from planner.ir.ids import EngineId

OTHER = replace(SPEC, id=EngineId("small-1"))


async def test_signals_tell_what_engines_were_asked_and_can_do() -> None:
    async with service() as stand:
        (before,) = (await stand.api.get("/v1/fleet/signals")).json()["models"]
        run = (await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}})).json()["id"]
        await stand.api.get(f"/v1/runs/{run}/wait")
        body = {"model": "small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        assert (await stand.api.post("/v1/chat/completions", json=body)).status_code == 200
        asked = "/v1/fleet/signals?window_s=60&token_ms=50"
        (after,) = (await stand.api.get(asked)).json()["models"]
    assert (before["model"], before["calls_per_s"], before["load"]) == ("small", 0.0, None)
    assert before["note"] == "no call was answered"
    assert (after["engines"], after["calls_per_s"]) == (1, 2 / 60)
    assert after["decode_possible"] > after["decode_demanded"] > 0
    assert after["load"] == after["decode_demanded"] / after["decode_possible"]
    assert after["engines_wanted"] == 1


async def test_bounds_that_no_engine_keeps_are_told() -> None:
    async with service() as stand:
        run = (await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}})).json()["id"]
        await stand.api.get(f"/v1/runs/{run}/wait")
        (signal,) = (await stand.api.get("/v1/fleet/signals?token_ms=0.001")).json()["models"]
        refused = await stand.api.get("/v1/fleet/signals?window_s=0")
    assert "no engine of the fleet keeps the bounds" in signal["note"]
    assert signal["load"] is None
    assert refused.status_code == 422


async def test_a_drained_engine_is_sent_nothing_until_it_is_resumed() -> None:
    async with service(engines=[Scripted(SPEC, Synthetic(7)), Scripted(OTHER, Synthetic(7))]) as stand:
        drained = (await stand.api.post("/v1/fleet/engines/small-0/drain")).json()
        for name in ("ada", "bob"):
            run = (await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": name}})).json()["id"]
            assert (await stand.api.get(f"/v1/runs/{run}/wait")).json()["status"] == "succeeded"
            decisions = (await stand.api.get(f"/v1/runs/{run}/decisions")).json()["decisions"]
            assert {one["engine"] for one in decisions} == {OTHER.id}
            body = {"model": "small", "messages": [{"role": "user", "content": f"hello {name}"}], "max_tokens": 8}
            assert (await stand.api.post("/v1/chat/completions", json=body)).status_code == 200
        engines = (await stand.api.get("/v1/engines")).json()["engines"]
        assert {one.engine for one in stand.parts.door.served(60)} == {OTHER.id}
        resumed = (await stand.api.post("/v1/fleet/engines/small-0/resume")).json()
    assert drained == {"id": "small-0", "draining": True, "calls": 0, "unserved": []}
    assert {one["id"]: (one["draining"], one["calls"]) for one in engines} == {
        "small-0": (True, 0),
        OTHER.id: (False, 0),
    }
    assert resumed == {"id": "small-0", "draining": False, "calls": 0, "unserved": []}


class Driver:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, EngineId]] = []

    def drain(self, engine: EngineId) -> None:
        self.told.append(("drain", engine))

    def resume(self, engine: EngineId) -> None:
        self.told.append(("resume", engine))

    def running(self) -> Mapping[EngineId, int]:
        return Counter({SPEC.id: 3})


class Shaky(MemoryStore):
    """While `away`, it answers nobody. Reading waits for the event, where there is one."""

    away = False
    reading: asyncio.Event | None = None

    async def drained(self) -> Sequence[EngineId]:
        self._require()
        found = await super().drained()
        if self.reading:
            await self.reading.wait()
        return found

    async def drain(self, engine: EngineId, operator: str) -> None:
        self._require()
        await super().drain(engine, operator)

    def _require(self) -> None:
        if self.away:
            raise StoreUnavailable("away")


class Steps:
    """A clock by which whoever sleeps is woken by hand."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._steps: asyncio.Queue[None] = asyncio.Queue()

    def now(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self._steps.get()

    async def step(self) -> None:
        """Gives when who slept sleeps again."""
        before = len(self.slept)
        self._steps.put_nowait(None)
        while len(self.slept) == before:
            await asyncio.sleep(0)


async def test_another_replica_follows_what_the_store_says_and_tells_its_drivers_once() -> None:
    store, driver, clock = Shaky(), Driver(), Steps()
    ada, bob = Draining(store, [SPEC.id]), Draining(store, [SPEC.id, OTHER.id], driver)
    following = asyncio.create_task(bob.follow(clock))
    await ada.drain(SPEC.id, "ops")
    await store.drain(EngineId("of another fleet"), "ops")
    for _ in range(3):
        await clock.step()
    assert (bob.drained, bob.inside(SPEC.id)) == ([SPEC.id], 3)

    store.away = True
    with capture_logs() as logs:
        for _ in range(3):
            await clock.step()
    assert [line["log_level"] for line in logs] == ["warning"], "told once, not at each look"
    with pytest.raises(StoreUnavailable):
        await bob.drain(OTHER.id, "ops")
    assert bob.drained == [SPEC.id], "what was known stays, and what was not stored is not done"

    store.away = False
    await ada.resume(SPEC.id)
    await clock.step()
    following.cancel()
    assert driver.told == [("drain", SPEC.id), ("resume", SPEC.id)]
    assert set(clock.slept) == {LOOK_S}


async def test_what_was_read_before_a_drain_does_not_undo_it() -> None:
    store, driver = Shaky(), Driver()
    draining, store.reading = Draining(store, [SPEC.id], driver), asyncio.Event()
    looking, told = asyncio.create_task(draining.look()), asyncio.create_task(draining.drain(SPEC.id, "ops"))
    await asyncio.sleep(0)
    store.reading.set()
    await asyncio.gather(looking, told)
    assert driver.told == [("drain", SPEC.id)]


async def test_it_is_told_which_models_nobody_else_serves_and_that_an_engine_is_unknown() -> None:
    async with service() as stand:
        drained = (await stand.api.post("/v1/fleet/engines/small-0/drain")).json()
        unknown = await stand.api.post("/v1/fleet/engines/large-7/drain")
    assert drained["unserved"] == ["small"]
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:halo:problem:engine-unknown")
    assert "small-0" in unknown.json()["detail"]


async def test_adapters_and_tenants_that_no_other_engine_takes_are_told_too() -> None:
    own = replace(SPEC, adapters=("sql",))
    for_ann = replace(OTHER, tenants=("ann",))
    async with service(engines=[Scripted(own, Synthetic(7)), Scripted(OTHER, Synthetic(7))]) as stand:
        adapter = (await stand.api.post("/v1/fleet/engines/small-0/drain")).json()
    async with service(engines=[Scripted(SPEC, Synthetic(7)), Scripted(for_ann, Synthetic(7))]) as stand:
        everybody = (await stand.api.post("/v1/fleet/engines/small-0/drain")).json()
    async with service(engines=[Scripted(SPEC, Synthetic(7)), Scripted(for_ann, Synthetic(7))]) as stand:
        ann = (await stand.api.post(f"/v1/fleet/engines/{OTHER.id}/drain")).json()
    assert (adapter["unserved"], everybody["unserved"], ann["unserved"]) == (["sql"], ["small"], [])


async def test_of_several_tenants_only_operators_take_engines_out() -> None:
    keys = {sha256(name.encode()).hexdigest(): name for name in ("ann", "ops")}
    async with service(tenants=keys, operators=("ops",)) as stand:
        asked = {
            name: await stand.api.post("/v1/fleet/engines/small-0/drain", headers={"Authorization": f"Bearer {name}"})
            for name in ("ann", "ops")
        }
    assert (asked["ann"].status_code, asked["ann"].json()["type"]) == (403, "urn:halo:problem:operators-only")
    assert "HALO_OPERATORS" in asked["ann"].json()["detail"]
    assert asked["ops"].status_code == 200


async def test_engines_kept_for_a_tenant_are_nobody_elses_and_the_door_says_so() -> None:
    kept = replace(SPEC, id=EngineId("anns-own"), tenants=("ann",), adapters=("sql",))
    keys = {sha256(name.encode()).hexdigest(): name for name in ("ann", "bob")}
    hello = {"model": "sql", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
    async with service(engines=[Scripted(kept, Synthetic(7))], tenants=keys) as stand:
        ann, bob = ({"Authorization": f"Bearer {name}"} for name in ("ann", "bob"))
        taken = await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}}, headers=ann)
        refused = await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}}, headers=bob)
        called = [await stand.api.post("/v1/chat/completions", json=hello, headers=who) for who in (ann, bob)]
        listed = [(await stand.api.get("/v1/models", headers=who)).json()["data"] for who in (ann, bob)]
    assert taken.status_code == 202
    assert refused.status_code == 422
    (problem,) = refused.json()["problems"]
    assert problem["what"] == "is served by no engine that you may use"
    assert "kept for tenants in the fleet file (`tenants`)" in problem["fix"]
    assert [answer.status_code for answer in called] == [200, 404]
    assert "'bob', who may use: none" in called[1].json()["error"]["message"]
    assert not [text for text in (refused.text, called[1].text) if "anns-own" in text or "'ann'" in text]
    assert [[model["id"] for model in models] for models in listed] == [["small", "sql"], []]


def _bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def test_a_tenant_sees_the_engines_that_it_may_use_and_operators_see_all() -> None:
    anns = replace(SPEC, id=EngineId("anns-own"), models=("anns-model",), tenants=("ann", "cy"))
    keys = {sha256(name.encode()).hexdigest(): name for name in ("ann", "bob", "ops")}
    engines = [Scripted(SPEC, Synthetic(7)), Scripted(anns, Synthetic(7))]
    run = {"workflow": "greet", "input": {"name": "ada"}}
    async with service(engines=engines, tenants=keys, operators=("ops",)) as stand:
        run_id = (await stand.api.post("/v1/runs", json=run, headers=_bearer("bob"))).json()["id"]
        await stand.api.get(f"/v1/runs/{run_id}/wait", headers=_bearer("bob"))
        paths = ("/v1/engines", "/v1/models", "/v1/fleet/signals", f"/v1/runs/{run_id}/decisions", "/v1/tuning")
        told = {path: (await stand.api.get(path, headers=_bearer("bob"))).text for path in paths}
        told["analyze"] = (await stand.api.get(f"/v1/runs/{run_id}/analyze", headers=_bearer("bob"))).text
        plan = {"workflow": "greet", "rows": [{"name": "ada"}]}
        told["plan"] = (await stand.api.post("/v1/plans", json=plan, headers=_bearer("bob"))).text
        asked = {who: await stand.api.get("/v1/engines", headers=_bearer(who)) for who in keys.values()}
        seen = {who: answer.json()["engines"] for who, answer in asked.items()}
        signals = (await stand.api.get("/v1/fleet/signals", headers=_bearer("ops"))).json()["models"]
    assert not [path for path, text in told.items() if "anns-" in text or '"cy"' in text]
    assert {who: {one["id"]: one["tenants"] for one in engines} for who, engines in seen.items()} == {
        "ann": {"small-0": [], "anns-own": ["ann"]},
        "bob": {"small-0": []},
        "ops": {"small-0": [], "anns-own": ["ann", "cy"]},
    }
    assert [one["model"] for one in signals] == ["small", "anns-model"]


async def test_metrics_name_all_engines_and_are_the_operators() -> None:
    keys = {sha256(name.encode()).hexdigest(): name for name in ("ann", "ops")}
    async with service(tenants=keys, operators=("ops",)) as stand:
        asked = [await stand.api.get("/metrics", headers=head) for head in ({}, _bearer("ann"), _bearer("ops"))]
    assert [answer.status_code for answer in asked] == [401, 403, 200]
