"""The lab of real engines: CPU vLLMs as children, one under load at a time, the latest few kept running."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp

from benchmarks.kv.arms import Serving
from benchmarks.kv.hints import Telling
from benchmarks.kv.lab import CannotRun, EngineSize
from benchmarks.kv.programs import Load
from benchmarks.kv.replay import replay
from benchmarks.kv.results import ProgramResult
from benchmarks.kv.served_door import DoorNotReady, ServedDoor
from benchmarks.one_process import in_one_process
from executor.engines.local_recipe import EngineNotRunning, EngineRecipe, free_port, recipe_in
from executor.engines.local_vllm import LocalVllm

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "kvstore" / "vllm_plugin"
#: No part of an answer between its first token and its end: the same for all arms, and less work for two cores.
STREAM_INTERVAL = 1000
#: The plugin on the path, and vLLM's route that empties the prefix cache.
SERVING_SETTINGS = {"VLLM_SERVER_DEV_MODE": "1", "PYTHONPATH": str(PLUGIN)}
RESET_TRIES, RESET_EVERY_S = 20, 0.5


class RealLab:
    """Body of `Lab`. At most `alive` engines run at once, each by a recipe for its serving and port.

    `recipe` raises `CannotRun` or `EngineNotRunning` where that cannot be served.
    """

    simulated = False

    def __init__(self, recipe: Callable[[Serving, int], EngineRecipe], alive: int) -> None:
        self._recipe = recipe
        self._alive = alive
        self._engines: dict[Serving, LocalVllm] = {}

    async def run(self, serving: Serving, load: Load, telling: Telling, salt: str) -> Sequence[ProgramResult]:
        engine = await self._engine(serving)
        await _forget(engine.recipe.url)
        async with _address(serving, engine) as url:
            return await replay(load, url, engine.recipe.served_name, telling, salt)

    async def close(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self._engines.values()))
        self._engines.clear()

    async def _engine(self, serving: Serving) -> LocalVllm:
        """The one that runs so, with or without a door before it, now the latest used."""
        serving = replace(serving, door=False)
        engine = self._engines.pop(serving, None)
        while engine is None and len(self._engines) >= self._alive:
            await self._engines.pop(next(iter(self._engines))).stop()
        if engine is None:
            try:
                engine = LocalVllm(self._recipe(serving, free_port()))
                await engine.start()
            except EngineNotRunning as problem:
                raise CannotRun(str(problem)) from None
        self._engines[serving] = engine
        return engine


@asynccontextmanager
async def _address(serving: Serving, engine: LocalVllm) -> AsyncIterator[str]:
    """Where clients speak to it. Each load has a door of its own, which knows of no programs before."""
    if not serving.door:
        yield engine.recipe.url
        return
    door = ServedDoor(engine.recipe.url, engine.recipe.log.with_suffix(".door.log"))
    try:
        await door.start()
    except DoorNotReady as problem:
        raise CannotRun(str(problem)) from None
    try:
        yield door.url
    finally:
        await door.stop()


def cpu_recipe(size: EngineSize, serving: Serving, port: int) -> EngineRecipe:
    """Of a CPU vLLM with the KV of `size`, its steps taken in its core's process: two that spin while they wait for
    each other leave no core for the client, and then the arms differ by what else runs on the machine.

    Raises `CannotRun` where the plugin is wanted and not there, `EngineNotRunning` where no engine is built.
    """
    refuse_missing_plugin(serving)
    recipe = replace(
        recipe_in(ROOT, port=port),
        context_tokens=size.context_tokens,
        block_tokens=size.block_tokens,
        kv_blocks=size.kv_blocks,
        max_running=serving.flags.max_running,
        extra=serving_arguments(serving),
        settings=SERVING_SETTINGS,
    )
    return in_one_process(recipe)


def refuse_missing_plugin(serving: Serving) -> None:
    """Raises `CannotRun`."""
    if serving.plugin is not None and not (PLUGIN / "halo_vllm" / "scheduler.py").exists():
        raise CannotRun("halo_vllm is not here")


def serving_arguments(serving: Serving) -> tuple[str, ...]:
    """They come after the recipe's own, and so replace them."""
    return (*_flags(serving), *_plugin(serving))


def _flags(serving: Serving) -> tuple[str, ...]:
    flags = serving.flags
    return (
        *("--enable-chunked-prefill", "--max-num-batched-tokens", str(flags.step_tokens)),
        *("--long-prefill-token-threshold", str(flags.long_prefill_tokens), "--watermark", str(flags.watermark)),
        *("--stream-interval", str(STREAM_INTERVAL)),
        *(("--scheduling-policy", "priority") if serving.by_priority else ()),
    )


def _plugin(serving: Serving) -> tuple[str, ...]:
    if serving.plugin is None:
        return ()
    config = json.dumps({"halo": dict(serving.plugin)})
    return ("--scheduler-cls", "halo_vllm.Scheduler", "--additional-config", config)


async def _forget(url: str) -> None:
    """Empties the prefix cache, which can take a moment after the last answer. Raises `CannotRun`."""
    async with aiohttp.ClientSession(url) as session:
        for _ in range(RESET_TRIES):
            async with session.post("/reset_prefix_cache") as answer:
                if answer.status == 200 and _says_done(await answer.read()):
                    return
            await asyncio.sleep(RESET_EVERY_S)
    raise CannotRun("the engine does not forget its prefixes")


def _says_done(answer: bytes) -> bool:
    """vLLM 0.24 does not say: its answer is empty."""
    return not answer or bool(json.loads(answer).get("success", True))
