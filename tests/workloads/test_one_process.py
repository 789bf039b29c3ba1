"""Engines on few cores: what is said to them so that nothing of them spins beside their steps."""

from pathlib import Path

from benchmarks.one_process import in_one_process
from executor.engines.local_recipe import EngineRecipe, command_of, environment_of

RECIPE = EngineRecipe(
    Path("python"), Path("model"), Path("log"), 8100, cores="0-1", extra=("--more",), settings={"WITH": "1"}
)


def test_an_engine_on_cores_of_its_own_has_a_thread_on_each() -> None:
    recipe = in_one_process(RECIPE, (2, 3))
    told = environment_of(recipe)
    assert (told["GOMP_CPU_AFFINITY"], told["OMP_NUM_THREADS"], told["WITH"]) == ("2 3", "2", "1")
    assert "VLLM_CPU_OMP_THREADS_BIND" not in recipe.settings
    assert recipe.cores is None
    command = command_of(recipe)
    assert "--more" in command
    assert command[command.index("--distributed-executor-backend") + 1].endswith("UniProcExecutor")


def test_without_cores_it_has_one_thread_wherever_there_is_room() -> None:
    recipe = in_one_process(RECIPE)
    assert recipe.settings["OMP_NUM_THREADS"] == "1"
    assert "GOMP_CPU_AFFINITY" not in recipe.settings
