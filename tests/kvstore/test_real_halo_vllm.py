"""halo_vllm installed beside a real vLLM: programs run through it, its counters move, and answers stay the same."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from patience import at_some_pace

import halo
from executor.clock import WallClock
from executor.commands import Status
from executor.drivers.live import LiveDriver
from executor.engines.local_vllm import LocalVllm
from executor.engines.port import Completion, EngineHealth, EngineSpec, GenerateRequest
from executor.engines.upstream import Upstream
from executor.engines.upstream_http import HttpUpstream
from executor.engines.vllm_http import VllmHttp
from executor.store.jobs import NewJob
from executor.store.memory import MemoryStore
from executor.tools import ToolRunner
from kvstore.memory_state import MemoryStates
from planner.ir.codec import encode
from planner.ir.conversation import ToolCall
from planner.ir.expressions import Column, Concat, Output
from planner.ir.ids import EngineId, JobId, StageId
from planner.ir.plan import Agent, Effect, Input, Message, Plan, Sampling, ToolSpec

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parent.parent.parent
#: 256 blocks of 32 tokens: two or three of the programs fit.
SMALL = {"kv_blocks": 256, "context_tokens": 8_000}
PROMPT = (Message("user", Concat((Column("q"),))),)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin as `pip install` leaves it, entry points and all."""
    source, target = tmp_path_factory.mktemp("source") / "halo_vllm", tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "kvstore" / "vllm_plugin", source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(target), str(source)], check=True)
    return target


@pytest.fixture(scope="module")
def pair(real_engine_factory: Any, installed: Path) -> list[LocalVllm]:
    """vLLM as it comes, and with the plugin. `PYTHONPATH` may name another vLLM than .venv-engine's."""
    path = os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH")]))
    settings = {"PYTHONPATH": path, "VLLM_PLUGINS": "halo"}
    plugged = {**SMALL, "settings": settings, "extra": ("--scheduler-cls", "halo_vllm.Scheduler")}
    engines: list[LocalVllm] = real_engine_factory(SMALL, plugged)
    return engines


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


async def complete(
    session: aiohttp.ClientSession, engine: LocalVllm, prompt: list[int], **said: Any
) -> tuple[list[int], int]:
    """Sixteen greedy tokens, and how many of the prompt's were cached."""
    body = {
        "model": engine.recipe.served_name,
        "prompt": prompt,
        "max_tokens": 16,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        **({"vllm_xargs": said} if said else {}),
    }
    async with session.post(f"{engine.recipe.url}/v1/completions", json=body) as answer:
        told = await answer.json()
    return told["choices"][0]["token_ids"], told["usage"]["prompt_tokens_details"]["cached_tokens"]


async def stats(session: aiohttp.ClientSession, engine: LocalVllm) -> dict[str, float]:
    async with session.get(f"{engine.recipe.url}/halo/stats") as answer:
        return dict(await answer.json())


async def hint(session: aiohttp.ClientSession, engine: LocalVllm, **told: Any) -> int:
    async with session.post(f"{engine.recipe.url}/halo/hint", json=told) as answer:
        return answer.status


def words(seed: str, count: int) -> list[int]:
    draw = Random(seed)
    return [draw.randrange(3, 2_000) for _ in range(count)]


async def run_program(session: aiohttp.ClientSession, engine: LocalVllm, name: str, turns: int = 3) -> int:
    """Its tokens found in the cache, over all turns."""
    prompt, found = words(name, 1_500), 0
    for turn in range(turns):
        last = int(turn == turns - 1)
        answer, cached = await complete(session, engine, prompt, halo_program=name, halo_last=last)
        found += cached
        if not last:
            assert await hint(session, engine, program=name, event="tool_called", halo_tool="search") == 202
            await asyncio.sleep(0.2)
            assert await hint(session, engine, program=name, event="tool_finished") == 202
        prompt = [*prompt, *answer, *words(f"{name}/{turn}", 200)]
    return found


async def test_answers_one_at_a_time_are_those_of_vllm(pair: list[LocalVllm], session: aiohttp.ClientSession) -> None:
    stock, plugged = pair
    prompt = words("one at a time", 700)
    for turn in range(3):
        expected = await complete(session, stock, prompt)
        assert await complete(session, plugged, prompt, halo_program="alone") == expected
        prompt = [*prompt, *expected[0], *words(f"more {turn}", 100)]


async def test_programs_run_and_what_was_kept_is_found(pair: list[LocalVllm], session: aiohttp.ClientSession) -> None:
    """How many find it in time, a machine that stalls decides too: then others are run."""
    _, plugged = pair

    async def story(pace: float) -> None:
        before = await stats(session, plugged)
        names = [f"program {number}, {pace}" for number in range(6)]
        found = await asyncio.gather(*(run_program(session, plugged, name) for name in names))
        after = await stats(session, plugged)
        came = {name: after[name] - before[name] for name in ("warm_resumes", "cold_resumes", "hints")}
        assert came["warm_resumes"] + came["cold_resumes"] >= 12
        assert came["warm_resumes"] >= 6
        assert sum(found) > 6 * 1_400
        assert came["hints"] == 24
        assert after["held_calls"] == 0
        assert after["break_even_s"] > 0

    await at_some_pace(story)


async def test_counters_are_on_the_metrics_page(pair: list[LocalVllm], session: aiohttp.ClientSession) -> None:
    _, plugged = pair
    async with asyncio.timeout(120):
        while await _programs_on_the_page(session, plugged) < 7:  # it is brought up to date every two seconds
            await asyncio.sleep(0.5)


async def _programs_on_the_page(session: aiohttp.ClientSession, engine: LocalVllm) -> float:
    async with session.get(f"{engine.recipe.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    (programs,) = [line for line in lines if line.startswith("halo:programs")]
    return float(programs.split()[-1])


async def test_hints_that_are_none_are_refused(pair: list[LocalVllm], session: aiohttp.ClientSession) -> None:
    _, plugged = pair
    assert await hint(session, plugged, program="x", event="explode") == 422
    assert await hint(session, plugged, event="let_go") == 422
    assert await hint(session, plugged, program="never heard of", event="let_go") == 202


class Asking:
    """The engine, with a model that asks for a tool: a small random one does not by itself."""

    def __init__(self, engine: VllmHttp, times: int) -> None:
        self._engine, self._times = engine, times

    @property
    def spec(self) -> EngineSpec:
        return self._engine.spec

    async def generate(self, request: GenerateRequest) -> Completion:
        answer = await self._engine.generate(request)
        turn = sum(1 for message in request.messages if message["role"] == "tool")
        calls = (ToolCall(f"c{turn}", "look", "{}"),) if turn < self._times else ()
        return replace(answer, tool_calls=calls)

    async def probe(self) -> EngineHealth:
        return await self._engine.probe()

    async def close(self) -> None:
        await self._engine.close()


@halo.tool(effect="idempotent")
async def look() -> str:
    """Looks."""
    await asyncio.sleep(0.3)
    return "found " * 100


async def test_an_agent_of_a_job_is_told_of_and_comes_back_warm(
    pair: list[LocalVllm], session: aiohttp.ClientSession
) -> None:
    _, plugged = pair

    async def story(pace: float) -> None:
        """Who comes back too late, because the machine stalled, comes back cold."""
        spec, before = plugged.spec, await stats(session, plugged)
        stage = Agent(
            StageId("solve"), spec.models[0], PROMPT, (ToolSpec("look", Effect.IDEMPOTENT),), 5, Sampling(max_tokens=16)
        )
        plan = Plan("look", (Input("q"),), (stage,), Output(StageId("solve"), ("text",)))
        store, engine, upstream = MemoryStore(), Asking(VllmHttp(spec), 2), HttpUpstream(spec)
        tools = ToolRunner({"look": look})
        await store.create_job(
            NewJob(JobId(f"job-{pace:g}"), plan.name, encode(plan), [{"q": f"{pace:g}: " + "why? " * 400}])
        )
        ears: dict[EngineId, Upstream] = {spec.id: upstream}
        async with LiveDriver(
            [engine], tools, store, MemoryStates(), WallClock(), upstreams=ears, salted=True
        ) as driver:
            claim = await store.claim("test", 60.0)
            assert claim is not None
            assert await driver.run(claim) is Status.SUCCEEDED
            async with asyncio.timeout(100):
                while driver.hints()[spec.id].taken < 3 or (await stats(session, plugged))["retained_share"] > 0:
                    await asyncio.sleep(0.05)
        after = await stats(session, plugged)
        for body in (engine, upstream, tools):
            await body.close()
        assert after["warm_resumes"] == before["warm_resumes"] + 2
        assert after["programs"] == before["programs"] + 1
        assert after["hints"] >= before["hints"] + 3
        assert after["ignored_hints"] == before["ignored_hints"]

    await at_some_pace(story)
