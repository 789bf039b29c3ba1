"""The closed loop of `misuse_run` on a real engine with the plugin at work, in real time.

The same agents with contexts and answers a quarter as long, so that a thousand are done in minutes on two cores. A
prompt goes on from what the engine answered before; who gives a call up breaks the connection. From outside nobody sees
for how long a call was held, so that all its time is held against the bound.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from benchmarks.kv.misuse import Agent, Misuse, agent_of, said_after_call, said_with_call
from benchmarks.kv.misuse_client import MisuseClient, Refused
from benchmarks.kv.misuse_run import Seen, Traffic, truthful
from benchmarks.kv.plugin_site import ROOT, install_plugin
from executor.engines.local_recipe import EngineRecipe, recipe_in
from executor.engines.local_vllm import LocalVllm
from halo_vllm.policy.admission import Limits
from halo_vllm.settings import Settings

#: By so much contexts and answers are shorter than under a virtual clock, and the KV is smaller.
SHORTER = 4
KV_BLOCKS, BLOCK_TOKENS, CONTEXT_TOKENS = 192, 32, 4_096
VOCABULARY = 2_000
LOOK_EVERY_S = 0.25
#: Calls are open and none ends: longer than this, and nobody sees to it. A busy machine may be silent for seconds.
LONGEST_SILENCE_S = 120.0
#: What a call may take beside being held.
CALL_S = 60.0


def run_real(traffic: Traffic, misuse: Misuse) -> Seen:
    """On an engine that is started for it. Raises `EngineNotRunning` or `subprocess.CalledProcessError`."""
    return asyncio.run(_on_engine(traffic, misuse))


async def _on_engine(traffic: Traffic, misuse: Misuse) -> Seen:
    with TemporaryDirectory() as folder:
        recipe = replace(recipe_in(ROOT), **plugged(install_plugin(Path(folder))))
        async with LocalVllm(recipe) as engine:
            return await misbehave(traffic, misuse, engine.recipe)


def plugged(site: Path) -> dict[str, Any]:
    """What a recipe says of an engine with room for about half of 16 agents. The plugin lies in `site`."""
    return {
        "kv_blocks": KV_BLOCKS,
        "block_tokens": BLOCK_TOKENS,
        "context_tokens": CONTEXT_TOKENS,
        "extra": ("--enable-chunked-prefill", "--scheduler-cls", "halo_vllm.Scheduler"),
        "settings": {"PYTHONPATH": str(site), "VLLM_PLUGINS": "halo", "VLLM_SERVER_DEV_MODE": "1"},
    }


async def misbehave(traffic: Traffic, misuse: Misuse, engine: EngineRecipe) -> Seen:
    """Runs every agent to its end, or to where nobody gets on any more."""
    async with MisuseClient.of(engine.url, engine.served_name) as client:
        return await _Run(traffic, misuse, client).run()


@dataclass(slots=True)
class _Open:
    """A call that was asked. `others` were open then."""

    since_s: float
    others: int


class _Run:
    def __init__(self, traffic: Traffic, misuse: Misuse, client: MisuseClient) -> None:
        self._traffic, self._misuse, self._client = traffic, misuse, client
        self._later = iter(range(traffic.programs))
        self._open: dict[str, _Open] = {}
        self._silent_since_s = 0.0
        self._began_s = time.monotonic()
        self._seen = Seen()

    async def run(self) -> Seen:
        agents = asyncio.gather(*(self._agents() for _ in range(self._traffic.at_once)))
        beside = [asyncio.create_task(work) for work in (self._until_stuck(), self._look(), self._reset())]
        await asyncio.wait((agents, beside[0]), return_when=asyncio.FIRST_COMPLETED)
        self._seen.lasted_s = self._now_s()
        for task in (agents, *beside):
            await _end(task)
        await self._check_end()
        return self._seen

    # --- agents

    async def _agents(self) -> None:
        """One after the other."""
        for number in self._later:
            agent = agent_of(number, self._misuse, self._traffic.seed)
            await self._agent(truthful(agent) if self._traffic.honest else agent)
            self._seen.programs += 1

    async def _agent(self, agent: Agent) -> None:
        work, manners = (Random(f"{self._traffic.seed}/{agent.number}/{of}") for of in ("text", "lies"))
        text = list[int]()
        for turn, step in enumerate(agent.steps):
            text += work.choices(range(3, VOCABULARY), k=max(1, step.prompt_tokens // SHORTER - len(text)))
            answer: list[int] | None = None
            with self._noted():
                answer = await self._turn(agent, turn, text, manners)
            if answer is None:
                return
            text += answer
            if step.pause_s is None:
                return
            await asyncio.sleep(step.pause_s)

    async def _turn(self, agent: Agent, turn: int, text: list[int], manners: Random) -> list[int] | None:
        """The answer's tokens, once what there is to tell is told; None where there is none."""
        id, said = f"{agent.name}/{turn}", said_with_call(agent, turn, manners)
        self._opens(id)
        try:
            answer = await self._answer(agent, turn, text, said)
        except Refused:
            if not agent.lies:
                raise
            self._seen.refused += 1
            answer = []
        finally:
            self._closes(id)
        for hint in said_after_call(agent, turn, self._misuse, manners) if answer is not None else ():
            await self._client.tell(hint)
        return answer

    async def _answer(self, agent: Agent, turn: int, text: list[int], said: dict[str, object]) -> list[int] | None:
        """None where the client goes away first. One agent asks for its answer in parts, the next for the whole."""
        step, honest = agent.steps[turn], self._traffic.honest
        more = {"vllm_xargs": said, **({"cache_salt": agent.tenant} if agent.tenant else {})}
        wanted = max(1, step.output_tokens // SHORTER)
        try:
            async with asyncio.timeout(None if honest else step.given_up_s):
                answer = await self._client.complete(text, wanted, streams=agent.number % 2 == 1, **more)
        except TimeoutError:
            return None
        self._seen.calls += 1
        return answer

    def _opens(self, id: str) -> None:
        if not self._open:
            self._silent_since_s = self._now_s()
        self._open[id] = _Open(self._now_s(), len(self._open))

    def _closes(self, id: str) -> None:
        self._check_held(id)
        self._silent_since_s = self._now_s()
        del self._open[id]

    # --- beside them

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            with self._noted():
                self._check_kept((await self._client.stats())["retained_share"])

    async def _reset(self) -> None:
        while self._misuse.reset_every_s:
            await asyncio.sleep(self._misuse.reset_every_s)
            with self._noted():
                await self._client.reset(running=True)

    async def _until_stuck(self) -> None:
        while self._seen.idle_s <= LONGEST_SILENCE_S:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._open:
                self._seen.idle_s = max(self._seen.idle_s, self._now_s() - self._silent_since_s)
            for id in self._open:
                self._check_held(id)
        self._seen.problem("stuck", f"{len(self._open)} calls were open, and none ended for {self._seen.idle_s:.0f} s")

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """What the engine does not do is a problem, and no end."""
        try:
            yield
        except (aiohttp.ClientError, Refused) as problem:
            self._seen.problem("broken", f"{type(problem).__name__}: {problem}")

    # --- what is promised

    def _check_kept(self, share: float) -> None:
        self._seen.kept_share = max(self._seen.kept_share, share)
        if share > Settings().share:
            self._seen.problem("cap", f"{share:.3f} of the KV is kept")

    def _check_held(self, id: str) -> None:
        call, limits = self._open[id], Limits()
        took_s, bound_s = self._now_s() - call.since_s, limits.patience_s + (call.others + 1) * limits.spacing_s
        self._seen.held_s = max(self._seen.held_s, took_s)
        self._seen.of_bound = max(self._seen.of_bound, took_s / bound_s)
        if took_s > bound_s + CALL_S:
            self._seen.problem("starved", f"{id} took {took_s:.0f} s, and may be held for {bound_s:.0f} s")

    async def _check_end(self) -> None:
        """The engine lives, serves who comes, and has all its blocks."""
        with self._noted():
            self._seen.counters = await self._client.stats()
            await self._client.complete(list(range(3, 203)), 8)
            if not await self._client.all_free():
                self._seen.problem("lost", "blocks are still in use when nothing runs")
            left = await self._client.stats()
            if left["held_calls"] or left["retained_share"]:
                self._seen.problem("left", f"held or kept when all is over: {left}")


async def _end(task: asyncio.Future[Any]) -> None:
    """Raises what it failed with."""
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(result, Exception):
        raise result
