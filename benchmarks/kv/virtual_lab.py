"""The lab in virtual time: vLLM's own scheduler and KV manager in a process that can import vLLM."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kv.arms import Serving
from benchmarks.kv.hints import Telling
from benchmarks.kv.lab import CannotRun, EngineSize
from benchmarks.kv.programs import Load
from benchmarks.kv.real_lab import PLUGIN, ROOT, refuse_missing_plugin
from benchmarks.kv.results import ProgramResult
from benchmarks.kv.virtual_line import Order, from_line, to_line
from executor.engines.local_recipe import SETTINGS
from planner.cost.profile import Profile

LOG = ROOT / ".engine" / "virtual.log"
PYTHON = ROOT / ".venv-engine" / "bin" / "python"
LONGEST_LINE_BYTES = 256 * 1024 * 1024


class VirtualLab:
    """Body of `Lab`. The process starts with the first load and serves them all; its `python` can import vLLM. Steps
    take what `profile` says; without it, a linear cost."""

    simulated = True

    def __init__(self, size: EngineSize, python: Path = PYTHON, profile: Profile | None = None) -> None:
        self._size = size
        self._profile = profile
        self._python = python
        self._child: asyncio.subprocess.Process | None = None

    async def run(self, serving: Serving, load: Load, telling: Telling, salt: str) -> Sequence[ProgramResult]:
        refuse_missing_plugin(serving)
        child = self._child = self._child or await _start(self._python)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(to_line(Order(self._size, serving, load, telling, salt, self._profile)))
        await child.stdin.drain()
        line = await child.stdout.readline()
        if not line:
            self._child = None
            raise CannotRun(f"the simulation ended with code {await child.wait()}; see {LOG}")
        answer = from_line(line)
        if isinstance(answer, str):
            raise CannotRun(answer)
        results: Sequence[ProgramResult] = answer
        return results

    async def close(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            child.stdin.close()
            await child.wait()


async def _start(python: Path) -> asyncio.subprocess.Process:
    """Raises `CannotRun` without the engine's interpreter."""
    if not python.exists():
        raise CannotRun("there is no vLLM here: run `make engine` first")
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(str(python), "-m", "benchmarks.kv.virtual_child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, **SETTINGS, "PYTHONPATH": f"{ROOT}{os.pathsep}{PLUGIN}"},
            limit=LONGEST_LINE_BYTES,
        )
