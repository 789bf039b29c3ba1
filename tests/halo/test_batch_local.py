"""`workflow.map(rows).run()`: jobs from Python."""

from pathlib import Path

import pytest
from pydantic import BaseModel

import halo
from executor.engines.port import EngineSpec
from halo.batch.errors import ColumnsUnknown, EnginesUnfit, EnginesUnnamed, JobFailed, RowFailed
from planner.ir.ids import EngineId

ENGINE = EngineSpec(EngineId("scripted"), "scripted", ("test-model",))


class Counted(BaseModel):
    text: str
    letters: int


@halo.tool(effect="pure")
def count(text: str) -> Counted:
    if not text:
        raise ValueError("nothing to count")
    return Counted(text=text, letters=len(text))


@halo.workflow
def letters(text: str) -> Counted:
    return count(text)


@halo.llm(model="test-model", max_tokens=16)
def say(text: str) -> str:
    return f"Say {text}"


@halo.workflow
def echo(text: str) -> str:
    return say(text)


def test_results_come_in_the_order_of_the_rows_as_the_workflow_types_them() -> None:
    rows = [{"text": "abc"}, {"text": "z"}, {"text": "abc"}]
    assert letters.map(rows).run() == [letters(**row) for row in rows]
    assert isinstance(letters.map(rows).run()[0], Counted)


def test_failed_rows_are_raised_together_when_all_have_ended() -> None:
    with pytest.raises(JobFailed) as caught:
        letters.map([{"text": "abc"}, {"text": ""}, {"text": 5}]).run()
    assert caught.value.results[0] == Counted(text="abc", letters=3)
    assert [(error.row, error.code) for error in caught.value.errors] == [(1, "tool_raised"), (2, "invalid_row")]
    assert str(caught.value).startswith(
        "2 of 3 rows failed; the others' results are in `.results`:\n  row 1: tool_raised"
    )


def test_failed_rows_can_be_returned_in_their_places() -> None:
    found = letters.map([{"text": ""}, {"text": "abc"}]).run(errors="return")
    assert found == [RowFailed(0, "tool_raised", "count raised ValueError: nothing to count"), letters(text="abc")]


def test_rows_come_from_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text\nab\nabc\n")
    assert [found.letters for found in letters.map(path).run()] == [2, 3]
    assert len(letters.map(str(path)).run(limit=1)) == 1


def test_with_a_folder_the_job_is_kept_and_gone_on_with(tmp_path: Path) -> None:
    rows = [{"text": "abc"}, {"text": ""}]
    first = letters.map(rows).run(out=tmp_path / "out", errors="return")
    assert first[0] == Counted(text="abc", letters=3)
    assert isinstance(first[1], RowFailed)
    assert (tmp_path / "out" / "summary.json").is_file()
    assert letters.map(rows).run(out=tmp_path / "out", resume=True, errors="return") == first


def test_engines_may_be_specs_urls_or_a_fleet_file(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.toml"
    fleet.write_text('[[engine]]\nid = "scripted"\nkind = "scripted"\nmodel = "test-model"\n')
    answers = echo.map([{"text": "hi"}]).run(engines=ENGINE)
    assert answers == echo.map([{"text": "hi"}]).run(engines=[ENGINE])
    assert answers == echo.map([{"text": "hi"}]).run(engines=fleet)
    assert answers == echo.map([{"text": "hi"}]).run(engines=str(fleet), max_active=1)
    with pytest.raises(EnginesUnfit, match=r"engine 127.0.0.1:9 \(http://127.0.0.1:9\)"):
        echo.map([{"text": "hi"}]).run(engines="http://127.0.0.1:9")


def test_the_environment_may_name_the_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HALO_ENGINE_URL", raising=False)
    monkeypatch.delenv("HALO_FLEET", raising=False)
    with pytest.raises(EnginesUnnamed, match="in one of three ways"):
        echo.map([{"text": "hi"}]).run()
    fleet = tmp_path / "fleet.toml"
    fleet.write_text('[[engine]]\nid = "scripted"\nkind = "scripted"\nmodel = "test-model"\n')
    monkeypatch.setenv("HALO_FLEET", str(fleet))
    assert echo.map([{"text": "hi"}]).run() == echo.map([{"text": "hi"}]).run(engines=ENGINE)


def test_rows_without_the_inputs_are_refused_as_a_whole() -> None:
    with pytest.raises(ColumnsUnknown, match=r"no row given has these inputs:\n  'text'; did you mean 'test'\?"):
        letters.map([{"test": "a"}] * 3).run()


async def test_it_runs_where_a_loop_runs_already() -> None:
    assert letters.map([{"text": "abc"}]).run() == [Counted(text="abc", letters=3)]
