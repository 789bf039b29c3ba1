"""Each workflow runs live as the reference interpreter says, and equal rows are run once, as EXPLAIN foretold."""

from collections import Counter
from pathlib import Path

import pytest
from live_runs import run_live
from synthetic_world import SyntheticWorld

from executor.commands import Status
from executor.engines.answers import Answer
from executor.engines.port import EngineSpec, GenerateRequest
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from halo.sdk.find import find_workflow
from planner.explain import explain
from planner.interpret import interpret
from planner.ir.ids import EngineId
from planner.job import JobPart
from planner.optimize import optimize
from planner.table import Table
from workloads.rows.draw_rows import draw_rows
from workloads.rows.sources import SOURCES

MODELS = ("small", "medium", "large", "general")


class Counting:
    """The synthetic answers, and how many were given for each model."""

    def __init__(self) -> None:
        self.given: Counter[str] = Counter()

    def answer(self, request: GenerateRequest) -> Answer:
        self.given[request.model] += 1
        return Synthetic().answer(request)


@pytest.mark.parametrize("name", SOURCES)
async def test_a_live_run_gives_what_the_reference_gives_and_asks_what_was_foretold(
    name: str, scaled_databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALO_TOOL_DATABASES", str(scaled_databases))
    workflow, rows = find_workflow(name), draw_rows(SOURCES[name], 8, 0.5, seed=3)
    answers = Counting()
    engine = Scripted(EngineSpec(EngineId("one"), "scripted", MODELS, max_running=8), answers)

    status, live, _ = await run_live(workflow.plan, rows, workflow.tools, engines=[engine])

    table = Table.from_rows(rows, workflow.plan.inputs)
    world = SyntheticWorld(lambda spec, arguments: workflow.tools[spec.name].function(**arguments))
    assert status is Status.SUCCEEDED
    assert [row.result for row in live] == [interpret(workflow.plan, table.row(row), world) for row in range(8)]
    part = JobPart(workflow.plan, table)
    foretold = explain([part], optimize([part]))
    assert foretold.distinct_calls.low <= answers.given.total() <= foretold.distinct_calls.high
    assert foretold.distinct_calls.high <= foretold.calls.high / 2


async def test_a_revision_that_pleases_the_judge_ends_early() -> None:
    workflow, rows = find_workflow("revision"), draw_rows(SOURCES["revision"], 8, 0.0, seed=3)
    answers = Counting()
    engine = Scripted(EngineSpec(EngineId("one"), "scripted", MODELS, max_running=8), answers)
    _, live, _ = await run_live(workflow.plan, rows, workflow.tools, engines=[engine])
    assert sum(row.result["verdict"]["sound"] for row in live) > 0  # type: ignore[index, call-overload, misc]
    assert answers.given["large"] < 8 * 5
