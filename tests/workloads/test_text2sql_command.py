"""`halo text2sql`: rows from the data sets, and the score of what was answered to them."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from workloads.text2sql.command import app
from workloads.text2sql.databases import DatabaseUnknown
from workloads.text2sql.datasets import DatasetInvalid

SPIDER = Path(__file__).parents[3] / "shared" / "data" / "spider_dev"


def halo_text2sql(*arguments: object) -> str:
    """What the command writes to stdout; what it raises is raised here."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_name_their_database_and_hold_no_path(tmp_path: Path, sample_databases: Path) -> None:
    halo_text2sql("rows", "--from", "own", "--folder", sample_databases, "--out", tmp_path / "rows.jsonl")
    rows = read(tmp_path / "rows.jsonl")
    assert len(rows) == 288
    assert rows[0] == {
        "id": "film_rental-01-1",
        "database": "film_rental",
        "question": "How many comedies do we have?",
        "evidence": "",
        "gold_sql": "SELECT count(*) FROM film WHERE genre = 'Comedy'",
    }


@pytest.mark.parametrize("count", [5, 288, 700])
def test_rows_begin_again_when_the_questions_are_used_up(tmp_path: Path, sample_databases: Path, count: int) -> None:
    out = tmp_path / "rows.jsonl"
    halo_text2sql("rows", "--from", "own", "--folder", sample_databases, "--out", out, "--repeat-to", count)
    rows = read(out)
    assert len(rows) == count
    assert all(row == rows[number % 288] for number, row in enumerate(rows))


def test_spider_gives_rows(tmp_path: Path) -> None:
    if not SPIDER.exists():
        pytest.skip("the shared data sets are not here")
    halo_text2sql("rows", "--from", "spider", "--folder", SPIDER, "--out", tmp_path / "rows.jsonl")
    assert len(read(tmp_path / "rows.jsonl")) == 804


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="there is no such folder"):
        halo_text2sql("rows", "--from", "spider", "--folder", tmp_path / "none", "--out", tmp_path / "rows.jsonl")
    result = CliRunner().invoke(app, ["rows", "--from", "bird", "--out", str(tmp_path / "rows.jsonl")])
    assert result.exit_code == 2
    assert "name the folder of bird" in result.output


def write(path: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with the rows of a job and the results of all of them but the last."""
    gold = "SELECT title FROM film ORDER BY film_id"
    answers = (gold, "SELECT title AS t FROM film ORDER BY 1", "SELECT titel FROM film", gold)
    write(tmp_path / "rows.jsonl", [{"database": "film_rental", "gold_sql": gold}] * 5)
    write(tmp_path / "results.jsonl", [{"row": n, "result": {"sql": sql}} for n, sql in enumerate(answers)])
    return tmp_path


def test_the_score_counts_rows_by_verdict(job: Path, sample_databases: Path) -> None:
    asked = ("score", "--results", job / "results.jsonl", "--rows", job / "rows.jsonl", "--folder", sample_databases)
    assert halo_text2sql(*asked).splitlines() == [
        "execution accuracy: 40.0% (2 of 5 rows)",
        "  different: 1",
        "  failed: 1",
        "  match: 2",
        "  no_answer: 1",
    ]
    assert json.loads(halo_text2sql(*asked, "--json")) == {
        "rows": 5,
        "matched": 2,
        "accuracy": 0.4,
        "verdicts": {"different": 1, "failed": 1, "match": 2, "no_answer": 1},
    }


def test_files_that_are_no_rows_and_no_results_are_told(job: Path, sample_databases: Path) -> None:
    rows, results, folder = job / "rows.jsonl", job / "results.jsonl", ("--folder", sample_databases)
    with pytest.raises(DatasetInvalid, match=r"(?s)line 1: row: .*give the results\.jsonl of a batch"):
        halo_text2sql("score", "--results", rows, "--rows", rows, *folder)
    with pytest.raises(DatasetInvalid, match=r"(?s)line 1: database: Field required.*halo text2sql rows"):
        halo_text2sql("score", "--results", results, "--rows", results, *folder)
    with pytest.raises(DatabaseUnknown, match="there is no database 'film_rental' in"):
        halo_text2sql("score", "--results", results, "--rows", rows, "--folder", job)


def test_the_command_is_registered() -> None:
    found = {point.name: point for point in entry_points(group="halo.commands")}
    assert found["text2sql"].load() is app
