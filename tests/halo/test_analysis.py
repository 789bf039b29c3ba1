"""EXPLAIN ANALYZE of real runs: through the batch runner, the command line, and a browser."""

import asyncio
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from executor.engines.port import EngineSpec
from halo.analysis import analyze_folder
from halo.batch.run import Batch, run_batch
from halo.cli.main import make_app
from halo.priced_fleet import Fleet
from halo.sdk.find import find_workflow
from planner.ir.ids import EngineId

TRIAGE = str(Path(__file__).parent / "workflows" / "triage.py")
ENGINE = EngineSpec(EngineId("scripted"), "scripted", ("test-model",), gpu="L4")
ROWS = [{"question": text} for text in ("a", "b", "a", "c", "a")]


async def ran(folder: Path, **changes: Any) -> Path:
    """The output folder of a batch that has ended."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    await run_batch(replace(Batch(find_workflow(TRIAGE), rows, folder / "out", (ENGINE,), analyze=True), **changes))
    return folder / "out"


def explained(*arguments: str | Path) -> Any:
    return CliRunner().invoke(make_app(), ["explain", *map(str, arguments)])


async def test_what_was_recorded_of_a_batch_is_what_was_foretold(tmp_path: Path) -> None:
    told = json.loads((await ran(tmp_path) / "analyze.json").read_text())

    stages = {stage["path"]: stage for stage in told["stages"]}
    assert (stages["topic"]["made"], stages["topic"]["planned"]) == (3, 2)
    assert (stages["reply"]["made"], stages["reply"]["planned"]) == (5, 0)
    assert told["calls"] == told["prediction"]["distinct_calls"]["low"] == 8
    assert told["rows_ended"] == told["rows"] == 5
    assert 0 <= stages["topic"]["begun_s"] <= stages["reply"]["ended_s"] <= told["seconds"]
    assert told["engines"][0]["calls"] == 8


def test_a_batch_that_is_explained_shows_the_very_analysis_it_has_written_down(tmp_path: Path) -> None:
    rows, fleet = tmp_path / "rows.jsonl", tmp_path / "fleet.toml"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    fleet.write_text('[[engine]]\nid = "scripted"\nkind = "scripted"\nmodels = ["test-model"]\n')
    arguments = ["batch", "run", TRIAGE, "--rows", rows, "--out", tmp_path / "out", "--fleet", fleet, "--explain"]
    shown = CliRunner().invoke(make_app(), [*map(str, arguments), "--no-cache"])

    written = json.loads((tmp_path / "out" / "analyze.json").read_text())
    assert shown.exit_code == 0
    assert "triage, 5 rows: predicted against actual" in shown.stdout
    assert f"{written['rows_ended']} of 5 ended" in shown.stdout
    assert f"{written['engines'][0]['after']['factor']:.2f} times as long as believed" in shown.stdout


async def test_the_prediction_is_for_the_engines_the_job_was_accepted_for(tmp_path: Path) -> None:
    out = await ran(tmp_path)
    assert not (tmp_path / "elsewhere").exists()

    told = await analyze_folder(out, Fleet(()))

    assert told.prediction.engines == (
        "L4 with Llama-3-8B, not calibrated",
        "as when the job was accepted",
    )
    assert any("made again from the stored plan and rows" in note for note in told.notes)


async def test_what_the_calls_taught_of_an_engine_is_told_beside_what_was_believed(tmp_path: Path) -> None:
    told = await analyze_folder(await ran(tmp_path), Fleet(()))

    (engine,) = told.engines
    assert engine.before is None
    assert engine.after is not None
    assert engine.after.calls == 8
    line = f"its calls last {engine.after.factor:.2f} times as long as believed (1 before, nothing was known)"
    assert line in told.to_text()
    assert told.to_json()["engines"][0]["after"]["factor"] == engine.after.factor


def test_a_run_is_shown_in_every_format(tmp_path: Path) -> None:
    out = asyncio.run(ran(tmp_path))

    shown = {
        name: explained("--analyze", out, "--format", name) for name in ("table", "tree", "mermaid", "json", "html")
    }

    assert {result.exit_code for result in shown.values()} == {0}
    assert "model calls: 8 predicted, 8 made (as predicted)" in shown["table"].stdout
    assert re.search(r"├─ topic: generate test-model, 3 made, 3 predicted, 2 shared", shown["tree"].stdout)
    assert "3 made, 3 predicted" in shown["mermaid"].stdout
    assert json.loads(shown["json"].stdout)["savings"]
    assert shown["html"].stdout.startswith("<!doctype html>")


def test_what_cannot_be_analyzed_is_told_with_the_fix(tmp_path: Path) -> None:
    nothing = explained("--analyze", tmp_path)
    assert (nothing.exit_code, "holds no batch" in nothing.stderr) == (2, True)
    unknown = explained("--job", "run_1", "--database", f"sqlite:///{tmp_path / 'halo.db'}")
    assert (unknown.exit_code, "There is no database" in unknown.stderr) == (2, True)
    assert not (tmp_path / "halo.db").exists()
    both = explained("diamond", "--analyze", tmp_path)
    assert both.exit_code == 2
    neither = explained()
    assert (neither.exit_code, "name a workflow" in neither.stderr) == (2, True)


def test_a_job_of_a_database_is_found_by_its_id(tmp_path: Path) -> None:
    out = asyncio.run(ran(tmp_path, analyze=False))
    assert not (out / "analyze.json").exists()
    job = json.loads((out / "summary.json").read_text())["job"]

    told = explained("--job", job, "--database", f"sqlite:///{out / 'job.db'}")

    assert (told.exit_code, "5 of 5 ended" in told.stdout) == (0, True)


CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


@pytest.mark.skipif(not CHROMIUM, reason="needs a Chromium on the PATH")
def test_a_browser_shows_the_page_whole_without_asking_the_network(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(explained("--analyze", asyncio.run(ran(tmp_path)), "--format", "html").stdout)

    shown = dom_of(file, tmp_path)

    assert all(f"<title>{path}</title>" in shown for path in ("measure", "topic", "reply"))
    picture = re.search(r'<svg [^>]*width="(\d+)" height="(\d+)"', shown)
    assert picture is not None
    assert all(int(size) > 50 for size in picture.groups())
    assert "Predicted and actual" in shown


def dom_of(file: Path, folder: Path) -> str:
    """The page as Chromium understood it. Names resolve to nothing: what asks for them shows."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND")
    command = [CHROMIUM, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
