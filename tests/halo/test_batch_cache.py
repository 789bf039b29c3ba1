"""Batches that know what earlier ones gave: the same answers with fewer calls, and both are told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import halo
from halo.cli.main import make_app

FLEET = """[[engine]]
id = "scripted"
kind = "scripted"
model = "test-model"
revision = "{}"
"""
FLOW = str(Path(__file__).parent / "workflows" / "polished.py")
Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """`halo ...` in a folder of its own, with a cache of its own."""
    for name in ("HALO_FLEET", "HALO_ENGINE_URL", "HALO_RESULT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HALO_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(FLEET.format("r1"))
    return lambda *arguments, **options: CliRunner().invoke(make_app(), [str(part) for part in arguments], **options)


def batch(command: Command, out: str, count: int, *more: str, **options: Any) -> dict[str, Any]:
    """The summary of a batch of so many rows; a row is the same in all of them."""
    Path("rows.jsonl").write_text("".join(json.dumps({"text": f"topic {n}"}) + "\n" for n in range(count)))
    given = (FLOW, "--rows", "rows.jsonl", "--out", out, "--fleet", "fleet.toml", "--json", *more)
    done = command("batch", "run", *given, **options)
    assert done.exit_code == 0, done.output
    summary: dict[str, Any] = json.loads(done.stdout)
    assert json.loads((Path(out) / "summary.json").read_text()) == summary
    return summary


def test_a_batch_of_which_half_is_known_makes_only_the_other_calls(command: Command) -> None:
    first = batch(command, "one", 64)
    assert first["calls"] == {"made": 128, "saved": 0}
    assert first["from_cache"] == {"calls": 0, "tools": 0}

    second = batch(command, "two", 128)
    assert second["calls"] == {"made": 128, "saved": 128}
    assert second["tools"] == {"made": 64, "saved": 64}
    assert second["from_cache"] == {"calls": 128, "tools": 64}
    assert second["tokens"]["saved_prompt"] == first["tokens"]["prompt"]

    without = batch(command, "three", 128, "--no-cache")
    assert without["calls"] == {"made": 256, "saved": 0}
    assert Path("two/results.jsonl").read_bytes() == Path("three/results.jsonl").read_bytes()


def test_the_table_tells_what_came_from_the_cache(command: Command) -> None:
    batch(command, "one", 3)
    done = command("batch", "run", FLOW, "--rows", "rows.jsonl", "--out", "two", "--fleet", "fleet.toml")
    assert "calls: 0 made, 6 saved" in done.stdout
    assert "from the cache, of those saved: 6 calls, 3 tools" in done.stdout


def test_other_weights_and_a_variable_that_says_no_ask_anew(command: Command) -> None:
    batch(command, "one", 3)
    assert batch(command, "two", 3, env={"HALO_RESULT_CACHE": "0"})["calls"]["made"] == 6
    Path("fleet.toml").write_text(FLEET.format("r2"))
    assert batch(command, "three", 3)["calls"]["made"] == 6


def test_a_cache_that_cannot_be_opened_stops_no_batch(command: Command, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("this is no folder")
    assert batch(command, "one", 3)["calls"]["made"] == 6


def test_what_is_kept_can_be_seen_and_cleared(command: Command) -> None:
    batch(command, "one", 3)
    assert json.loads(command("cache", "show", "--json").stdout)["results"] == 9
    assert command("cache", "clear").stdout == "9 results forgotten\n"
    assert batch(command, "two", 3)["calls"]["made"] == 6


def test_a_job_in_python_uses_the_same_cache_unless_told_not_to(command: Command) -> None:
    batch(command, "one", 3)
    flow = halo.find_workflow(FLOW)
    rows = [{"text": f"topic {n}"} for n in range(3)]
    flow.map(rows).run(out="two", engines="fleet.toml")
    flow.map(rows).run(out="three", engines="fleet.toml", cache=False)
    made = [json.loads(Path(out, "summary.json").read_text())["calls"]["made"] for out in ("two", "three")]
    assert made == [0, 6]
