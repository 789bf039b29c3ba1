"""A batch from its rows to its files: what is written, what is refused, and what a second run makes of the first."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import halo
from executor.engines.port import EngineSpec
from halo.batch.errors import BatchStopped, ColumnsUnknown, EnginesUnfit, FolderRefused, RowsUnreadable
from halo.batch.run import Batch, Running, run_batch
from halo.sdk.find import find_workflow
from planner.ir.ids import EngineId

TRIAGE = str(Path(__file__).parent / "workflows" / "triage.py")
ENGINE = EngineSpec(EngineId("scripted"), "scripted", ("test-model",))


def rows_file(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def batch_of(folder: Path, rows: list[Any], **changes: Any) -> Batch:
    plain = Batch(find_workflow(TRIAGE), rows_file(folder, rows), folder / "out", (ENGINE,))
    return replace(plain, **changes)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def files(out: Path) -> tuple[bytes, bytes]:
    return (out / "results.jsonl").read_bytes(), (out / "errors.jsonl").read_bytes()


QUESTIONS = [{"question": f"question {number}"} for number in range(12)]


async def test_every_row_ends_in_one_file_in_order(tmp_path: Path) -> None:
    rows = [
        {"question": "a"},
        "{malformed",
        {"question": "b raise"},
        {"question": 5},
        {"question": "a"},
        {"question": "c"},
    ]
    batch = batch_of(tmp_path, rows)

    summary = await run_batch(batch)

    results, errors = lines(batch.out / "results.jsonl"), lines(batch.out / "errors.jsonl")
    assert [line["row"] for line in results] == [0, 4, 5]
    assert results[0]["result"]["length"] == 1
    assert [(line["row"], line["line"], line["code"]) for line in errors] == [
        (1, 2, "invalid_json"),
        (2, 3, "tool_raised"),
        (3, 4, "invalid_row"),
    ]
    assert errors[1]["message"] == "act raised ValueError: told to"
    assert summary.exit_code == 1
    assert summary.failures == {"invalid_json": 1, "invalid_row": 1, "tool_raised": 1}


async def test_the_summary_tells_what_was_made_and_what_was_saved(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, [{"question": "same"}] * 5)

    summary = await run_batch(batch)

    told = json.loads((batch.out / "summary.json").read_text())
    assert told == summary.as_json()
    assert told["rows"] == told["succeeded"] == 5
    assert told["calls"] == {"made": 6, "saved": 4}  # one topic for all; five replies, which are drawn
    assert told["tools"] == {"made": 6, "saved": 4}  # one measure for all; five acts, which are not pure
    assert told["tokens"]["saved_prompt"] > 0
    assert told["engines"] == ["scripted"]


async def test_a_finished_batch_resumed_does_nothing_and_writes_the_same(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, [*QUESTIONS, "{bad"])
    first = await run_batch(batch)
    before = files(batch.out)
    (batch.out / "results.jsonl").unlink()

    again = await run_batch(replace(batch, resume=True, engines=(ENGINE,)))

    assert files(batch.out) == before
    assert again.timing.rows_ended == 0
    assert again.usage == first.usage


async def test_a_batch_stopped_half_way_and_gone_on_with_ends_as_one_that_never_was(tmp_path: Path) -> None:
    rows = [{"question": f"question {number}"} for number in range(300)]
    undisturbed = batch_of(tmp_path, [*rows, "{malformed"], out=tmp_path / "whole")
    await run_batch(undisturbed)
    stop = asyncio.Event()

    async def stop_half_way(running: Running) -> None:
        while (progress := running.runtime.driver.progress(running.job)) is None or progress.ended < 40:
            await asyncio.sleep(0)
        stop.set()

    batch = replace(undisturbed, out=tmp_path / "stopped")
    with pytest.raises(BatchStopped, match="what is finished is kept"):
        await run_batch(batch, stop=stop, watch=stop_half_way)
    assert not (batch.out / "results.jsonl").exists()
    summary = await run_batch(replace(batch, resume=True))

    assert files(batch.out) == files(undisturbed.out)
    assert 0 < summary.timing.rows_ended < 300
    assert (summary.usage["calls"], summary.usage["tools"]) == (600, 600)


async def test_stopping_before_anything_is_accepted_leaves_no_folder(tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(BatchStopped):
        await run_batch(batch_of(tmp_path, QUESTIONS), stop=stop)
    assert not (tmp_path / "out").exists()


async def test_a_folder_that_holds_a_batch_is_refused_with_the_fix(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, QUESTIONS[:1])
    await run_batch(batch)
    with pytest.raises(FolderRefused, match="holds a batch already: add --resume to go on with it"):
        await run_batch(batch)


@pytest.mark.parametrize("resume", [False, True])
async def test_a_folder_with_other_files_is_refused(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("do not touch")
    with pytest.raises(FolderRefused, match="name a new or an empty folder"):
        await run_batch(batch_of(tmp_path, QUESTIONS, resume=resume))
    assert (tmp_path / "out" / "thesis.txt").read_text() == "do not touch"


async def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(FolderRefused, match="cannot be written to"):
        await run_batch(batch_of(tmp_path, QUESTIONS))


async def test_resume_without_a_batch_begins_one(tmp_path: Path) -> None:
    summary = await run_batch(batch_of(tmp_path, QUESTIONS[:2], resume=True))
    assert summary.succeeded == 2


async def test_resume_refuses_other_rows_another_workflow_and_another_limit(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, QUESTIONS[:2])
    await run_batch(batch)

    @halo.workflow
    def other(question: str) -> str:
        return question

    rows = rows_file(tmp_path, QUESTIONS[:3], "more.jsonl")
    for changes, told in (
        ({"rows": rows}, "the rows have changed"),
        ({"workflow": other}, "the workflow has changed"),
        ({"limit": 1}, "it began with another limit"),
    ):
        with pytest.raises(FolderRefused, match=f"{told}; give it what it began with, or start anew"):
            await run_batch(replace(batch, resume=True, **changes))


SHOUTING = """
import halo

@halo.tool
def shout(text: str) -> str:
    {body}

@halo.workflow
def loud(question: str) -> str:
    return shout(question)
"""


async def test_resume_notices_that_a_tool_does_something_else(tmp_path: Path) -> None:
    def loud(name: str, body: str) -> Any:
        (tmp_path / name).write_text(SHOUTING.format(body=body))
        return find_workflow(str(tmp_path / name))

    batch = batch_of(tmp_path, QUESTIONS[:2], workflow=loud("first.py", "return text.upper()"))
    await run_batch(batch)
    told_apart = loud("second.py", "return text.upper() + '!'")
    with pytest.raises(FolderRefused, match="the tool 'shout' has changed; give it what it began with"):
        await run_batch(replace(batch, resume=True, workflow=told_apart))

    said_better = loud("third.py", "# for those who do not listen\n    return text . upper()")
    assert (await run_batch(replace(batch, resume=True, workflow=said_better))).succeeded == 2


WHISPERING = """
import halo

exec("def whisper(text: str) -> str:\\n    return text.lower()")
whisper = halo.tool(whisper)

@halo.workflow
def quiet(question: str) -> str:
    return whisper(question)
"""


async def test_resume_says_of_which_tools_it_cannot_tell_whether_they_have_changed(tmp_path: Path) -> None:
    (tmp_path / "quiet.py").write_text(WHISPERING)
    batch = batch_of(tmp_path, QUESTIONS[:1], workflow=find_workflow(str(tmp_path / "quiet.py")))
    await run_batch(batch)
    with capture_logs() as logs:
        assert (await run_batch(replace(batch, resume=True))).succeeded == 1
    assert [line["tools"] for line in logs if "cannot be told" in line["event"]] == [["whisper"]]


async def test_one_batch_at_a_time_runs_in_a_folder(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, QUESTIONS)
    refused: list[str] = []

    async def try_too(_: Running) -> None:
        try:
            await run_batch(replace(batch, resume=True))
        except FolderRefused as error:
            refused.append(str(error))

    await run_batch(batch, watch=try_too)
    assert refused == [f"another batch runs in {batch.out} just now: wait for it, or name another folder"]


async def test_a_model_nobody_serves_is_told_once_and_leaves_no_folder(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, QUESTIONS, engines=(replace(ENGINE, models=("test-modl", "other")),))
    with pytest.raises(EnginesUnfit) as caught:
        await run_batch(batch)
    assert str(caught.value) == (
        "these engines cannot run 'triage':\n"
        "  no engine serves the model 'test-model'; did you mean 'test-modl'?\n"
        "  the engines serve: other, test-modl\n"
        "to have one of these answer instead: --model test-model=test-modl"
    )
    assert not batch.out.exists()


async def test_an_engine_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    nowhere = EngineSpec(EngineId("gone"), "vllm", (), url="http://127.0.0.1:9")
    with pytest.raises(EnginesUnfit, match=r"engine gone \(http://127.0.0.1:9\): .*; start it, or name its models"):
        await run_batch(batch_of(tmp_path, QUESTIONS, engines=(nowhere,)))


@pytest.mark.parametrize(
    ("rows", "error"), [([], RowsUnreadable), ([{"qestion": "a"}], ColumnsUnknown), (["", " "], RowsUnreadable)]
)
async def test_a_file_of_no_use_leaves_no_folder(tmp_path: Path, rows: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await run_batch(batch_of(tmp_path, rows))
    assert not (tmp_path / "out").exists()


async def test_rows_that_are_all_malformed_end_as_errors(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, ["{", "["])
    summary = await run_batch(batch)
    assert (summary.rows, summary.succeeded, summary.failures) == (2, 0, {"invalid_json": 2})
    assert (batch.out / "results.jsonl").read_text() == ""


async def test_text_that_is_no_unicode_in_a_result_is_escaped(tmp_path: Path) -> None:
    @halo.tool
    def half(text: str) -> str:
        return "half \ud83d"

    @halo.workflow
    def broken(text: str) -> list[Any]:
        return [half(text), text]

    batch = batch_of(tmp_path, [{"text": "é"}], workflow=broken, engines=())
    await run_batch(batch)
    assert lines(batch.out / "results.jsonl") == [{"row": 0, "result": ["half \ud83d", "é"]}]


async def test_a_limit_runs_only_the_first_rows(tmp_path: Path) -> None:
    summary = await run_batch(batch_of(tmp_path, QUESTIONS, limit=3))
    assert summary.rows == summary.succeeded == 3


async def test_a_journal_gets_every_event(tmp_path: Path) -> None:
    await run_batch(batch_of(tmp_path, QUESTIONS[:1], journal=tmp_path / "events.log"))
    text = (tmp_path / "events.log").read_text()
    assert [line.split(" ")[0] for line in text.splitlines()[:2]] == ["RungFound", "JobSubmitted"]
    assert text.count("CallFinished ") == 2
