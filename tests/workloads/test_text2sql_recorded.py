"""The recorded answers: found by what a prompt shows, honest about what they are, and neither perfect nor useless."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from workloads.text2sql.datasets import DATA_FOLDER, Dataset, DatasetInvalid, Question, read_own
from workloads.text2sql.make_recorded_answers import recorded_answers
from workloads.text2sql.query import guarded_select
from workloads.text2sql.recorded import RECORDED_ANSWERS, RecordedAnswer, read_recorded
from workloads.text2sql.sandbox import QueryResult
from workloads.text2sql.schema import read_schema
from workloads.text2sql.score import score_results
from workloads.text2sql.vote import vote


@pytest.fixture(scope="module")
def own(sample_databases: Path) -> Dataset:
    return read_own(sample_databases)


@pytest.fixture(scope="module")
def recorded() -> dict[Question, RecordedAnswer]:
    return {one.question: one.answer for one in read_recorded()}


def test_every_question_has_an_answer_whose_broken_candidates_have_a_repair(
    own: Dataset, recorded: dict[Question, RecordedAnswer]
) -> None:
    for question in own.questions:
        answer = recorded[question]
        assert len(answer.candidates) == 4
        failing = {sql for sql in answer.candidates if run(own, question, sql).error}
        assert failing == set(answer.repairs)
        assert all(run(own, question, sql).error is None for sql in answer.repairs.values())


def test_linked_tables_are_tables_of_the_database(own: Dataset, recorded: dict[Question, RecordedAnswer]) -> None:
    schemas = {
        db_id: {table.name: {column.name for column in table.columns} for table in read_schema(path, examples=0).tables}
        for db_id, path in own.databases.items()
    }
    for question in own.questions:
        for linked in recorded[question].tables:
            assert set(linked.columns) <= schemas[question.db_id][linked.table]
            assert linked.columns


@dataclass
class Shares:
    first: float = 0
    first_repaired: float = 0
    voted: float = 0


def test_repair_and_vote_each_bring_more_right_answers_but_not_all(
    own: Dataset, recorded: dict[Question, RecordedAnswer]
) -> None:
    shares = Shares()
    for question in own.questions:
        answer = recorded[question]
        repaired = [answer.repairs.get(sql, sql) for sql in answer.candidates]
        results = [run(own, question, sql) for sql in repaired]
        shares.first += matches(own, question, run(own, question, answer.candidates[0])) / len(own.questions)
        shares.first_repaired += matches(own, question, results[0]) / len(own.questions)
        shares.voted += matches(own, question, results[vote(results).index]) / len(own.questions)
    assert 0.5 < shares.first < shares.first_repaired < shares.voted
    assert 0.8 <= shares.voted <= 0.9
    readme = (DATA_FOLDER / "README.md").read_text()
    assert all(
        f"| {share:.0%}".replace("%", " %") in readme for share in (shares.first, shares.first_repaired, shares.voted)
    )


def matches(own: Dataset, question: Question, result: QueryResult) -> bool:
    return score_results(question.gold_sql, run(own, question, question.gold_sql), result).matched


def run(own: Dataset, question: Question, sql: str) -> QueryResult:
    return run_once(own.databases[question.db_id], sql)


@functools.cache
def run_once(database: Path, sql: str) -> QueryResult:
    return guarded_select(database, sql)


def test_the_file_is_what_the_script_makes(tmp_path: Path) -> None:
    lines = RECORDED_ANSWERS.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == recorded_answers(tmp_path)


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    unknown = {"question_id": "none", "tables": [], "candidates": ["SELECT 1"], "repairs": {}}
    path.write_text("{broken\n" + json.dumps(unknown) + "\n")
    with pytest.raises(DatasetInvalid) as caught:
        read_recorded(path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "answers.jsonl line 1",
        "answers.jsonl line 2",
        "make the file again with",
    ]
