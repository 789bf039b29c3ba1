"""`import halo` stays light, and the SDK's types hold under mypy."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import halo
from halo.sdk.job import Job

ROOT = Path(halo.__file__).parent.parent
HEAVY = {
    "aiohttp",
    "asyncpg",
    "executor",
    "fastapi",
    "kvstore",
    "numpy",
    "pyarrow",
    "redis",
    "sqlalchemy",
    "sqlglot",
    "typer",
    "uvicorn",
    "workloads",
}

LIGHT = f"""
import sys, halo

@halo.llm(model="m")
def call(x: str) -> str:
    return x

@halo.workflow
def flow(x: str) -> str:
    return call(x)

flow.run(x="a", model=lambda messages, sampling, schema: "b")
flow.explain()
print(sorted({HEAVY!r} & set(sys.modules)))
"""

TYPED = """
from typing import assert_type
from pydantic import BaseModel
import halo

class Draft(BaseModel):
    sql: str

@halo.llm(model="m", output=Draft)
def draft(question: str, *, style: str = "short") -> str:
    return question

@halo.llm(model="m")
def say(question: str) -> list[halo.Message]:
    return [halo.user(question)]

@halo.tool
async def run_sql(sql: str, limit: int = 3) -> list[int]:
    return [limit]

@halo.tool(effect="pure", timeout="3s")
def count(rows: list[int]) -> int:
    return len(rows)

@halo.workflow
def ask(question: str, tries: int = 2) -> Draft:
    first = draft(question, style="long")
    assert_type(first, Draft)
    assert_type(say(question), str)
    assert_type(run_sql(first.sql), list[int])
    assert_type(run_sql.named("first_try")(first.sql, limit=1), list[int])
    assert_type(draft.named("first_draft")(question), Draft)
    assert_type(halo.map(run_sql, [first.sql]), list[list[int]])
    assert_type(halo.choose(first.sql == "", then=lambda: 1, otherwise=lambda: 2), int)
    assert_type(halo.loop(lambda d: d, first, until=lambda d: d.sql == "", max_rounds=2), Draft)
    assert_type(halo.join(first), Draft)
    assert_type(halo.agent("x", model="m", tools=[run_sql, count]).turns, int)
    return first

assert_type(ask("x"), Draft)
assert_type(count([1]), int)
ask(3)
draft("x", styl="short")
draft.options(temperatur=1.0)
count(["a"])
halo.agent("x", model="m", tools=[len])
"""


def test_importing_halo_and_running_inline_loads_nothing_heavy() -> None:
    command = [sys.executable, "-W", "error", "-c", LIGHT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_decorators_keep_types(tmp_path: Path) -> None:
    file = tmp_path / "typed_flow.py"
    file.write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    source = TYPED.splitlines()
    lines = re.findall(r"typed_flow\.py:(\d+): error:", done.stdout)
    wrong = [source[int(line) - 1] for line in lines]
    assert wrong == [
        "ask(3)",
        'draft("x", styl="short")',
        "draft.options(temperatur=1.0)",
        'count(["a"])',
        'halo.agent("x", model="m", tools=[len])',
    ], done.stdout


@halo.workflow
def echo(text: str) -> str:
    return text


def test_a_job_holds_its_rows_and_tells_what_it_would_do(tmp_path: Path) -> None:
    job = echo.map({"text": word} for word in ("a", "b"))
    assert isinstance(job, Job)
    assert job.rows == [{"text": "a"}, {"text": "b"}]
    assert "2 rows" in job.explain()
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n')
    of_file = echo.map(tmp_path / "rows.jsonl")
    assert of_file.rows == tmp_path / "rows.jsonl"
    assert "3 rows" in of_file.explain()
    assert repr(job) == "<halo job echo: 2 rows>"


def test_rows_that_do_not_fit_are_told_by_explain() -> None:
    with pytest.raises(Exception, match="row 2, column 'text'"):
        echo.map([{"text": "a"}, {"txt": "b"}]).explain()
