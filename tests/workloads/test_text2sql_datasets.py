"""Reading questions: Spider, BIRD and our own; what is wrong with a file is told at once, line by line."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from workloads.text2sql.datasets import (
    Dataset,
    DatasetInvalid,
    Question,
    input_rows,
    read_bird,
    read_own,
    read_questions,
    read_spider,
)
from workloads.text2sql.make_databases import make_databases
from workloads.text2sql.query import guarded_select
from workloads.text2sql.vote import worth

SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_spider_is_read() -> None:
    if not (SHARED / "spider_dev").exists():
        pytest.skip("the shared data sets are not here")
    spider = read_spider(SHARED / "spider_dev")
    assert len(spider.questions) == 804
    assert len(list(input_rows(spider))) == 804
    first = spider.questions[0]
    assert first == Question("0", "concert_singer", "How many singers do we have?", "", "SELECT count(*) FROM singer")


def test_bird_is_read_and_its_missing_databases_are_told() -> None:
    if not (SHARED / "bird_minidev").exists():
        pytest.skip("the shared data sets are not here")
    bird = read_bird(SHARED / "bird_minidev")
    assert len(bird.questions) == 388
    assert bird.questions[0].evidence.startswith("Angela Sanders is the full name")
    with pytest.raises(DatasetInvalid, match=r"no database file for card_games, .*; put each at one of"):
        list(input_rows(bird))


def test_a_json_list_and_other_field_names_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "database" / "shop").mkdir(parents=True)
    (tmp_path / "database" / "shop" / "shop.sqlite").touch()
    (tmp_path / "dev.json").write_text(json.dumps([{"db_id": "shop", "question": "Why?", "SQL": "SELECT 1", "x": 1}]))
    spider = read_spider(tmp_path)
    assert spider.questions == (Question("1", "shop", "Why?", "", "SELECT 1"),)
    assert list(spider.databases) == ["shop"]


def test_every_bad_line_is_told(tmp_path: Path) -> None:
    good = '{"db_id": "shop", "question": "Why?", "query": "SELECT 1"}'
    lines = [
        good,
        "{broken",
        good,
        "[]",
        '{"db_id": "../shop", "question": "", "query": "SELECT 1"}',
        '{"db_id": "shop"}',
    ]
    (tmp_path / "dev.jsonl").write_text("\n".join(lines))
    with pytest.raises(DatasetInvalid) as caught:
        read_spider(tmp_path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "dev.jsonl line 2",
        "dev.jsonl line 4",
        "dev.jsonl line 5",
        "dev.jsonl line 6",
    ]
    assert "question: Field required" in caught.value.problems[-1]


@pytest.mark.parametrize(
    ("content", "says"), [(b'{"db_id": "\xff"}', "byte 11 is not UTF-8"), (b"[1, 2", "is no JSON list")]
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "dev.jsonl").write_bytes(content)
    with pytest.raises(DatasetInvalid, match=says):
        read_spider(tmp_path)


def test_missing_places_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="there is no such folder"):
        read_spider(tmp_path / "none")
    with pytest.raises(DatasetInvalid, match=r"none of dev\.jsonl, dev\.json"):
        read_spider(tmp_path)
    with pytest.raises(DatasetInvalid, match="cannot be read"):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(DatasetInvalid, match=r"no database for city_bikes.*; make them with: python -m"):
        read_own(tmp_path)


@pytest.fixture(scope="module")
def own(sample_databases: Path) -> Dataset:
    return read_own(sample_databases)


def test_our_questions_come_in_several_wordings(own: Dataset) -> None:
    wordings = Counter(question.base_id for question in own.questions)
    assert 60 <= len(wordings) <= 90
    assert 280 <= len(own.questions) <= 400
    assert all(3 <= count <= 6 for count in wordings.values())
    texts = [question.question.lower() for question in own.questions]
    assert len(set(texts)) == len(texts)
    assert len({(question.base_id, question.db_id, question.gold_sql) for question in own.questions}) == len(wordings)


def test_every_gold_query_of_ours_passes_the_guard_and_returns_something(own: Dataset) -> None:
    for question in own.questions:
        result = guarded_select(own.databases[question.db_id], question.gold_sql)
        assert result.error is None, question
        assert worth(result) == 2, question
        assert not result.truncated
        assert len(result.rows) < 100


def test_the_databases_are_the_same_each_time(tmp_path: Path, sample_databases: Path) -> None:
    again = make_databases(tmp_path)
    assert {name: dump(path) for name, path in again.items()} == {
        name: dump(sample_databases / f"{name}.sqlite") for name in again
    }


def dump(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump())


def test_the_databases_keep_their_own_keys(sample_databases: Path) -> None:
    for path in sorted(sample_databases.glob("*.sqlite")):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            assert 4 <= connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0] <= 8
