"""Requests handed through to a vLLM server, or any OpenAI-compatible one."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from executor.engines.connections import LARGE_BODY_BYTES, STALE_WITHIN_S, Attempt, open_connections
from executor.engines.failures import closed, failed
from executor.engines.port import EngineFailed, EngineSpec, FailureClass
from executor.engines.upstream import Reply, UpstreamRequest
from halo_vllm.policy.hints import HINT_PATH
from planner.ir.values import Json

_NO_SUCH_PATH = (404, 405)


class HttpUpstream:
    """Body of the `Upstream` port. One connection pool, unlimited: the door bounds the calls. For one event loop."""

    def __init__(self, spec: EngineSpec, *, api_key: str = "") -> None:
        self._spec = spec
        self._root = spec.url.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @asynccontextmanager
    async def ask(self, request: UpstreamRequest) -> AsyncIterator[Reply]:
        body = json.dumps(request.body).encode()
        answer = await self._begin(request, body)
        try:
            yield Reply(answer.status, answer.headers, self._content(answer))
        finally:
            answer.close()  # keeps the connection where the whole answer was read

    async def hint(self, told: Mapping[str, Json]) -> bool:
        if self._spec.kind != "vllm":
            return False
        async with self.ask(UpstreamRequest(HINT_PATH, told, {"Content-Type": "application/json"})) as reply:
            if reply.status in _NO_SUCH_PATH:
                return False
            content = b"".join([part async for part in reply.content])
        return _is_taken(self._spec, reply.status, content)

    async def close(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _begin(self, request: UpstreamRequest, body: bytes) -> aiohttp.ClientResponse:
        """Sends it again for as long as only connections fail that the server had closed while they were idle."""
        loop = asyncio.get_running_loop()
        while True:
            attempt, began_s = Attempt(), loop.time()
            try:
                return await self._open().post(
                    self._root + request.path,
                    data=io.BytesIO(body) if len(body) > LARGE_BODY_BYTES else body,
                    headers=request.headers,
                    allow_redirects=False,
                    trace_request_ctx=attempt,
                )
            except (aiohttp.ClientError, OSError) as problem:
                lost = self._lost(problem)
                stale = attempt.on_used_connection and loop.time() - began_s < STALE_WITHIN_S
                if not stale or lost.failure.failure_class is not FailureClass.ENGINE_DIED:
                    raise lost from problem

    async def _content(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for part in answer.content.iter_any():
                yield part
        except (aiohttp.ClientError, OSError) as problem:
            raise self._lost(problem) from problem

    def _open(self) -> aiohttp.ClientSession:
        """Made on first use, because aiohttp wants a running loop."""
        if self._closed:
            raise closed(self._spec)
        if self._session is None:
            self._session = open_connections(self._headers)
        return self._session

    def _lost(self, problem: Exception) -> EngineFailed:
        if isinstance(problem, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return failed(FailureClass.ENGINE, "unreachable", f"engine {self._spec.id} cannot be reached")
        if isinstance(problem, aiohttp.ClientResponseError):
            return failed(FailureClass.ENGINE, "bad_answer", f"engine {self._spec.id} does not speak HTTP")
        return failed(FailureClass.ENGINE_DIED, "engine_died", f"engine {self._spec.id} broke the connection")


def _is_taken(spec: EngineSpec, status: int, content: bytes) -> bool:
    """The endpoint answers 202, with `taken: false` where another scheduler than the plugin's is at work."""
    try:
        told = json.loads(content) if status in (200, 202) else None
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise failed(FailureClass.ENGINE, "hint_refused", f"engine {spec.id} answered a hint with {status}")
    return told.get("taken") is True
