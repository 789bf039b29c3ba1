"""Two real engines that share a KV tier, and what one answer of theirs took."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from executor.engines.local_recipe import EngineRecipe, recipe_in
from executor.engines.local_vllm import LocalVllm

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "kvstore" / "vllm_plugin"
#: Room for one long conversation and a little more: 8,192 tokens.
CONTEXT_TOKENS, BLOCK_TOKENS, KV_BLOCKS = 8_160, 32, 256
LOADED = "vllm:external_prefix_cache_hits_total"


@dataclass(frozen=True, slots=True)
class Answer:
    ttft_s: float
    tokens: tuple[int, ...]
    cached_tokens: int
    loaded_tokens: int


class TierEngine:
    """One engine, asked with token ids so that the next prompt contains the very tokens it answered."""

    def __init__(self, url: str, model: str, session: aiohttp.ClientSession) -> None:
        self._url, self._model, self._session = url, model, session

    async def ask(self, prompt: Sequence[int], salt: str, max_tokens: int) -> Answer:
        """A greedy answer; requests of one `salt` share KV."""
        body = {
            **{"model": self._model, "prompt": list(prompt), "max_tokens": max_tokens, "cache_salt": salt},
            **{"temperature": 0, "ignore_eos": True, "return_token_ids": True},
            **{"stream": True, "stream_options": {"include_usage": True}},
        }
        loaded = await self._loaded()
        tokens, usage, begun, first_s = [], {}, time.perf_counter(), 0.0
        async with self._session.post(f"{self._url}/v1/completions", json=body, raise_for_status=True) as answer:
            async for chunk in _chunks(answer):
                first_s = first_s or time.perf_counter() - begun
                tokens += [token for choice in chunk["choices"] for token in choice.get("token_ids") or ()]
                usage = chunk.get("usage") or usage
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Answer(first_s, tuple(tokens), cached, int(await self._loaded() - loaded))

    async def _loaded(self) -> float:
        async with self._session.get(f"{self._url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(LOADED))


def tier_recipe(core: int, folder: Path, capacity_gib: float) -> EngineRecipe:
    """An engine on one core of its own with its KV tier in `folder`."""
    options = {"folder": str(folder), "capacity_gib": capacity_gib}
    connector = {
        **{"kv_connector": "HaloTier", "kv_connector_module_path": "halo_vllm.tier.connector", "kv_role": "kv_both"},
        "kv_connector_extra_config": options,
    }
    return replace(
        recipe_in(ROOT),
        context_tokens=CONTEXT_TOKENS,
        block_tokens=BLOCK_TOKENS,
        kv_blocks=KV_BLOCKS,
        cores=str(core),
        start_timeout_s=900.0,
        extra=("--kv-transfer-config", json.dumps(connector)),
        settings={"VLLM_CPU_NUM_OF_RESERVED_CPU": "1", "PYTHONPATH": str(PLUGIN)},
    )


@asynccontextmanager
async def tier_engines(recipes: Sequence[EngineRecipe]) -> AsyncIterator[list[TierEngine]]:
    """Starts them together, and stops them."""
    children = [LocalVllm(recipe) for recipe in recipes]
    try:
        await asyncio.gather(*(child.start() for child in children))
        # vLLM closes a connection after five idle seconds, without a word.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            yield [TierEngine(recipe.url, recipe.served_name, session) for recipe in recipes]
    finally:
        await asyncio.gather(*(child.stop() for child in children))


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, object]]:
    async for line in answer.content:
        if line.startswith(b"data: {"):
            yield json.loads(line.removeprefix(b"data: "))
