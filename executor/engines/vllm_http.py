"""The real engine: a vLLM server, or any OpenAI-compatible one, over HTTP."""

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace

import aiohttp

from executor.engines.connections import LARGE_BODY_BYTES, STALE_WITHIN_S, Attempt, open_connections
from executor.engines.failures import closed, failed, timed_out
from executor.engines.openai_wire import (
    ServedModel,
    completion_from,
    failure_from,
    request_body,
    request_headers,
    served_models,
    server_version,
)
from executor.engines.port import Completion, EngineFailed, EngineHealth, EngineSpec, FailureClass, GenerateRequest
from executor.engines.rungs import Rung, has_endpoint, is_at_work, without_plugin
from executor.engines.vllm_metrics import kv_tokens_from
from halo_vllm.policy.hints import STATS_PATH

PROBE_TIMEOUT_S = 10.0
#: The plugin answers between two steps of its engine; a probe does not wait for a long one.
STATS_TIMEOUT_S = 1.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a server keeps for as long as it runs."""

    kv_tokens: int | None
    rung: Rung


class VllmHttp:
    """Body of the `Engine` port. One connection pool for each engine, unlimited: the scheduler bounds the calls.

    Answers above `max_answer_bytes` are refused unread. `api_key` is sent as a bearer token. For one event loop only.
    """

    def __init__(self, spec: EngineSpec, *, api_key: str = "", max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._spec = spec
        self._root = spec.url.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._max_answer_bytes = max_answer_bytes
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._kept: _Kept | None = None

    @property
    def spec(self) -> EngineSpec:
        return self._spec

    async def generate(self, request: GenerateRequest) -> Completion:
        request = self._as_served(request)
        try:
            async with asyncio.timeout(request.timeout_s):
                reply = await self._post(request_body(request), request_headers(request))
        except TimeoutError:
            raise timed_out(request.timeout_s) from None
        if reply.status != 200:
            raise failure_from(reply.status, reply.headers, reply.body)
        return completion_from(reply.body, request.model)

    async def probe(self) -> EngineHealth:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                health = await self._health()
        except TimeoutError:
            health = EngineHealth(ready=False, detail=f"no answer within {PROBE_TIMEOUT_S:g} s")
        except EngineFailed as problem:
            health = EngineHealth(ready=False, detail=problem.failure.message)
        if not health.ready:
            self._kept = None
        return health

    async def close(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, body: bytes, headers: dict[str, str]) -> _Reply:
        """Sends it again for as long as only connections fail that the server had closed while they were idle."""
        loop = asyncio.get_running_loop()
        died: EngineFailed | None = None
        while True:
            attempt, began_s = Attempt(), loop.time()
            try:
                return await self._exchange("POST", "/v1/chat/completions", body, headers, attempt)
            except EngineFailed as problem:
                if died is not None and problem.failure.code == "unreachable":
                    raise died from None
                died = problem
                stale = attempt.on_used_connection and loop.time() - began_s < STALE_WITHIN_S
                if not stale or problem.failure.failure_class != FailureClass.ENGINE_DIED:
                    raise

    async def _get(self, path: str) -> _Reply:
        return await self._exchange("GET", path, b"", {}, Attempt())

    async def _exchange(self, method: str, path: str, body: bytes, headers: dict[str, str], attempt: Attempt) -> _Reply:
        """One request and its whole answer. Raises `EngineFailed` when none came back."""
        try:
            async with self._open().request(
                method,
                self._root + path,
                data=io.BytesIO(body) if len(body) > LARGE_BODY_BYTES else body or None,
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=attempt,
            ) as answer:
                return _Reply(answer.status, answer.headers, await self._read(answer))
        except (aiohttp.ClientError, OSError) as problem:
            raise self._lost(problem) from problem

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        parts, size = [], 0
        async for part in answer.content.iter_any():
            size += len(part)
            if size > self._max_answer_bytes:
                message = f"the answer is larger than {self._max_answer_bytes} bytes"
                raise failed(FailureClass.ENGINE, "bad_answer", message)
            parts.append(part)
        return b"".join(parts)

    async def _health(self) -> EngineHealth:
        health = await self._get("/health")
        if health.status not in (200, 404):  # 404: not vLLM, but it may serve
            return EngineHealth(ready=False, detail=f"/health answered {health.status}")
        models = await self._get("/v1/models")
        if models.status != 200:
            problem = failure_from(models.status, models.headers, models.body)
            return EngineHealth(ready=False, detail=problem.failure.message)
        judged = self._judged(served_models(models.body), await self._version())
        if not judged.ready or self._spec.kind != "vllm":
            return judged
        kept = await self._asked_once()
        return replace(judged, kv_tokens=kept.kv_tokens, rung=kept.rung)

    def _judged(self, served: tuple[ServedModel, ...], version: str) -> EngineHealth:
        names = tuple(model.id for model in served)
        contexts = [model.max_model_len for model in served if model.max_model_len is not None]
        missing = [name for name in map(self._served_name, self._spec.served) if name not in names]
        detail = f"does not serve {', '.join(missing)}; it serves {', '.join(names) or 'nothing'}" if missing else ""
        # Another version computes with other kernels: its greedy answers may differ.
        revisions = {model.id: f"{model.root} on {version}" for model in served if model.root and version}
        context_tokens = min(contexts, default=None)
        adapters = tuple(model.id for model in served if model.parent)
        return EngineHealth(not missing, names, context_tokens, version, detail, revisions=revisions, adapters=adapters)

    def _as_served(self, request: GenerateRequest) -> GenerateRequest:
        """Servers may refuse what they do not know: priorities where they do not go by them, and salts beside vLLM."""
        salt = request.cache_salt if self._spec.kind == "vllm" else None
        priority = request.priority if self._spec.keeps_priorities else None
        return replace(request, model=self._served_name(request.model), cache_salt=salt, priority=priority)

    def _served_name(self, model: str) -> str:
        return self._spec.served_names.get(model, model)

    async def _version(self) -> str:
        """vLLM's own path; other servers have none."""
        reply = await self._get("/version")
        return server_version(reply.body) if reply.status == 200 else ""

    async def _asked_once(self) -> _Kept:
        """For as long as the engine answers: the page is long, and a server keeps its room."""
        if self._kept is not None:
            return self._kept
        reply = await self._get("/metrics")
        page = reply.body if reply.status == 200 else b""
        plugged = await self._plugged() if has_endpoint(page) else False
        rung = Rung.UNKNOWN if plugged is None else Rung.PLUGIN if plugged else without_plugin(page)
        kept = _Kept(kv_tokens_from(page), rung)
        if plugged is not None:
            self._kept = kept
        return kept

    async def _plugged(self) -> bool | None:
        """Whether the plugin's scheduler is at work; None where the engine has no time to tell."""
        try:
            async with asyncio.timeout(STATS_TIMEOUT_S):
                reply = await self._get(STATS_PATH)
        except TimeoutError:
            return None
        return reply.status == 200 and is_at_work(reply.body)

    def _open(self) -> aiohttp.ClientSession:
        """Made on first use, because aiohttp wants a running loop."""
        if self._closed:
            raise closed(self._spec)
        if self._session is None:
            self._session = open_connections(self._headers)
        return self._session

    def _lost(self, problem: Exception) -> EngineFailed:
        if isinstance(problem, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
            return failed(FailureClass.ENGINE, "unreachable", f"{self._spec.url!r} is not the URL of a web server")
        if isinstance(problem, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return failed(FailureClass.ENGINE, "unreachable", f"cannot connect to {self._root}: {problem}")
        if isinstance(problem, aiohttp.ClientResponseError):
            return failed(FailureClass.ENGINE, "bad_answer", f"{self._root} does not speak HTTP: {problem.message}")
        return failed(FailureClass.ENGINE_DIED, "engine_died", f"{self._root} broke the connection: {problem}")
