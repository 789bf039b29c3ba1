"""What all tests share, and the real engine for those marked `engine`: one CPU vLLM for a whole test run, and more for
those who ask."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from executor.engines.local_recipe import EngineNotRunning, recipe_in
from executor.engines.local_vllm import LocalVllm

#: The first start compiles, and the machine may have other things to do.
START_S = 900.0
ROOT = Path(__file__).resolve().parent.parent

# The machines that run this are shared: slow drawing says nothing about what is drawn.
settings.register_profile("halo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("halo")


@pytest.fixture(scope="session", autouse=True)
def halo_cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test finds what the user's own runs, or an earlier test run, left in a cache."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HALO_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


class RealEngines:
    """Starts local engines on an event loop of its own, so that they are watched whichever loop a test runs on."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._engines: list[LocalVllm] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="real engines", daemon=True)
        self._thread.start()

    def __call__(self, *changes: Mapping[str, Any], max_restarts: int = 3) -> list[LocalVllm]:
        """Starts one engine for each set of changes to the recipe's fields, all at once; waits until all answer.

        `real_engine_factory({"cores": "0"}, {"cores": "1"})` gives two engines side by side.
        """
        engines = [self._make(each, max_restarts) for each in changes]
        self._engines += engines
        self._run(_start(engines))
        return engines

    def stop(self, engine: LocalVllm) -> None:
        self._run(engine.stop())

    def close(self) -> None:
        for engine in self._engines:
            self.stop(engine)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _make(self, changes: Mapping[str, Any], max_restarts: int) -> LocalVllm:
        recipe = recipe_in(ROOT)
        log = self._logs / f"vllm-{recipe.port}.log"
        return LocalVllm(
            replace(recipe, **{"log": log, "start_timeout_s": START_S, **changes}), max_restarts=max_restarts
        )

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _start(engines: list[LocalVllm]) -> None:
    async with asyncio.TaskGroup() as starting:
        for engine in engines:
            starting.create_task(engine.start())


@pytest.fixture(scope="session")
def real_engine_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngines]:
    """Starts CPU vLLM engines (see `RealEngines`); all are stopped when the test run ends."""
    try:
        recipe_in(ROOT)
    except EngineNotRunning as problem:
        pytest.skip(f"no real engine: {problem.problems[0].what}; {problem.problems[0].fix}")
    engines = RealEngines(tmp_path_factory.mktemp("engines"))
    yield engines
    engines.close()


@pytest.fixture(scope="session")
def real_engine(real_engine_factory: RealEngines) -> LocalVllm:
    """The one CPU vLLM that the tests of a run share. A test that kills it must wait until it answers again."""
    return real_engine_factory({})[0]
