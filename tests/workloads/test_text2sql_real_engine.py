"""The Text-to-SQL workflow through the real CPU vLLM: nonsense text, but a real path."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from live_runs import live_driver, submit

from executor.commands import Status
from executor.engines.local_vllm import LocalVllm
from executor.engines.vllm_http import VllmHttp
from executor.store.sql import open_store
from executor.store.told import ResultRow
from workloads.programs.text2sql import make_text2sql
from workloads.text2sql.datasets import DATA_FOLDER, read_questions

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

#: Short answers: a random model never ends one by itself, so guided decoding must.
SHORT = make_text2sql(model="tiny-llama", candidates=2, repairs=1, max_tokens=64, max_sql_characters=40)


async def test_text_to_sql_goes_through_the_real_engine(real_engine: LocalVllm, tmp_path: Path) -> None:
    rows = _rows(6)
    status, ended, usage = await _run([VllmHttp(real_engine.spec)], rows, tmp_path)
    assert status is Status.SUCCEEDED
    assert [row.row for row in ended] == list(range(6))
    assert all(row.result["candidates"] == 2 for row in ended)
    assert any(row.result["sql"] for row in ended), "guided JSON gave a draft that could be parsed"
    assert usage["prompt_tokens"] > 6 * 5 * 200
    assert usage["cached_tokens"] > 0, "the schema is the common beginning of many prompts"


async def test_an_engine_killed_in_mid_job_loses_and_repeats_no_row(real_engine_factory: Any, tmp_path: Path) -> None:
    engines = real_engine_factory({"cores": "0"}, {"cores": "1"}, max_restarts=1)
    rows = [*_rows(150), *_rows(50)]

    def kill_one() -> None:
        assert engines[1].pid is not None
        os.kill(engines[1].pid, signal.SIGKILL)

    status, ended, _ = await _run([VllmHttp(engine.spec) for engine in engines], rows, tmp_path, half_way=kill_one)
    assert [row.row for row in ended] == list(range(200))
    assert Counter(row.status for row in ended) == {Status.SUCCEEDED: 200}
    assert status is Status.SUCCEEDED
    for engine in engines:
        real_engine_factory.stop(engine)


def _rows(count: int) -> list[dict[str, str]]:
    questions = read_questions(DATA_FOLDER / "questions.jsonl")
    return [{"database": question.db_id, "question": question.question} for question in questions[:count]]


async def _run(
    engines: Sequence[VllmHttp], rows: Sequence[Mapping[str, str]], folder: Path, half_way: Any = None
) -> tuple[Status, list[ResultRow], Mapping[str, int]]:
    store = await open_store(f"sqlite:///{folder / 'job.db'}")
    job = await submit(store, SHORT.plan, rows)
    async with live_driver(engines, store, SHORT.tools) as driver:
        claim = await store.claim("test", 600.0, job)
        assert claim is not None
        running = asyncio.create_task(driver.run(claim))
        if half_way is not None:
            while (progress := driver.progress(job)) is None or progress.ended < len(rows) // 2:
                await asyncio.sleep(0.05)
            half_way()
        status = await running
    ended, usage = [row async for row in store.results(job)], await store.usage(job)
    await store.close()
    for engine in engines:
        await engine.close()
    return status, ended, usage
