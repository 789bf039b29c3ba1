"""`halo demo`: the whole product on a modelled fleet, as somebody runs it who has just cloned Halo."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from executor.engines.port import GenerateRequest
from planner.ir.plan import Sampling
from workloads.text2sql.command import app as text2sql_command
from workloads.text2sql.recorded_model import answer

ROWS, REPEATS = 64, 16


def halo_demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "halo", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "halo-demo"


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    """What a quick demo says as JSON."""
    ran = halo_demo("--quick", "--out", folder, "--json")
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_every_row_ends_and_repeats_cost_no_calls(told: dict[str, Any]) -> None:
    assert (told["rows"], told["repeats"], told["failed"]) == (ROWS, REPEATS, 0)
    calls, tokens = told["calls"], told["prompt_tokens"]
    assert calls["made"] + calls["saved"] == calls["as_written"]
    assert calls["as_written"] >= 5 * ROWS
    assert calls["saved"] >= 5 * REPEATS
    assert 0 < tokens["cached"] < tokens["sent"] < tokens["as_written"]


def test_the_account_of_the_journal_agrees_with_the_store(told: dict[str, Any]) -> None:
    for kind in ("calls", "tools"):
        for how in ("made", "saved"):
            assert sum(work[how][kind] for work in told["functions"].values()) == told[kind][how]
    for key, how in (("sent", "made"), ("saved", "saved")):
        assert sum(work[how]["prompt_tokens"] for work in told["functions"].values()) == told["prompt_tokens"][key]
    assert sum(engine["calls"] for engine in told["engines"]) == told["calls"]["made"]


def test_the_fleet_is_mixed_and_its_time_modelled(told: dict[str, Any]) -> None:
    assert [engine["gpu"] for engine in told["engines"]] == ["A100", "L40S", "A10"]
    assert all(0 < engine["busy_share"] <= 1 for engine in told["engines"])
    assert all(0 < engine["mean_running"] <= engine["max_running"] for engine in told["engines"])
    assert told["modelled_seconds_per_second"] > 0
    assert told["makespan_s"] > 0


def test_most_answers_are_right_and_the_score_can_be_taken_again(told: dict[str, Any], folder: Path) -> None:
    assert 0.6 < told["accuracy"]["share"] < 1
    files = ("--results", folder / "batch" / "results.jsonl", "--rows", folder / "rows.jsonl")
    asked = ["score", *map(str, files), "--folder", str(folder / "databases"), "--json"]
    again = json.loads(CliRunner().invoke(text2sql_command, asked, catch_exceptions=False).stdout)
    assert again["matched"] == told["accuracy"]["matched"]
    assert any(sample["right"] for sample in told["samples"])
    assert all(sample["sql"].upper().startswith(("SELECT", "WITH")) for sample in told["samples"])


class Page(HTMLParser):
    """Checks that every tag is closed, and gathers the text and the attributes."""

    VOID = frozenset(["meta", "rect", "path", "br"])

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.attributes: set[str] = set()
        self.tags: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_report_is_whole_and_needs_nothing_else(told: dict[str, Any], folder: Path) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    text = " ".join(" ".join(page.texts).split())
    for heading in ("The plan", "Calls made and saved", "The engines over time", "Some answers", "What is real here"):
        assert heading in text
    assert f"{told['calls']['made']:,}" in text
    assert "GPU time is modelled and the model's answers are recorded" in text
    assert page.tags.isdisjoint({"script", "link", "iframe", "img", "object"})
    assert page.attributes.isdisjoint({"src", "href", "srcset", "xlink:href"})
    assert re.findall(r"https?:|url\(|@import", html) == []


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_a_browser_shows_the_report(told: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    assert BROWSER is not None
    picture = tmp_path / "report.png"
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    where = (f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", f"file://{folder / 'report.html'}")
    subprocess.run([BROWSER, *quiet, *where], capture_output=True, timeout=280, check=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000, "an empty page is smaller"


def test_a_former_demo_is_replaced_and_the_screen_tells_what_is_modelled(told: dict[str, Any], folder: Path) -> None:
    (folder / "note.txt").write_text("mine")
    ran = halo_demo("--quick", "--out", folder)
    assert ran.returncode == 0, ran.stderr
    text = " ".join(ran.stdout.split())
    for piece in (
        f"{ROWS} Text-to-SQL questions",
        f"{REPEATS} of them were asked before",
        "modelled GPU time: A100, L40S, A10",
        "recorded the model's answers",
        "real planning, scheduling, the SQL",
        "model calls:",
        "candidates agree",
        "queries return what the gold SQL returns",
        "report.html",
    ):
        assert piece in text
    assert (folder / "note.txt").read_text() == "mine"
    assert len((folder / "batch" / "results.jsonl").read_text().splitlines()) == ROWS


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    ran = halo_demo("--quick", "--out", tmp_path)
    assert ran.returncode == 2
    assert "has other files in it" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    ran = halo_demo("--model", "sql", "--out", tmp_path / "demo")
    assert ran.returncode == 2
    ran = halo_demo("--engine", "http://127.0.0.1:1", "--out", tmp_path / "demo")
    assert ran.returncode == 2
    assert "names no model" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "demo").exists()


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """An OpenAI-compatible server with a model of its own name that says what is recorded."""

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        asked = GenerateRequest("", "", "", tuple(body["messages"]), Sampling(seed=body.get("seed")))
        message = {"role": "assistant", "content": answer(asked).text}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        choices = [{"message": message, "finish_reason": "stop"}]
        return web.json_response({"model": body["model"], "choices": choices, "usage": usage})

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "sql-coder", "max_model_len": 8192}]})

    async def healthy(_: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", chat), web.get("/v1/models", models)])
    app.add_routes([web.get("/health", healthy), web.get("/version", healthy)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_the_same_job_runs_on_a_real_engine(server: str, tmp_path: Path) -> None:
    ran = await asyncio.to_thread(halo_demo, "--quick", "--engine", server, "--out", tmp_path / "demo", "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["modelled_seconds_per_second"] is None
    assert told["calls"]["made"] * 100 == told["prompt_tokens"]["sent"]
    assert told["accuracy"]["share"] > 0.6
    assert "GPU time is modelled" not in (tmp_path / "demo" / "report.html").read_text()
