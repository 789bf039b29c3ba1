"""Bad rows, bad tools, bad engines: each costs its own row, with a code and a text, and the job goes on."""

import importlib.util
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

import halo
from executor.engines.port import EngineSpec
from halo.batch.run import Batch, run_batch
from halo.sdk.find import find_workflow
from planner.ir.ids import EngineId

WORKFLOWS = Path(__file__).parent / "workflows"
SCRIPTED = EngineSpec(EngineId("scripted"), "scripted", ("test-model",), context_tokens=4096)


def _sick_server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sick_server", WORKFLOWS / "sick_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def sick_engines() -> AsyncIterator[list[EngineSpec]]:
    """Several, so that while one is out of use another goes on."""
    async with TestServer(_sick_server().make_app()) as server:
        yield [EngineSpec(EngineId(f"sick-{n}"), "vllm", (), url=str(server.make_url("/"))) for n in range(6)]


@halo.llm(model="test-model", max_tokens=32, timeout="0.3s", retries=1)
def say(text: str) -> str:
    return f"{text}"


say_at_leisure = say.options(timeout="60s")


@halo.workflow
def ask(text: str) -> str:
    return say(text)


@halo.workflow
def ask_at_leisure(text: str) -> str:
    return say_at_leisure(text)


async def outcome_of(batch: Batch) -> tuple[list[int], dict[int, tuple[str, str]]]:
    """The rows that succeeded; code and message of those that did not."""
    await run_batch(batch)
    results = [json.loads(line)["row"] for line in (batch.out / "results.jsonl").read_text().splitlines()]
    errors = [json.loads(line) for line in (batch.out / "errors.jsonl").read_text().splitlines()]
    return results, {error["row"]: (error["code"], error["message"]) for error in errors}


async def test_a_malformed_line_among_ten_thousand_costs_one_row(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"row {number % 50}"}) for number in range(10_000)]
    rows[6] = '{"text": "row 6'
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    summary = await run_batch(Batch(ask, tmp_path / "rows.jsonl", tmp_path / "out", (SCRIPTED,)))
    assert (summary.rows, summary.succeeded, summary.failures) == (10_000, 9_999, {"invalid_json": 1})
    (error,) = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    assert json.loads(error)["line"] == 7


async def test_tools_that_misbehave_cost_their_own_rows(tmp_path: Path) -> None:
    triage = find_workflow(str(WORKFLOWS / "triage.py"))
    asked = ["well", "raise", "hang", "flood", "unserialisable", "long-prompt", "well again"]
    rows = [{"question": f"please {what}"} for what in asked]
    results, errors = await outcome_of(Batch(triage, rows, tmp_path / "out", (SCRIPTED,)))
    assert results == [0, 6]
    assert errors[1] == ("tool_raised", "act raised ValueError: told to")
    assert errors[2] == ("tool_timeout", "act took longer than its 0.3 s")
    assert errors[3][0] == "tool_output_too_large"
    assert errors[4][0] == "tool_bad_output"
    assert errors[5][0] == "prompt_too_long"


async def test_prompts_of_megabytes_cost_their_own_rows(tmp_path: Path) -> None:
    rows = [{"text": "x" * 5 * 1024 * 1024}, {"text": "short"}, {"text": "y" * 100_000}]
    results, errors = await outcome_of(Batch(ask, rows, tmp_path / "out", (SCRIPTED,)))
    assert results == [1]
    assert errors[0][0] == "prompt_too_large"
    assert errors[2][0] == "prompt_too_long"


async def test_an_engine_that_misbehaves_costs_the_rows_that_make_it(
    tmp_path: Path, sick_engines: list[EngineSpec]
) -> None:
    asked = ["fine", "500", "garbage", "half", "wrong-model", "z" * 20_000, "fine again"]
    rows: list[Any] = [{"text": f"please {what}"} for what in asked]
    results, errors = await outcome_of(Batch(ask_at_leisure, rows, tmp_path / "out", sick_engines))
    assert results == [0, 6]
    codes = {asked[row][:12]: code for row, (code, _) in errors.items()}
    assert codes == {
        "500": "engine_error",
        "garbage": "bad_answer",
        "half": "engine_killer",
        "wrong-model": "wrong_model",
        "z" * 12: "prompt_too_long",
    }
    assert all(message for _, message in errors.values())


async def test_an_engine_that_answers_nothing_costs_the_row_in_time(
    tmp_path: Path, sick_engines: list[EngineSpec]
) -> None:
    results, errors = await outcome_of(Batch(ask, [{"text": "please nothing"}], tmp_path / "out", sick_engines))
    assert (results, errors[0][0]) == ([], "timeout")
