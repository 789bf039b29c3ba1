"""The cells of `plan_batch`: which workflow, how many rows, how many of them twice, how much KV."""

import copy
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from executor.engines.local_recipe import EngineRecipe, recipe_in
from halo.sdk.find import find_workflow
from halo.sdk.workflow import Workflow
from planner.ir.plan import Agent, Generate, Plan, Stage
from planner.ir.rewrite import replace_bodies
from planner.ir.values import Json
from workloads.programs.text2sql import make_text2sql
from workloads.rows.draw_rows import Row, RowSource, draw_rows
from workloads.rows.sources import SOURCES
from workloads.text2sql.databases import FOLDER_VARIABLE
from workloads.text2sql.datasets import DATA_FOLDER, read_questions, read_spider

ROOT = Path(__file__).resolve().parents[2]
SPIDER = ROOT.parent / "shared" / "data" / "spider_dev"
MAKE_MODEL = Path(__file__).with_name("make_prompt_dependent_model.py")
TEXT2SQL = "text2sql"
WORKFLOWS = ("diamond", "triple-chain", "long-chain", "bridge", "trident", "fan-out", TEXT2SQL)
MODELS = ("small", "medium", "large", "general", "sql")
SQL_CHARACTERS, SQL_TOKENS = 40, 64

#: As `draw_rows` takes them.
DUPLICATES: dict[str, float | None] = {"0": 0.0, "natural": None, "50": 0.5}


@dataclass(frozen=True, slots=True)
class Cell:
    workflow: str
    n: int
    duplicates: str
    kv: str

    def __str__(self) -> str:
        return f"{self.workflow} n={self.n} duplicates={self.duplicates} kv={self.kv}"


@dataclass(frozen=True, slots=True)
class Kv:
    """An engine's memory: `blocks` is None where there is more than any job here fills."""

    context_tokens: int
    blocks: int | None
    block_tokens: int = 32


#: Tight: 130 blocks of 32 tokens, 4,160 in all.
KV = {"ample": Kv(8192, None), "tight": Kv(4096, 130)}


def recipe(kv: str, port: int, cores: str | None = None) -> EngineRecipe:
    """A CPU vLLM with so much KV, whose answers depend on all of the prompt and whose prefix cache can be emptied."""
    size, built = KV[kv], recipe_in(ROOT, port=port)
    return replace(
        built,
        model=_prompt_dependent(built),
        context_tokens=size.context_tokens,
        kv_blocks=size.blocks,
        block_tokens=size.block_tokens,
        cores=cores,
        settings={"VLLM_SERVER_DEV_MODE": "1"},
    )


def _prompt_dependent(built: EngineRecipe) -> Path:
    """The model of `make_prompt_dependent_model`, made when it is not there."""
    model = built.model.parent / "prompt-dependent-llama"
    if not (model / "config.json").exists():
        subprocess.run([built.python, MAKE_MODEL, built.model, model], check=True, capture_output=True)
    return model


def workflow_of(name: str, answer_tokens: int) -> Workflow[..., Any]:
    """The workflow with free text cut at `answer_tokens`; guided answers keep what their schema needs."""
    if name == TEXT2SQL:
        return make_text2sql(max_tokens=SQL_TOKENS, max_sql_characters=SQL_CHARACTERS)
    workflow = copy.copy(find_workflow(name))
    workflow.plan = _capped(workflow.plan, answer_tokens)
    return workflow


def rows_of(cell: Cell, seed: int) -> list[Row]:
    """Raises `RowsUnavailable` where there are not so many different ones."""
    source = _questions() if cell.workflow == TEXT2SQL else SOURCES[cell.workflow]
    return draw_rows(source, cell.n, DUPLICATES[cell.duplicates], seed)


@contextmanager
def databases_for(workflow: str) -> Iterator[None]:
    """Where tools find the databases while the block lasts."""
    before = os.environ.get(FOLDER_VARIABLE)
    if workflow == TEXT2SQL and SPIDER.is_dir():
        os.environ[FOLDER_VARIABLE] = str(SPIDER)
    try:
        yield
    finally:
        os.environ.pop(FOLDER_VARIABLE, None)
        if before is not None:
            os.environ[FOLDER_VARIABLE] = before


def _questions() -> RowSource:
    """Spider's where they are, else our own."""
    if SPIDER.is_dir():
        spider = read_spider(SPIDER)
        questions = [question for question in spider.questions if question.db_id in spider.databases]
    else:
        questions = list(read_questions(DATA_FOLDER / "questions.jsonl"))
    rows: list[dict[str, Json]] = [{"database": asked.db_id, "question": asked.question} for asked in questions]
    return RowSource(len(rows), rows.__getitem__)


def _capped(plan: Plan, tokens: int) -> Plan:
    return replace(plan, stages=tuple(_capped_stage(stage, tokens) for stage in plan.stages))


def _capped_stage(stage: Stage, tokens: int) -> Stage:
    stage = replace_bodies(stage, lambda body: replace(body, plan=_capped(body.plan, tokens)))
    if isinstance(stage, Generate | Agent) and getattr(stage, "schema", None) is None:
        sampling = replace(stage.sampling, max_tokens=min(tokens, stage.sampling.max_tokens))
        return replace(stage, sampling=sampling)
    return stage
