"""Programs that misbehave, on a real vLLM with the plugin: all get on, and the engine has all its blocks afterwards."""

from typing import Any

import pytest

from benchmarks.kv.misuse import Misuse
from benchmarks.kv.misuse_real import misbehave, plugged
from benchmarks.kv.misuse_run import Traffic
from benchmarks.kv.plugin_site import install_plugin
from executor.engines.local_recipe import EngineRecipe

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

#: Of each kind some, though there are few.
MISUSE = Misuse(0.1, 0.3, 0.3, 0.1, random_tools=True, flood=10, reset_every_s=2.0)


@pytest.fixture(scope="module")
def recipe(real_engine_factory: Any, tmp_path_factory: pytest.TempPathFactory) -> EngineRecipe:
    (engine,) = real_engine_factory(plugged(install_plugin(tmp_path_factory.mktemp("plugin"))))
    return engine.recipe  # type: ignore[no-any-return]


async def test_whatever_programs_do_all_get_to_their_end(recipe: EngineRecipe) -> None:
    seen = await misbehave(Traffic(programs=30), MISUSE, recipe)
    assert seen.problems == {}
    assert seen.programs == 30
    assert seen.calls > 0
    assert seen.counters["ignored_hints"] > 0
