"""Rows for the workflows: seeded, of the inputs their workflow takes, with the share of duplicates asked for."""

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from halo.sdk.find import find_workflow, known_workflows
from planner.ir.values import canonical_json
from workloads.rows.command import app
from workloads.rows.draw_rows import Row, RowSource, RowsUnavailable, draw_rows
from workloads.rows.sources import SOURCES, WorkflowUnknown, source_of

NUMBERS = RowSource(1000, lambda number: {"number": number})


def different(rows: list[Row]) -> int:
    return len({canonical_json(row) for row in rows})


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 1000), share=st.floats(0, 0.99), seed=st.integers(0, 99))
def test_the_share_of_duplicates_is_exact(count: int, share: float, seed: int) -> None:
    rows = draw_rows(NUMBERS, count, share, seed)
    assert len(rows) == count
    assert different(rows) == max(1, count - round(count * share))


def test_naturally_few_rows_come_up_often_and_many_once() -> None:
    rows = [row["number"] for row in draw_rows(NUMBERS, 1000, None, seed=1)]
    times = sorted((rows.count(number) for number in set(rows)), reverse=True)
    assert 300 < len(times) < 500
    assert times[0] > 60
    assert times.count(1) > len(times) / 2


def test_more_different_rows_than_there_are_is_told() -> None:
    with pytest.raises(RowsUnavailable, match="there are 1,000 different rows, and 1,001 are wanted"):
        draw_rows(NUMBERS, 1001, 0.0, seed=1)
    assert len(draw_rows(NUMBERS, 2000, 0.5, seed=1)) == 2000


@pytest.mark.parametrize("name", SOURCES)
def test_each_workflow_takes_its_rows(name: str) -> None:
    source, workflow = source_of(name), find_workflow(name)
    rows = draw_rows(source, 1024, 0.0, seed=1)
    assert different(rows) == 1024
    assert rows == draw_rows(source, 1024, 0.0, seed=1) != draw_rows(source, 1024, 0.0, seed=2)
    assert {**rows[0], **workflow.row(rows[0])} == workflow.row(rows[0])


def test_every_workflow_that_is_installed_has_rows() -> None:
    assert {*known_workflows()} - {"text2sql"} == {*SOURCES}
    with pytest.raises(WorkflowUnknown, match="no rows for 'none'; there are for: diamond"):
        source_of("none")


def halo_workflows(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_command_writes_rows(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    told = halo_workflows("rows", "trident", "--n", 64, "--duplicates", 0.5, "--seed", 1, "--out", out)
    assert "64 rows, 32 of them different" in told
    assert read(out) == draw_rows(SOURCES["trident"], 64, 0.5, seed=1)
    halo_workflows("rows", "trident", "--out", out)
    assert read(out) == draw_rows(SOURCES["trident"], 64, None, seed=1)


@pytest.mark.parametrize("share", ["1", "-0.5", "many", "nan"])
def test_a_share_that_is_none_is_told(tmp_path: Path, share: str) -> None:
    told = halo_workflows("rows", "trident", f"--duplicates={share}", "--out", tmp_path / "rows.jsonl", code=2)
    assert "give a share from 0 to below 1" in told


def test_the_command_makes_databases(tmp_path: Path) -> None:
    halo_workflows("databases", "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "encyclopedia.sqlite",
        "films.sqlite",
        "wholesale.sqlite",
    ]


def test_the_command_is_registered() -> None:
    found = {point.name: point for point in entry_points(group="halo.commands")}
    assert found["workflows"].load() is app
