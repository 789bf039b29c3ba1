"""Requests in OpenAI's shape handed through to an engine as they are, and its answers handed back.

Beside `Engine.generate`, which knows every field of a call, stands this: fields that Halo does not know pass on.
Bodies: `upstream_http` for servers, `upstream_engine` for engines inside this process; one contract test runs on both.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from planner.ir.values import Json


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """`path` is OpenAI's, as `/v1/chat/completions`."""

    path: str
    body: Mapping[str, Json]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and headers are there, the content comes. Reading it may raise `EngineFailed`."""

    status: int
    headers: Mapping[str, str]
    content: AsyncIterator[bytes]


class Upstream(Protocol):
    """Entering what `ask` gives waits for the engine's first word, and raises `EngineFailed` where none comes; leaving
    it early stops the work inside the engine."""

    def ask(self, request: UpstreamRequest) -> AbstractAsyncContextManager[Reply]: ...

    async def hint(self, told: Mapping[str, Json]) -> bool:
        """Tell the engine what a program does between calls, in the words of `halo_vllm.policy.hints`. False where
        nobody listens there. Raises `EngineFailed` where it cannot be told just now."""
        ...

    async def close(self) -> None: ...
