"""The runner of the local engine, with a small server in vLLM's place: up, down, died, hung, and never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from executor.engines.local_recipe import EngineNotRunning, EngineRecipe, command_of, free_port, recipe_in
from executor.engines.local_vllm import LocalVllm, Watch

#: Stands where vLLM's interpreter stands: serves what a probe asks for, and has a child of its own, as vLLM does.
SERVER = """#!{python} -I
import http.server, json, os, pathlib, subprocess, sys
folder = pathlib.Path({folder!r})
arguments = dict(zip(sys.argv[3:], sys.argv[4:]))
child = subprocess.Popen(["sleep", "600"])
with open(folder / "pids", "a") as pids:
    pids.write(f"{{os.getpid()}} {{child.pid}}\\n")
print("loading the model", flush=True)
if (folder / "cannot-start").exists():
    sys.exit("no KV cache fits")

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sick = (folder / "sick").exists()
        body = json.dumps({{"data": [{{"id": "tiny-llama"}}], "version": "0"}}).encode()
        self.send_response(503 if sick else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", int(arguments["--port"])), Answer).serve_forever()
"""
#: Soon takes an engine that does not answer for dead.
QUICK = Watch(every_s=0.05, misses=2)
#: Goes by the end of its process alone, which it hears of at once.
PATIENT = Watch(every_s=600)


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[EngineRecipe]:
    server = tmp_path / "python"
    server.write_text(SERVER.format(python=sys.executable, folder=str(tmp_path)))
    server.chmod(0o755)
    yield EngineRecipe(server, tmp_path / "model", tmp_path / "log" / "vllm.log", free_port(), start_timeout_s=200)
    asyncio.run(until(lambda: not any(alive(pid) for pid in pids(tmp_path))))  # nothing is left behind


def pids(folder: Path) -> list[int]:
    """Every process that was ever part of an engine here."""
    file = folder / "pids"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def alive(pid: int) -> bool:
    """Whose end nobody has asked for yet has ended."""
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(true: Callable[[], bool], seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


async def test_it_answers_while_it_is_open_and_nothing_is_left_after(recipe: EngineRecipe, tmp_path: Path) -> None:
    said: list[str] = []
    async with LocalVllm(recipe, tell=said.append) as engine:
        assert engine.pid == pids(tmp_path)[0]
        assert engine.spec.url == recipe.url
        assert said == [f"the engine answers at {recipe.url}"]
        assert all(alive(pid) for pid in pids(tmp_path))
    assert engine.pid is None
    await until(lambda: not any(alive(pid) for pid in pids(tmp_path)))
    await engine.stop()


async def test_an_engine_that_cannot_start_tells_the_end_of_its_log(recipe: EngineRecipe, tmp_path: Path) -> None:
    (tmp_path / "cannot-start").touch()
    with pytest.raises(EngineNotRunning, match="ended while it started") as caught:
        await LocalVllm(recipe).start()
    assert "no KV cache fits" in str(caught.value)
    assert "loading the model" in str(caught.value)


async def test_an_engine_that_is_never_ready_is_given_up_in_time(recipe: EngineRecipe, tmp_path: Path) -> None:
    (tmp_path / "sick").touch()
    with pytest.raises(EngineNotRunning, match=r"did not answer within 0\.5 s"):
        await LocalVllm(replace(recipe, start_timeout_s=0.5)).start()


async def test_a_taken_port_is_told_at_once(recipe: EngineRecipe, tmp_path: Path) -> None:
    async with LocalVllm(recipe):
        with pytest.raises(EngineNotRunning, match="cannot listen"):
            await LocalVllm(recipe).start()
    assert len(pids(tmp_path)) == 2


async def test_a_killed_engine_is_started_again_with_all_its_processes_new(
    recipe: EngineRecipe, tmp_path: Path
) -> None:
    said: list[str] = []
    async with LocalVllm(recipe, max_restarts=1, watch=PATIENT, tell=said.append) as engine:
        first = pids(tmp_path)
        os.kill(first[0], signal.SIGKILL)
        await until(lambda: len(said) == 3)
        assert not any(alive(pid) for pid in first)
        assert engine.restarts == 1
        assert alive(pids(tmp_path)[2])
        assert said[1] == "the engine died (code 137); starting it again (1 of 1)"


async def test_a_killed_leash_leaves_nothing_either(recipe: EngineRecipe, tmp_path: Path) -> None:
    async with LocalVllm(recipe, watch=PATIENT) as engine:
        os.kill(parent_of(pids(tmp_path)[0]), signal.SIGKILL)
        with pytest.raises(EngineNotRunning, match="code -9"):
            await engine.died()
        await until(lambda: not any(alive(pid) for pid in pids(tmp_path)))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


async def test_after_the_last_restart_it_is_gone_for_good(recipe: EngineRecipe, tmp_path: Path) -> None:
    async with LocalVllm(recipe, watch=PATIENT) as engine:
        os.kill(pids(tmp_path)[0], signal.SIGKILL)
        with pytest.raises(EngineNotRunning, match="code 137"):
            await engine.died()


async def test_an_engine_that_hangs_is_taken_for_dead(recipe: EngineRecipe, tmp_path: Path) -> None:
    async with LocalVllm(recipe, watch=QUICK) as engine:
        (tmp_path / "sick").touch()
        with pytest.raises(EngineNotRunning, match="did not answer 2 health checks"):
            await engine.died()


async def test_waiting_for_its_death_ends_when_it_is_stopped(recipe: EngineRecipe) -> None:
    engine = LocalVllm(recipe)
    await engine.start()
    waiting = asyncio.create_task(engine.died())
    await asyncio.sleep(0)
    await engine.stop()
    await waiting


async def test_it_may_be_stopped_while_it_starts(recipe: EngineRecipe, tmp_path: Path) -> None:
    (tmp_path / "sick").touch()
    engine = LocalVllm(recipe)
    starting = asyncio.create_task(engine.start())
    await until(lambda: len(pids(tmp_path)) == 2)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await until(lambda: not any(alive(pid) for pid in pids(tmp_path)))


SERVE = """
import sys
from pathlib import Path
from executor.engines.local_recipe import EngineRecipe
from executor.engines.local_vllm import serve_cpu_engine
python, log, port = sys.argv[1:]
serve_cpu_engine(EngineRecipe(Path(python), Path("model"), Path(log), int(port)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_left_however_the_command_ends(
    recipe: EngineRecipe, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = (str(recipe.python), str(recipe.log), str(recipe.port))
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert await asyncio.to_thread(command.stdout.readline) == f"{recipe.url}\n"
        assert await asyncio.to_thread(command.stdout.readline) == f"--engine {recipe.url}\n"
        command.send_signal(number)
        await until(lambda: command.poll() is not None)
        await until(lambda: not any(alive(pid) for pid in pids(tmp_path)))
        if number != signal.SIGKILL:
            assert command.returncode == 0
            assert command.stderr.read().splitlines()[-1] == "stopped"


def test_without_make_engine_there_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(EngineNotRunning, match="run `make engine` first"):
        recipe_in(tmp_path)


def test_the_command_bounds_the_kv_cache_only_when_asked(tmp_path: Path) -> None:
    recipe = EngineRecipe(tmp_path / "python", tmp_path / "model", tmp_path / "log", 8100)
    assert "--num-gpu-blocks-override" not in command_of(recipe)
    assert "--num-gpu-blocks-override 600" in " ".join(command_of(replace(recipe, kv_blocks=600)))
