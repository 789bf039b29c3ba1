"""The `halo` command as a process of its own: exit codes, streams, signals, a terminal, a shell that completes."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
TRIAGE = str(Path(__file__).parent / "workflows" / "triage.py")
FLEET = '[[engine]]\nid = "scripted"\nkind = "scripted"\nmodel = "test-model"\n'
SLOW = FLEET + '\n[engine.options]\nanswers = "logged_answers:answer"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"question": f"q {n}"}) + "\n" for n in range(200)))
    return tmp_path


def environment(folder: Path, **more: str) -> Mapping[str, str]:
    plain = {name: text for name, text in os.environ.items() if not name.startswith("HALO_")}
    path = f"{ROOT}:{Path(__file__).parent / 'workflows'}"
    caches = {"HALO_CACHE_HOME": str(folder / "cache")}
    return {**plain, "PYTHONPATH": path, "HALO_TEST_CALLS": str(folder / "calls.log"), **caches, **more}


def halo(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "halo", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(folder, **more), text=True, capture_output=True, timeout=280, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["version"], 0),
        (["run", TRIAGE, "-i", "question=a", "--fleet", "fleet.toml"], 0),
        (["run", TRIAGE, "-i", "question=a raise", "--fleet", "fleet.toml"], 1),
        (["run", "nonsense"], 2),
        (["nonsense"], 2),
        (["serve", "--fleet", "fleet.toml", "--port", "99999"], 2),
        (["serve", "--fleet", "fleet.toml", "--workflow", "nonsense"], 2),
    ],
)
def test_exit_codes(folder: Path, arguments: list[str], code: int) -> None:
    done = halo(folder, *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_stdout_has_the_result_alone(folder: Path) -> None:
    done = halo(folder, "run", TRIAGE, "-i", "question=a", "--fleet", "fleet.toml", "--json")
    assert json.loads(done.stdout)["length"] == 1


@pytest.mark.parametrize("command", [["run", "-i", "text=a"], ["batch", "run", "--rows", "rows.jsonl", "--out", "out"]])
def test_what_workflows_and_tools_print_does_not_spoil_the_result(folder: Path, command: list[str]) -> None:
    (folder / "talks.py").write_text(TALKS)
    (folder / "rows.jsonl").write_text('{"text": "a"}\n')
    done = halo(folder, *command, "talks.py:talk", "--fleet", "fleet.toml", "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert "while it is imported" in done.stderr
    assert "while it runs" in done.stderr


TALKS = """
import halo

print("while it is imported")


@halo.tool(effect="pure")
def echo(text: str) -> str:
    print("while it runs")
    return text


@halo.workflow
def talk(text: str) -> str:
    return echo(text)
"""


def test_a_terminal_sees_a_bar(folder: Path) -> None:
    (folder / "fleet.toml").write_text(SLOW)
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "halo", "batch", "run", TRIAGE, "--rows", "rows.jsonl", "--out", "out"]
    process = subprocess.Popen(
        [*command, "--fleet", "fleet.toml"],
        cwd=folder,
        env=environment(folder, HALO_TEST_CALL_S="0.005", COLUMNS="160", TERM="xterm"),
        stdout=subprocess.DEVNULL,
        stderr=inside,
    )
    os.close(inside)
    seen = _all_of(terminal)
    assert process.wait(timeout=120) == 0
    assert re.search(rb"\d+/200", seen)
    assert re.search(rb"rows/s .* 0 failed .* calls .* tokens .* engines 1/1 up", seen)


def test_a_shell_completes_workflows_and_commands(folder: Path) -> None:
    ask = {"_HALO_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert "engines" in halo_as_console(folder, COMP_WORDS="halo e", **ask).stdout.split()
    ask["COMP_CWORD"] = "2"
    assert "text2sql" in halo_as_console(folder, COMP_WORDS="halo run te", **ask).stdout.split()
    found = halo_as_console(folder, COMP_WORDS=f"halo run {TRIAGE[:-2]}", **ask).stdout.split()
    assert TRIAGE in found


def halo_as_console(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """As the console script runs it, whose name the completion goes by."""
    script = "import sys; sys.argv[0] = 'halo'; from halo.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment(folder, **more),
        text=True,
        capture_output=True,
        timeout=280,
        check=False,
    )


def test_serve_answers_until_it_is_told_to_stop(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "halo", "serve", "--workflow", TRIAGE, "--fleet", "fleet.toml"]
    process = subprocess.Popen(
        [*command, "--port", str(port)], cwd=folder, env=environment(folder), stderr=subprocess.PIPE, text=True
    )
    try:
        assert _answers(f"http://127.0.0.1:{port}/healthz", process)
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert f"Halo listens on http://127.0.0.1:{port}" in told


def _answers(url: str, process: subprocess.Popen[str]) -> bool:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.1)
    return False


def _all_of(terminal: int) -> bytes:
    """Everything written until nobody writes any more."""
    parts: list[bytes] = []
    while select.select([terminal], [], [], 200)[0]:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # what Linux says when the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    return b"".join(parts)
