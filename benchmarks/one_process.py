"""A CPU vLLM whose steps are taken in its core's own process, so that engines on few cores can be measured.

By itself, vLLM gives the worker a process of its own, and worker and core spin on a queue in shared memory while they
wait for each other: one engine keeps two cores busy, whatever it has to do. On a machine of two cores its web server
and the client are then in its way, and a second engine much more so. And of two threads of OpenMP, each waits at every
barrier for the other, which waits for its core: where something else runs there, two are slower than one.
"""

from collections.abc import Sequence
from dataclasses import replace

from executor.engines.local_recipe import EngineRecipe

#: By its class: by its name, vLLM refuses it on a CPU, as it could not choose the threads' cores there. Here they are
#: chosen by settings.
ARGUMENTS = ("--distributed-executor-backend", "vllm.v1.executor.uniproc_executor.UniProcExecutor")


def in_one_process(recipe: EngineRecipe, cores: Sequence[int] = ()) -> EngineRecipe:
    """With one thread on any core; or all of the engine, its web server too, on the first of `cores`, and a thread on
    each."""
    threads = {"OMP_NUM_THREADS": f"{max(1, len(cores))}"}
    bound = {"GOMP_CPU_AFFINITY": " ".join(map(str, cores))} if cores else {}
    extra, settings = (*recipe.extra, *ARGUMENTS), {**recipe.settings, **threads, **bound}
    return replace(recipe, cores=None, extra=extra, settings=settings)
