"""With all passes on, a job asks for what serial execution asks for, each thing once, and gives what that gives."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from live_runs import run_live
from synthetic_world import SyntheticWorld

from executor.commands import Status
from executor.engines.answers import Answer
from executor.engines.port import EngineSpec, GenerateRequest
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from halo.sdk.find import find_workflow
from planner.interpret import interpret
from planner.ir.conversation import Reply
from planner.ir.ids import EngineId
from planner.ir.plan import Agent, Generate
from planner.ir.values import Json, canonical_json
from planner.table import Table
from workloads.rows.draw_rows import RowSource, draw_rows
from workloads.rows.sources import SOURCES
from workloads.text2sql.databases import FOLDER_VARIABLE
from workloads.text2sql.datasets import DATA_FOLDER, read_questions

MODELS = ("small", "medium", "large", "general", "sql")
ROWS = 24

Row = Mapping[str, Json]


class Noting(Synthetic):
    """The synthetic answers, and what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def answer(self, request: GenerateRequest) -> Answer:
        assert request.sampling.fixed, "else equal requests need not have equal answers"
        self.asked.append(identity_of(request.model, request.sampling, request.schema, request.messages))
        return super().answer(request)


class NotingWorld(SyntheticWorld):
    """The same for serial execution."""

    def __init__(self, run_tool: Any) -> None:
        super().__init__(run_tool)
        self.asked: list[str] = []

    def generate(self, path: str, stage: Generate | Agent, messages: list[Json]) -> Reply:
        assert isinstance(stage, Generate)
        self.asked.append(identity_of(stage.model, stage.sampling, stage.schema, messages))
        return super().generate(path, stage, messages)


def identity_of(model: str, sampling: Any, schema: Json, messages: Sequence[Json]) -> str:
    return canonical_json([model, sampling.temperature, sampling.max_tokens, sampling.seed, schema, list(messages)])


@pytest.mark.parametrize("duplicates", [0.0, None], ids=["all different", "natural duplicates"])
@pytest.mark.parametrize("name", SOURCES)
async def test_workflows(
    name: str, duplicates: float | None, scaled_databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(scaled_databases))
    await check_equal(name, draw_rows(SOURCES[name], ROWS, duplicates, seed=5))


async def test_text_to_sql(sample_databases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(sample_databases))
    questions = read_questions(DATA_FOLDER / "questions.jsonl")
    rows: list[dict[str, Json]] = [{"database": one.db_id, "question": one.question} for one in questions]
    await check_equal("text2sql", draw_rows(RowSource(len(rows), rows.__getitem__), ROWS, 0.25, seed=5))


async def check_equal(name: str, rows: Sequence[Row]) -> None:
    workflow, answers = find_workflow(name), Noting()
    world = NotingWorld(lambda spec, arguments: workflow.tools[spec.name].function(**arguments))
    table = Table.from_rows(rows, workflow.plan.inputs)
    serial = [interpret(workflow.plan, table.row(row), world) for row in range(table.rows)]

    engine = Scripted(EngineSpec(EngineId("one"), "scripted", MODELS, max_running=16), answers)
    status, live, _ = await run_live(workflow.plan, rows, workflow.tools, engines=[engine])

    assert status is Status.SUCCEEDED
    assert [row.result for row in live] == serial
    assert sorted(answers.asked) == sorted(set(world.asked)), "the same requests, and none of them twice"
