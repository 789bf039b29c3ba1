"""Equality on the real CPU vLLM: what Halo sends is what serial execution sends, and the answers are the same.

Kernels may add in another order in another batch, so that a greedy answer changes now and then: a difference counts as
explained when the very same request was answered in two ways. On the CPU none has been seen.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from live_runs import run_live

from executor.commands import Status
from executor.engines.local_vllm import LocalVllm
from executor.engines.port import Completion, EngineSpec, GenerateRequest
from executor.engines.vllm_http import VllmHttp
from halo.sdk.find import find_workflow
from planner.interpret import StageFailed, interpret
from planner.ir.conversation import Reply
from planner.ir.plan import Agent, Generate, Plan, Stage, ToolSpec
from planner.ir.rewrite import replace_bodies
from planner.ir.values import Json, canonical_json
from planner.table import Table
from workloads.rows.draw_rows import draw_rows
from workloads.rows.sources import SOURCES
from workloads.text2sql.databases import FOLDER_VARIABLE

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

MODELS = ("small", "medium", "large", "general")
ROWS, ANSWER_TOKENS = 6, 24
#: Of requests asked in both ways, the share that may be answered differently.
TOLERATED = 0.02


class Noting(VllmHttp):
    """The engine, and its answer to each request, by what was asked."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self.answers: dict[str, str] = {}

    async def generate(self, request: GenerateRequest) -> Completion:
        completion = await super().generate(request)
        asked = [request.model, request.sampling.max_tokens, request.sampling.seed, request.schema, request.messages]
        self.answers[canonical_json(asked)] = completion.text
        return completion


class SerialWorld:
    """One call at a time on the same engine; runs in a thread beside the event loop."""

    def __init__(self, engine: Noting, tools: Mapping[str, Any]) -> None:
        self._engine, self._tools, self._loop = engine, tools, asyncio.get_running_loop()

    def generate(self, path: str, stage: Generate | Agent, messages: list[Json]) -> Reply:
        assert isinstance(stage, Generate)
        request = GenerateRequest("", "serial", stage.model, tuple(messages), stage.sampling, stage.schema)
        asked = self._engine.generate(request)
        completion = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        return Reply(completion.text)

    def tool(self, path: str, spec: ToolSpec, arguments: dict[str, Json]) -> Json:
        return self._tools[spec.name].function(**arguments)


@pytest.mark.parametrize("name", SOURCES)
async def test_a_job_is_answered_as_serial_execution_is(
    name: str, real_engine: LocalVllm, scaled_databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(scaled_databases))
    workflow, rows = find_workflow(name), draw_rows(SOURCES[name], ROWS, 0.3, seed=7)
    plan = _short(workflow.plan)
    spec = replace(real_engine.spec, models=MODELS, served_names=dict.fromkeys(MODELS, "tiny-llama"), max_running=16)
    alone, together = Noting(spec), Noting(spec)

    serial = await _serially(plan, rows, SerialWorld(alone, workflow.tools))
    status, live, _ = await run_live(plan, rows, workflow.tools, engines=[together])
    await asyncio.gather(alone.close(), together.close())

    both = alone.answers.keys() & together.answers.keys()
    differing = [asked for asked in both if alone.answers[asked] != together.answers[asked]]
    assert len(differing) <= TOLERATED * len(both)
    if not differing:
        assert together.answers.keys() == alone.answers.keys()
        assert [row.result for row in live] == serial
        assert (status is Status.SUCCEEDED) == (None not in serial)


async def _serially(plan: Plan, rows: Sequence[Mapping[str, Json]], world: SerialWorld) -> list[Json]:
    """The result of each row; None where it failed."""
    table = Table.from_rows(rows, plan.inputs)

    def run(row: int) -> Json:
        try:
            return interpret(plan, table.row(row), world)
        except StageFailed:
            return None

    return [await asyncio.to_thread(run, row) for row in range(table.rows)]


def _short(plan: Plan) -> Plan:
    """The plan with free answers of few tokens."""
    return replace(plan, stages=tuple(map(_short_stage, plan.stages)))


def _short_stage(stage: Stage) -> Stage:
    stage = replace_bodies(stage, lambda body: replace(body, plan=_short(body.plan)))
    if isinstance(stage, Generate) and stage.schema is None:
        return replace(stage, sampling=replace(stage.sampling, max_tokens=ANSWER_TOKENS))
    return stage
