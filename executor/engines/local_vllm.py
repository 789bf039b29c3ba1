"""A CPU vLLM as a child of this process: started, watched, started again when it dies, and never left behind.

    async with LocalVllm(recipe_in(root, port=8100), max_restarts=3) as engine:
        ...  # http://127.0.0.1:8100 serves `tiny-llama`

`make engine` builds what it runs. `executor.engines.leash` is the process between: it ends the engine's whole process
group when this process stops or dies, in whatever way.
"""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from executor.engines import leash
from executor.engines.local_recipe import (
    EngineNotRunning,
    EngineRecipe,
    command_of,
    environment_of,
    refuse_taken_port,
)
from executor.engines.port import EngineSpec
from executor.engines.vllm_http import VllmHttp
from planner.ir.ids import EngineId

LEASH_SCRIPT = str(Path(leash.__file__).resolve())
LOG_LINES_SHOWN = 15
STARTING_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Watch:
    """How the engine is watched: asked every `every_s`, and taken for dead after `misses` bad answers in a row."""

    every_s: float = 5.0
    misses: int = 6


class LocalVllm:
    """One engine. `start` returns when it answers; from then on it is watched, and started again when it dies.

    After `max_restarts` it is gone for good, which `died` tells. `tell` gets a line for people whenever something
    happens. For one event loop only.
    """

    def __init__(
        self,
        recipe: EngineRecipe,
        *,
        max_restarts: int = 0,
        watch: Watch = Watch(),
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.recipe = recipe
        self.restarts = 0
        self._max_restarts = max_restarts
        self._watch = watch
        self._tell = tell
        self._leash: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._pid: int | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The engine's main process, while it runs."""
        return self._pid

    @property
    def spec(self) -> EngineSpec:
        recipe = self.recipe
        return EngineSpec(
            id=EngineId(f"{recipe.served_name}-{recipe.port}"),
            kind="vllm",
            models=(recipe.served_name,),
            url=recipe.url,
            gpu="cpu",
            max_running=recipe.max_running,
            context_tokens=recipe.context_tokens,
        )

    async def start(self) -> None:
        """Raises `EngineNotRunning`, with the end of the engine's log, when it does not come up in time."""
        assert self._leash is None, "started already"
        refuse_taken_port(self.recipe)
        await self._launch()
        self._watching = asyncio.create_task(self._keep_alive(), name=f"watch {self.recipe.url}")

    async def stop(self) -> None:
        """Ends every process of the engine and waits for them. May be called twice, and at any time."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await self._end()

    async def died(self) -> None:
        """Waits until the engine is gone for good and raises `EngineNotRunning`; returns when it was stopped."""
        assert self._watching is not None, "not started"
        watching = self._watching
        await asyncio.wait([watching])
        if not watching.cancelled():
            await watching

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _keep_alive(self) -> None:
        while True:
            reason = await self._until_dead()
            await self._end()
            if self.restarts >= self._max_restarts:
                raise self._not_running(reason)
            self.restarts += 1
            self._tell(f"{reason}; starting it again ({self.restarts} of {self._max_restarts})")
            await self._launch()

    async def _until_dead(self) -> str:
        """Why the engine is taken for dead: its process ended, or it answers no more."""
        assert self._leash is not None
        misses = 0
        ended = asyncio.ensure_future(self._leash.wait())
        try:
            while not await _within(self._watch.every_s, ended):
                misses = 0 if await self._healthy() else misses + 1
                # A killed engine stops answering before its end is heard of: the end is the truer reason.
                if misses >= self._watch.misses and not await _within(self._watch.every_s, ended):
                    return f"the engine did not answer {misses} health checks in a row"
        finally:
            ended.cancel()
        return f"the engine died (code {self._leash.returncode})"

    async def _launch(self) -> None:
        self.recipe.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.recipe.log.stat().st_size if self.recipe.log.exists() else 0
        self._leash = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", LEASH_SCRIPT, str(self.recipe.log), *command_of(self.recipe)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=environment_of(self.recipe),
        )
        try:
            await self._ready()
        except BaseException:
            await self._end()
            raise
        self._tell(f"the engine answers at {self.recipe.url}")

    async def _ready(self) -> None:
        assert self._leash is not None
        assert self._leash.stdout is not None
        self._pid = int(await self._leash.stdout.readline() or 0) or None
        try:
            async with asyncio.timeout(self.recipe.start_timeout_s):
                while not await self._healthy():
                    if self._leash.returncode is not None:
                        raise self._not_running("the engine ended while it started")
                    await asyncio.sleep(STARTING_POLL_S)
        except TimeoutError:
            what = f"the engine did not answer within {self.recipe.start_timeout_s:g} s"
            raise self._not_running(what) from None

    async def _healthy(self) -> bool:
        client = VllmHttp(self.spec)
        try:
            return (await client.probe()).ready
        finally:
            await client.close()

    async def _end(self) -> None:
        """Lets go of the leash, which ends the engine, and waits until it has. A leash that was killed needs help."""
        held = self._leash
        if held is None:
            return
        assert held.stdin is not None
        held.stdin.close()
        code = await asyncio.shield(held.wait())
        if code < 0 and self._pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
        self._leash = self._pid = None

    def _not_running(self, what: str) -> EngineNotRunning:
        with self.recipe.log.open("rb") as log:
            log.seek(self._log_start)
            lines = deque((line.decode(errors="replace").rstrip() for line in log), LOG_LINES_SHOWN)
        return EngineNotRunning(what, "\n    ".join([f"see {self.recipe.log}, which ends:", *lines]))


def serve_cpu_engine(
    recipe: EngineRecipe,
    *,
    max_restarts: int = 3,
    out: Callable[[str], None] = print,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> None:
    """Runs the engine until Ctrl-C or SIGTERM, then ends it. `out` gets its URL and what to give to Halo's commands.

    Raises `EngineNotRunning` when it does not come up or died more than `max_restarts` times. Blocks.
    """
    asyncio.run(_serve(recipe, max_restarts, out, tell))


async def _serve(
    recipe: EngineRecipe, max_restarts: int, out: Callable[[str], None], tell: Callable[[str], None]
) -> None:
    engine = LocalVllm(recipe, max_restarts=max_restarts, tell=tell)
    serving = asyncio.create_task(_serve_until_died(engine, out))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    tell(f"starting {recipe.served_name} on {recipe.url} (up to a minute or two); its log: {recipe.log}")
    try:
        await serving
    except asyncio.CancelledError:
        tell("stopped")


async def _serve_until_died(engine: LocalVllm, out: Callable[[str], None]) -> None:
    async with engine:
        out(f"{engine.recipe.url}\n--engine {engine.recipe.url}")
        await engine.died()


async def _within(seconds: float, ended: asyncio.Future[int]) -> bool:
    done, _ = await asyncio.wait([ended], timeout=seconds)
    return bool(done)
