"""The door before a real vLLM with halo_vllm: it is told what programs do between calls, and does it."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from patience import at_some_pace

from executor.clock import WallClock
from executor.commands import Hint
from executor.drivers.door import Asked, Door
from executor.drivers.hinting import HintLimits, HintPost
from executor.drivers.tasks import Tasks
from executor.engines.local_vllm import LocalVllm
from executor.engines.names import salted
from executor.engines.rungs import Rung
from executor.engines.upstream import Upstream
from executor.engines.upstream_http import HttpUpstream
from executor.engines.vllm_http import VllmHttp
from halo_vllm.policy.hints import TOOL_CALLED
from halo_vllm.policy.tools import ToolKey
from kvstore.memory_state import MemoryStates
from planner.ir.ids import EngineId, ProgramId

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = {"kv_blocks": 256, "context_tokens": 8_000}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def plugged(real_engine_factory: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """vLLM with the plugin as `pip install` leaves it."""
    source, target = tmp_path_factory.mktemp("source") / "halo_vllm", tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "kvstore" / "vllm_plugin", source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(target), str(source)], check=True)
    settings = {"PYTHONPATH": str(target), "VLLM_PLUGINS": "halo"}
    engines = real_engine_factory({**SMALL, "settings": settings, "extra": ("--scheduler-cls", "halo_vllm.Scheduler")})
    return engines[0]


class Read:
    """A client that keeps what comes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        assert status == 200

    async def write(self, part: bytes) -> None:
        self.parts.append(part)


async def stats(engine: LocalVllm) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"{engine.recipe.url}/halo/stats") as answer:
        return dict(await answer.json())


@asynccontextmanager
async def door(engine: LocalVllm) -> AsyncIterator[Door]:
    body = VllmHttp(engine.spec)
    upstreams: dict[EngineId, Upstream] = {engine.spec.id: HttpUpstream(engine.spec)}
    async with Door([body], upstreams, MemoryStates(), WallClock()) as one:
        yield one
    await body.close()


def asked(engine: LocalVllm, program: str, turn: int, **more: Any) -> Asked:
    said = [{"role": "user", "content": f"{program}: step {number} " + "word " * 300} for number in range(turn + 1)]
    body = {"model": engine.recipe.served_name, "messages": said, "max_tokens": 16, "temperature": 0, **more}
    return Asked("team", CHAT, body, {"x-halo-program-id": program}, salt="team")


async def test_the_rung_is_that_of_the_plugin(plugged: LocalVllm) -> None:
    engine = VllmHttp(plugged.spec)
    assert (await engine.probe()).rung is Rung.PLUGIN
    await engine.close()


async def test_a_tool_that_is_told_of_counts_and_the_next_turn_is_warm(plugged: LocalVllm) -> None:
    """A small random model calls no tool by itself, so that the hint is ours."""

    async def story(pace: float) -> None:
        """Who comes back too late, because the machine stalled, is kept for no longer."""
        name, before = f"ada-{pace:g}", await stats(plugged)
        called = Hint(plugged.spec.id, ProgramId(f"team/{name}"), TOOL_CALLED, (ToolKey("search", ""),), salted("team"))
        async with door(plugged) as one, post_to(plugged) as post:
            await one.answer(asked(plugged, name, 0), Read())
            await tell(post, called)
            await one.answer(asked(plugged, name, 1), Read())
        after = await stats(plugged)
        assert after["hints"] >= before["hints"] + 1
        assert after["ignored_hints"] == before["ignored_hints"]
        assert after["warm_resumes"] == before["warm_resumes"] + 1

    await at_some_pace(story)


async def test_what_is_let_go_is_kept_no_longer(plugged: LocalVllm) -> None:
    """Under the name and the salt of the program's calls; under another salt nothing happens."""
    async with door(plugged) as one, post_to(plugged) as post:
        for number in range(5):
            await one.answer(asked(plugged, f"bob {number}", 0), Read())
            program = ProgramId(f"team/bob {number}")
            before = await stats(plugged)
            await tell(post, Hint(plugged.spec.id, program, "let_go"))
            between = await stats(plugged)
            await tell(post, Hint(plugged.spec.id, program, "let_go", cache_salt=salted("team")))
            after = await stats(plugged)
            if after["expiries"] == before["expiries"]:
                assert before["retained_share"] == between["retained_share"] > after["retained_share"]
                return
    pytest.fail("nothing was kept for long enough to be let go")


@asynccontextmanager
async def post_to(engine: LocalVllm) -> AsyncIterator[HintPost]:
    tasks, upstream = Tasks(lambda error: pytest.fail(repr(error))), HttpUpstream(engine.spec)
    yield HintPost({engine.spec.id: upstream}, tasks.spawn, HintLimits(answer_s=100.0))
    await tasks.close()
    await upstream.close()


async def tell(post: HintPost, hint: Hint) -> None:
    taken = post.counts()[hint.engine].taken
    post.tell(hint)
    async with asyncio.timeout(120):
        while post.counts()[hint.engine].taken == taken:
            await asyncio.sleep(0.02)
