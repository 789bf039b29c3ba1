"""The KV tier in two real engines: what a next turn loads, and that its answer is the one of a cold engine."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from benchmarks.kv.tier_engines import BLOCK_TOKENS, TierEngine, tier_recipe
from executor.engines.local_recipe import EngineNotRunning
from executor.engines.local_vllm import LocalVllm
from executor.engines.vllm_http import VllmHttp

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

ANSWER_TOKENS = 8
CAPACITY_GIB = 0.03


FOLDER = Path(f"/dev/shm/halo-kv-test-{os.getpid()}")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    yield FOLDER
    shutil.rmtree(FOLDER, ignore_errors=True)  # the engines still write there


@pytest.fixture(scope="module")
def pair(real_engine_factory: Any, folder: Path) -> list[LocalVllm]:
    return real_engine_factory(*(_changes(core, folder) for core in (0, 1)))


def _changes(core: int, folder: Path) -> dict[str, Any]:
    try:
        recipe = tier_recipe(core, folder, CAPACITY_GIB)
    except EngineNotRunning as problem:
        pytest.skip(f"no real engine: {problem.problems[0].what}")
    return {field.name: getattr(recipe, field.name) for field in fields(recipe) if field.name != "log"}


@pytest.fixture
async def engines(pair: list[LocalVllm]) -> AsyncIterator[list[TierEngine]]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield [TierEngine(engine.recipe.url, engine.recipe.served_name, session) for engine in pair]


def words(seed: str, count: int) -> list[int]:
    draw = Random(seed)
    return [draw.randrange(3, 2_000) for _ in range(count)]


async def talk(engine: TierEngine, seed: str, tokens: int = 1_000, salt: str = "us") -> list[int]:
    """The prompt of the next turn after one that the engine answered."""
    prompt, before = words(seed, tokens), set(FOLDER.rglob("*.0"))
    answer = await engine.ask(prompt, salt, ANSWER_TOKENS)
    await _written(before, tokens // BLOCK_TOKENS)
    return [*prompt, *answer.tokens, *words(f"{seed} next", 50)]


async def _written(before: set[Path], blocks: int) -> None:
    """The last step of a request and the writer follow its answer."""
    with suppress(TimeoutError):  # what is not there by then the tests tell better
        async with asyncio.timeout(120):
            await _until_still(before, blocks)


async def _until_still(before: set[Path], blocks: int) -> None:
    last: set[Path] = set()
    while len(now := set(FOLDER.rglob("*.0")) - before) < blocks or now != last:
        last = now
        await asyncio.sleep(1)


async def cold_answer(engine: TierEngine, prompt: Sequence[int], seed: str) -> tuple[int, ...]:
    cold = await engine.ask(prompt, f"nobody else {seed}", ANSWER_TOKENS)
    assert (cold.cached_tokens, cold.loaded_tokens) == (0, 0)
    return cold.tokens


def blocks_of(prompt: Sequence[int], *, new: int = 50) -> int:
    """Tokens in full blocks of the turn before."""
    return (len(prompt) - new - 1) // BLOCK_TOKENS * BLOCK_TOKENS


async def test_the_next_turn_on_the_other_engine_is_loaded(engines: list[TierEngine]) -> None:
    prompt = await talk(engines[0], "moves")
    moved = await engines[1].ask(prompt, "us", ANSWER_TOKENS)
    assert moved.loaded_tokens == moved.cached_tokens == blocks_of(prompt)
    assert moved.tokens == await cold_answer(engines[1], prompt, "moves")


async def test_a_turn_whose_kv_was_evicted_is_loaded_again(engines: list[TierEngine], folder: Path) -> None:
    prompt = await talk(engines[0], "evicted", 600)
    for number in range(3):
        await engines[0].ask(words(f"others {number}", 4_000), "us", 1)
    again = await engines[0].ask(prompt, "us", ANSWER_TOKENS)
    assert again.tokens == await cold_answer(engines[0], prompt, "evicted")
    if again.loaded_tokens:  # the tier is small: the others may have taken its room
        assert again.loaded_tokens == blocks_of(prompt)
    assert _kept_bytes(folder) <= CAPACITY_GIB * 1024**3


def _kept_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.0"))


async def test_another_tenant_loads_nothing_of_the_same_words(engines: list[TierEngine]) -> None:
    prompt = await talk(engines[0], "secret", salt="tenant A")
    assert (await engines[1].ask(prompt, "tenant B", 1)).cached_tokens == 0
    assert (await engines[0].ask(prompt, "tenant C", 1)).cached_tokens == 0
    assert (await engines[1].ask(prompt, "tenant A", 1)).loaded_tokens == blocks_of(prompt)


@pytest.mark.parametrize("harm", ["damaged", "swapped"])
async def test_what_is_wrong_is_computed_again(engines: list[TierEngine], folder: Path, harm: str) -> None:
    before = set(folder.rglob("*.0"))
    prompt = await talk(engines[0], harm)
    files = sorted(set(folder.rglob("*.0")) - before)
    assert len(files) >= 10
    contents = [file.read_bytes() for file in files]
    for file, content, neighbour in zip(files, contents, contents[1:] + contents[:1], strict=True):
        file.write_bytes(neighbour if harm == "swapped" else content[:-1] + bytes([content[-1] ^ 255]))
    answer = await engines[1].ask(prompt, "us", ANSWER_TOKENS)
    assert answer.tokens == await cold_answer(engines[1], prompt, harm)
    again = await engines[1].ask(prompt, "us", ANSWER_TOKENS)
    assert again.tokens == answer.tokens


async def test_a_gap_shortens_what_is_loaded(engines: list[TierEngine], folder: Path) -> None:
    before = set(folder.rglob("*.0"))
    prompt = await talk(engines[0], "gap")
    for file in sorted(set(folder.rglob("*.0")) - before)[::7]:
        file.unlink()
    answer = await engines[1].ask(prompt, "us", ANSWER_TOKENS)
    assert answer.loaded_tokens < blocks_of(prompt)
    assert answer.tokens == await cold_answer(engines[1], prompt, "gap")


async def test_many_at_once_answer_as_alone(engines: list[TierEngine]) -> None:
    prompts = [await talk(engines[0], f"many {number}", 300) for number in range(6)]
    moved = await asyncio.gather(*(engines[1].ask(prompt, "us", 1) for prompt in prompts))
    for number, (prompt, answer) in enumerate(zip(prompts, moved, strict=True)):
        assert answer.cached_tokens >= blocks_of(prompt)
        assert answer.tokens == (await cold_answer(engines[1], prompt, f"many {number}"))[:1]


async def test_blocks_outlive_the_engine_that_kept_them(engines: list[TierEngine], pair: list[LocalVllm]) -> None:
    prompt = await talk(engines[0], "restart")
    await _kill_and_wait(pair[0])
    again = await engines[0].ask(prompt, "us", ANSWER_TOKENS)
    assert again.loaded_tokens == blocks_of(prompt)
    assert again.tokens == await cold_answer(engines[0], prompt, "restart")


async def _kill_and_wait(engine: LocalVllm) -> None:
    assert engine.pid is not None
    restarts = engine.restarts
    os.kill(engine.pid, signal.SIGKILL)
    client = VllmHttp(engine.spec)
    async with asyncio.timeout(900):
        while engine.restarts == restarts or not (await client.probe()).ready:
            await asyncio.sleep(0.5)
    await client.close()
