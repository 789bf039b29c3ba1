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


#: The smallest that vLLM's CPU kernels take.
BLOCK_TOKENS = 32
AMPLE_CONTEXT_TOKENS, LONGEST_CONTEXT_TOKENS = 8192, 4096
#: Tokens of a call of each workflow, prompt and answer, on average: measured with answers of 24 tokens.
CALL_TOKENS = {
    "diamond": 188,
    "triple-chain": 147,
    "long-chain": 138,
    "bridge": 137,
    "trident": 319,
    "fan-out": 373,
    TEXT2SQL: 1053,
}
#: Tight is room for so many such calls at once.
TIGHT_CALLS = 9
KV = ("ample", "tight")


def recipe(cell: Cell, port: int, cores: str | None = None) -> EngineRecipe:
    """The CPU vLLM a cell is run on; cells with equal KV share one.

    Its model's answers depend on all of the prompt, and its prefix cache can be emptied. Ample KV is 1 GiB, more than
    any job here fills.
    """
    built = recipe_in(ROOT, port=port)
    shared = replace(
        built,
        model=_prompt_dependent(built),
        context_tokens=AMPLE_CONTEXT_TOKENS,
        block_tokens=BLOCK_TOKENS,
        cores=cores,
        settings={"VLLM_SERVER_DEV_MODE": "1"},
    )
    blocks = kv_blocks(cell)
    if blocks is None:
        return shared
    context_tokens = min((blocks - 1) * BLOCK_TOKENS, LONGEST_CONTEXT_TOKENS)
    return replace(shared, context_tokens=context_tokens, kv_blocks=blocks)


def kv_blocks(cell: Cell) -> int | None:
    """How many blocks the engine's KV has; None where it is ample."""
    return None if cell.kv == "ample" else -(-TIGHT_CALLS * CALL_TOKENS[cell.workflow] // BLOCK_TOKENS) + 1


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
