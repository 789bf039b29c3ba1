"""The recorded model: it reads the workflow's three prompts and says what is recorded, or something that runs."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import halo
from executor.engines.open import open_engine
from executor.engines.port import EngineFailed, EngineSpec, GenerateRequest
from planner.ir.ids import EngineId
from planner.ir.plan import Sampling
from workloads.programs.text2sql import Draft, Linking, draft_sql, link_schema, repair_sql
from workloads.text2sql.datasets import Dataset, read_own
from workloads.text2sql.query import guarded_select
from workloads.text2sql.recorded import read_recorded
from workloads.text2sql.recorded_model import answer
from workloads.text2sql.schema import read_schema, render_schema

ANSWERS = "workloads.text2sql.recorded_model:answer"


@pytest.fixture(scope="module")
def own(sample_databases: Path) -> Dataset:
    return read_own(sample_databases)


@pytest.fixture(scope="module")
def schemas(own: Dataset) -> dict[str, str]:
    return {db_id: render_schema(read_schema(path)) for db_id, path in own.databases.items()}


def asked(messages: list[halo.Message], seed: int | None = None) -> Any:
    return json.loads(answer(request_of(messages, seed)).text)


def request_of(messages: list[halo.Message], seed: int | None = None) -> GenerateRequest:
    sent = tuple({"role": message.role, "content": message.content} for message in messages)
    return GenerateRequest("call", "program", "sql", sent, Sampling(seed=seed))


def test_all_that_is_recorded_is_said_in_answer_to_the_workflows_prompts(schemas: dict[str, str]) -> None:
    for recorded in read_recorded():
        question, schema = recorded.question.question, schemas[recorded.question.db_id]
        linking = Linking.model_validate(asked(link_schema(schema, question, "")))
        assert [table.table for table in linking.tables] == [table.table for table in recorded.answer.tables]
        for number, sql in enumerate(recorded.answer.candidates):
            for seed in (number, number + 4):
                assert Draft.model_validate(asked(draft_sql(schema, linking, question, ""), seed)).sql == sql
        for broken, repaired in recorded.answer.repairs.items():
            assert asked(repair_sql(schema, question, broken, "sql_error: no such column: x"))["sql"] == repaired
        assert asked(repair_sql(schema, question, "SELECT new", "sql_error"))["sql"] == "SELECT new"


def test_a_question_is_known_however_it_is_spaced_but_only_to_its_own_database(schemas: dict[str, str]) -> None:
    spaced = " how many COMEDIES\n do we have? "
    here = asked(link_schema(schemas["film_rental"], spaced, "a hint\nin two lines"))
    assert "film" in [table["table"] for table in here["tables"]]
    elsewhere = asked(link_schema(schemas["retail"], spaced, ""))
    assert [table["table"] for table in elsewhere["tables"]] == [schemas["retail"].partition("(")[0]]


def test_to_an_unknown_question_it_says_what_runs(tmp_path: Path) -> None:
    path = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript('CREATE TABLE "order" (id INTEGER, "two words" TEXT); CREATE TABLE product (id);')
    schema = render_schema(read_schema(path))
    for question in ("Which?", "How many?", "Why?"):
        linking = Linking.model_validate(asked(link_schema(schema, question, "")))
        drafts = [asked(draft_sql(schema, linking, question, ""), seed)["sql"] for seed in range(4)]
        repaired = asked(repair_sql(schema, question, "SELECT x", "sql_error"))["sql"]
        assert all(guarded_select(path, sql).error is None for sql in (*drafts, repaired))
        assert drafts == [asked(draft_sql(schema, linking, question, ""), seed)["sql"] for seed in range(4)]


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=40))
def test_it_has_an_answer_of_the_right_shape_to_whatever_is_put_into_the_prompts(
    schema: str, question: str, sql: str
) -> None:
    linking = Linking.model_validate(asked(link_schema(schema, question, sql)))
    Draft.model_validate(asked(draft_sql(schema, linking, question, ""), 1))
    Draft.model_validate(asked(repair_sql(schema, question, sql, question)))


async def test_it_is_named_in_a_fleet_file_and_refuses_other_prompts() -> None:
    engine = open_engine(EngineSpec(EngineId("e"), "scripted", ("sql",), options={"answers": ANSWERS}))
    with pytest.raises(EngineFailed, match="none of the Text-to-SQL workflow's"):
        await engine.generate(request_of([halo.user("Write a poem.")]))
    await engine.close()


def test_it_answers_at_once(schemas: dict[str, str]) -> None:
    schema = schemas["film_rental"]
    requests = [
        request_of(draft_sql(schema, Linking(tables=[]), one.question.question, ""), 1) for one in read_recorded()
    ]
    answer(requests[0])

    def round_s() -> float:
        before = time.process_time()
        for request in requests:
            answer(request)
        return time.process_time() - before

    # Of several rounds the best: the garbage of all tests before this one is collected in the others.
    assert min(round_s() for _ in range(10)) / len(requests) < 1e-3
