"""What an agent that may misbehave, and who watches it, ask of a real vLLM with the plugin."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from halo_vllm.policy.hints import HINT_PATH, STATS_PATH

COMPLETIONS, RESET_PATH = "/v1/completions", "/reset_prefix_cache"
#: What broken connections leave in the engine is gone by then.
SETTLED_S, LOOK_AGAIN_S = 60.0, 0.5


class Refused(Exception):
    """The engine does not take the request."""


class MisuseClient:
    """Each request has a connection of its own, so that a call is given up by breaking it."""

    def __init__(self, session: aiohttp.ClientSession, model: str) -> None:
        self._session, self._model = session, model

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, model: str) -> AsyncIterator["MisuseClient"]:
        connector, timeout = aiohttp.TCPConnector(limit=0, force_close=True), aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
            yield cls(session, model)

    async def complete(self, prompt: list[int], output_tokens: int, streams: bool = False, **more: Any) -> list[int]:
        """The answer's tokens, exactly so many. Raises `Refused` or `aiohttp.ClientError`."""
        body = {"model": self._model, "prompt": prompt, "max_tokens": output_tokens, "temperature": 0}
        body |= {"ignore_eos": True, "return_token_ids": True, "stream": streams, **more}
        async with self._session.post(COMPLETIONS, json=body) as answer:
            if answer.status >= 400:
                raise Refused(f"status {answer.status}: {(await answer.text())[:200]}")
            parts = [part async for part in _parts(answer)] if streams else [await answer.json()]
        tokens = [token for part in parts for token in part["choices"][0]["token_ids"]]
        if len(tokens) != output_tokens:
            raise aiohttp.ClientPayloadError(f"{len(tokens)} tokens of {output_tokens} came")
        return tokens

    async def tell(self, hint: Mapping[str, object]) -> int:
        """The status: what is no hint is refused, and may be. Raises `aiohttp.ClientError`."""
        async with self._session.post(HINT_PATH, json=hint) as answer:
            return answer.status

    async def stats(self) -> dict[str, float]:
        """The plugin's counters as they are now. Raises `aiohttp.ClientError`."""
        async with self._session.get(STATS_PATH) as answer:
            answer.raise_for_status()
            return dict(await answer.json())

    async def reset(self, *, running: bool) -> bool:
        """Empties the prefix cache; with `running`, those that run begin again. False while anybody uses a block, and
        so True says that none is lost. Raises `aiohttp.ClientError`."""
        params = {"reset_running_requests": str(running).lower()}
        async with self._session.post(RESET_PATH, params=params) as answer:
            answer.raise_for_status()
            return bool((await answer.json())["success"])

    async def all_free(self) -> bool:
        """Whether every block is nobody's, once what was given up is gone. Raises `aiohttp.ClientError`."""
        until_s = time.monotonic() + SETTLED_S
        while not await self.reset(running=False):
            if time.monotonic() > until_s:
                return False
            await asyncio.sleep(LOOK_AGAIN_S)
        return True


async def _parts(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.content:
        text = line.decode().strip().removeprefix("data: ")
        if text and text != "[DONE]":
            yield json.loads(text)
