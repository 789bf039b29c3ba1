"""The engine's own tokenizer and chat template, asked over HTTP: vLLM's `/tokenize`, and the size of its blocks."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from types import TracebackType
from typing import Annotated, Self

import aiohttp
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from executor.tokenization.port import NotTokenized, TokenIds
from planner.ir.values import Json, canonical_json

CONCURRENCY = 16
CONNECT_TIMEOUT_S, TIMEOUT_S = 2.0, 60.0
CACHED_PROMPTS = 4096
_CACHE_CONFIG = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.M)


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """How large an engine's blocks are, and how many tokens all of them hold; 0 where that is not told."""

    block_tokens: int
    kv_tokens: int


class VllmTokenizer:
    """Body of the `Tokenize` port, an asynchronous context manager. What was asked lately is not asked again.

    `model` is the server's own name of the model.
    """

    def __init__(self, url: str, model: str, *, api_key: str = "", concurrency: int = CONCURRENCY) -> None:
        self._root = url.rstrip("/").removesuffix("/v1")
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._free = asyncio.Semaphore(concurrency)
        self._cache: OrderedDict[bytes, TokenIds] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def __call__(self, prompts: Sequence[Sequence[Json]]) -> list[TokenIds]:
        """Asks for each prompt it does not remember; a failure ends what is still asked for."""
        try:
            async with asyncio.TaskGroup() as asking:
                tasks = [asking.create_task(self._tokens(prompt)) for prompt in prompts]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def cache(self) -> PrefixCache | None:
        """Of the engine; None where it does not tell."""
        found = _CACHE_CONFIG.search((await self._exchange("GET", "/metrics", None)).decode(errors="replace"))
        labels = dict(re.findall(r'(\w+)="(\d+)"', found[1])) if found else {}
        block_tokens, blocks = int(labels.get("block_size", 0)), int(labels.get("num_gpu_blocks", 0))
        return PrefixCache(block_tokens, block_tokens * blocks) if block_tokens else None

    async def _tokens(self, prompt: Sequence[Json]) -> TokenIds:
        key = blake2b(canonical_json(list(prompt)).encode(errors="surrogatepass"), digest_size=16).digest()
        if key not in self._cache:
            async with self._free:
                answer = await self._exchange("POST", "/tokenize", {"model": self._model, "messages": list(prompt)})
            self._remember(key, self._read(answer))
        self._cache.move_to_end(key)
        return self._cache[key]

    def _remember(self, key: bytes, tokens: TokenIds) -> None:
        self._cache[key] = tokens
        while len(self._cache) > CACHED_PROMPTS:
            self._cache.popitem(last=False)

    def _read(self, answer: bytes) -> TokenIds:
        try:
            return np.asarray(_Tokenized.model_validate_json(answer).tokens, np.int64)
        except ValidationError:
            raise self._failed("answered /tokenize with something else than tokens") from None

    async def _exchange(self, method: str, path: str, body: Json) -> bytes:
        assert self._session is not None, "it is used inside `async with`"
        try:
            async with self._session.request(method, self._root + path, json=body, allow_redirects=False) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise self._failed(f"does not answer: {problem or 'no answer in time'}") from None
        if answer.status != 200:
            raise self._failed(f"answers {path} with status {answer.status}")
        return content

    def _failed(self, what: str) -> NotTokenized:
        return NotTokenized(self._root, what, "name a vLLM server, or give the engine a tokenizer file")


class _Tokenized(BaseModel):
    model_config = ConfigDict(extra="ignore")

    tokens: list[Annotated[int, Field(ge=0, le=2**31 - 1)]]
