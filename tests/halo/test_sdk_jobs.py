"""Workflows leave the SDK: the same program through the scheduler, and tools in processes of their own."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import halo
from executor.child_pool import ChildPool
from executor.child_process import ToolFailed
from halo.sdk.find import find_workflow
from planner.ir.codec import decode, encode

ISOLATED = """
import halo
from pydantic import BaseModel

class Query(BaseModel):
    sql: str

@halo.tool(isolated=True, memory_mb=512)
def length(query: Query) -> dict[str, int]:
    return {"length": len(query.sql)}

@halo.workflow
def measure(sql: str) -> int:
    return length({"sql": sql})["length"]
"""


@halo.tool(effect="pure")
def double(text: str) -> str:
    return text * 2


@halo.workflow
def shout(text: str, mark: str = "!") -> dict[str, Any]:
    twice = double(text)
    return {
        "text": halo.choose(text == "quiet", then=lambda: "...", otherwise=lambda: f"{twice}{mark}"),
        "letters": halo.map(lambda one: f"{one} of {twice}", [text, mark]),
    }


def test_a_job_gives_what_inline_runs_give() -> None:
    rows = [{"text": "ab"}, {"text": "quiet", "mark": "?"}, {"text": ""}]
    assert shout.map(rows).run() == [shout.run(**row) for row in rows]


def test_a_job_is_kept_in_a_folder(tmp_path: Path) -> None:
    assert shout.map([{"text": "ab"}]).run(out=tmp_path / "job") == [shout("ab")]
    assert (tmp_path / "job" / "results.jsonl").is_file()


@pytest.mark.parametrize("kept", [False, True])
def test_a_job_that_was_run_tells_what_became_of_it(tmp_path: Path, kept: bool) -> None:
    job = shout.map([{"text": "ab"}, {"text": "ab"}, {"text": "c"}])
    with pytest.raises(halo.HaloError, match=r"call \.run\(\) first"):
        job.analyze()

    job.run(out=tmp_path / "job" if kept else None)

    told = job.analyze()
    double_of_rows = next(stage for stage in told.stages if stage.path == "double")
    assert (double_of_rows.made, double_of_rows.planned) == (2, 1)
    assert "3 of 3 ended" in str(told)


async def test_an_isolated_tool_is_found_by_a_child_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "isolated_of_test.py").write_text(ISOLATED)
    measure = find_workflow(f"{tmp_path}/isolated_of_test.py:measure")
    tool = measure.tools["length"]
    async with ChildPool(1, memory_bytes=tool.memory_bytes, start_timeout_s=120) as pool:
        assert await pool.run(tool.target, {"query": {"sql": "abc"}}, timeout_s=60) == {"length": 3}
        with pytest.raises(ToolFailed, match="the arguments of length do not fit"):
            await pool.run(tool.target, {"query": "abc"}, timeout_s=60)


def test_what_the_sdk_makes_survives_the_codec() -> None:
    assert decode(encode(shout.plan)) == shout.plan


#: Any text a user may write; the three characters that mark slots are refused (test_sdk_definition_errors).
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\U0010fa10\U0010fa11\U0010fa12"), max_size=6
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(pieces=st.lists(texts | st.none(), max_size=6), value=texts)
def test_a_traced_text_is_the_text_python_would_have_written(pieces: list[str | None], value: str) -> None:
    @halo.workflow
    def write(word: str) -> str:
        return "".join(f"{word}" if piece is None else piece for piece in pieces)

    assert write(value) == "".join(value if piece is None else piece for piece in pieces)


@given(around=json_values, value=json_values)
def test_a_traced_result_is_the_value_python_would_have_built(around: Any, value: Any) -> None:
    @halo.workflow
    def build(given: Any) -> Any:
        return {"around": around, "given": [given, around], "same": given == value}

    assert build(value) == {"around": around, "given": [value, around], "same": True}
