"""Batches in processes of their own: killed, interrupted, gone on with."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.drivers.live_nodes import call_id
from planner.ir.ids import JobId, NodeRef, program_id

ROOT = Path(__file__).parents[2]
WORKFLOWS = Path(__file__).parent / "workflows"
ROWS = 120
#: So slow that a run is still half-way when a test that stalls interrupts it.
SLOW_S = 0.5
FLEET = """
[[engine]]
id = "scripted"
kind = "scripted"
model = "test-model"
max_running = 16

[engine.options]
answers = "logged_answers:answer"
"""


class Runs:
    """Runs `halo batch run` over the same rows, each time as a new process."""

    def __init__(self, folder: Path) -> None:
        self.out, self.calls = folder / "out", folder / "calls.log"
        self._folder = folder
        self._rows = folder / "rows.jsonl"
        self._rows.write_text("".join(json.dumps({"question": f"question {n % 90}"}) + "\n" for n in range(ROWS)))
        (folder / "fleet.toml").write_text(FLEET)

    def start(self, *more: str, out: str = "out", call_s: float = 0.004, quick_calls: int = 0) -> subprocess.Popen[str]:
        """The first `quick_calls` take no time, all others `call_s`."""
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{WORKFLOWS}",
            "HALO_TEST_CALLS": str(self.calls),
            "HALO_TEST_CALL_S": str(call_s),
            "HALO_TEST_QUICK_CALLS": str(quick_calls),
        }
        command = [sys.executable, "-m", "halo", "batch", "run", str(WORKFLOWS / "triage.py"), "--json"]
        command += ["--rows", str(self._rows), "--out", str(self._folder / out), "--fleet", "fleet.toml", *more]
        return subprocess.Popen(
            command, cwd=self._folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def until_calls(self, count: int, process: subprocess.Popen[str]) -> None:
        self._until(lambda: len(self.called()) >= count, process)

    def until_more_is_committed(self, than: set[str], process: subprocess.Popen[str]) -> None:
        self._until(lambda: not self.committed() <= than, process)

    def called(self) -> list[str]:
        return [line.split()[0] for line in self.calls.read_text().splitlines()] if self.calls.exists() else []

    def committed(self) -> set[str]:
        """The ids of all calls that nodes in the database may have made."""
        with sqlite3.connect(self.out / "job.db") as database:
            nodes = database.execute("SELECT job_id, row_index, path, attempt FROM nodes WHERE engine IS NOT NULL")
            return {call_id(NodeRef(program_id(JobId(job), row), path), attempt) for job, row, path, attempt in nodes}

    def files(self, out: str = "out") -> tuple[str, str]:
        return tuple((self._folder / out / name).read_text() for name in ("results.jsonl", "errors.jsonl"))

    @staticmethod
    def _until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 280
        while not true():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def finished(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=280)
    assert process.returncode == code, err
    return out, err


def test_killed_again_and_again_it_ends_as_if_it_never_was(runs: Runs) -> None:
    finished(runs.start(out="undisturbed", call_s=0))
    runs.calls.unlink()
    for calls in (1, 40, 90):
        before, done = len(runs.called()), runs.committed() if runs.out.exists() else set()
        process = runs.start("--resume", quick_calls=calls, call_s=SLOW_S)
        runs.until_calls(before + calls, process)
        runs.until_more_is_committed(done, process)
        process.kill()
        finished(process, -signal.SIGKILL)
        assert not done & set(runs.called()[before:]), "a finished call was made again"

    before, done = len(runs.called()), runs.committed()
    out, _ = finished(runs.start("--resume"))

    assert not done & set(runs.called()[before:])
    assert runs.files() == runs.files("undisturbed")
    assert json.loads(out)["succeeded"] == ROWS


def test_one_interrupt_stops_in_order_and_tells_how_to_go_on(runs: Runs) -> None:
    process = runs.start(quick_calls=30, call_s=SLOW_S)
    runs.until_calls(30, process)
    runs.until_more_is_committed(set(), process)
    process.send_signal(signal.SIGINT)
    out, err = finished(process, 130)
    assert out == ""
    assert "stopping: what runs is given up, what is finished is kept" in err
    assert "to go on:\n  halo batch run" in err
    assert err.rstrip().endswith("--resume")
    assert "Traceback" not in err

    done, before = runs.committed(), len(runs.called())
    assert done
    finished(runs.start("--resume"))
    assert not done & set(runs.called()[before:])
    assert len(runs.files()[0].splitlines()) == ROWS


def test_a_second_interrupt_ends_it_at_once(runs: Runs) -> None:
    process = runs.start(quick_calls=5, call_s=SLOW_S)
    runs.until_calls(5, process)
    while process.poll() is None:  # two at once may come as one
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    finished(process, 130)
    finished(runs.start("--resume", call_s=0))
    assert len(runs.files()[0].splitlines()) == ROWS


def test_progress_goes_to_stderr_and_the_summary_to_stdout(runs: Runs) -> None:
    out, err = finished(runs.start(call_s=0))
    assert json.loads(out)["rows"] == ROWS
    assert "Traceback" not in err
