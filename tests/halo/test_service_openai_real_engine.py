"""OpenAI's API through the door to the real CPU vLLM."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_stand import listening, service

from executor.engines.local_vllm import LocalVllm
from executor.engines.vllm_http import VllmHttp

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parent.parent.parent
CLIENTS = ROOT / ".venv-clients" / "bin" / "python"
CHAT = "/v1/chat/completions"


@asynccontextmanager
async def _door(engine: LocalVllm) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    body = VllmHttp(engine.spec)
    async with (
        service(engines=[body]) as stand,
        listening(stand.app) as url,
        httpx.AsyncClient(base_url=url, timeout=600) as client,
    ):
        yield url, client
    await body.close()


@pytest.mark.skipif(not CLIENTS.exists(), reason="the clients are not installed: run `make clients`")
async def test_the_openai_sdk(real_engine: LocalVllm) -> None:
    async with _door(real_engine) as (url, _):
        process = await asyncio.create_subprocess_exec(
            CLIENTS,
            ROOT / "tests" / "clients" / "use_real_engine.py",
            "tiny-llama",
            env={**os.environ, "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "any"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-4000:]
    seen = json.loads(out.splitlines()[-1])
    assert seen["plain"] == seen["again"] == seen["stream"]
    assert seen["cached"] > 0
    assert seen["choices"] == [8, 8]
    assert 0 <= seen["guided"]["limit"] <= 9
    assert seen["tools"] > 0  # they stand in the prompt; a model that speaks nonsense asks for none
    assert seen["completion"] == 4


async def test_a_program_of_token_ids_is_known_by_what_the_engine_generated(real_engine: LocalVllm) -> None:
    prompt = [5 + number % 90 for number in range(300)]
    async with _door(real_engine) as (_, client):
        names, cached = [], []
        for _ in range(3):
            body = {"model": "tiny-llama", "prompt": prompt, "max_tokens": 16, "ignore_eos": True}
            answer = await client.post("/v1/completions", json={**body, "return_token_ids": True})
            told = answer.json()
            names.append(answer.headers["x-halo-program-id"])
            cached.append(told["usage"]["prompt_tokens_details"]["cached_tokens"])
            prompt = [*prompt, *told["choices"][0]["token_ids"], 7, 8, 9]
    assert len(set(names)) == 1
    assert cached[0] < cached[1] < cached[2] + 1


async def test_a_client_that_goes_away_leaves_nothing_running(real_engine: LocalVllm) -> None:
    asked: dict[str, Any] = {"model": "tiny-llama", "messages": [{"role": "user", "content": "go on"}]}
    async with _door(real_engine) as (_, client):
        with pytest.raises(httpx.TimeoutException):
            await client.post(CHAT, json={**asked, "max_tokens": 8000, "ignore_eos": True}, timeout=1.0)
        async with asyncio.timeout(600):
            while await _running(real_engine):
                await asyncio.sleep(0.2)
        assert (await client.post(CHAT, json={**asked, "max_tokens": 2})).status_code == 200


async def test_the_engines_own_refusal_comes_through(real_engine: LocalVllm) -> None:
    asked = {"model": "tiny-llama", "messages": [{"role": "user", "content": "x"}], "max_tokens": 10**6}
    async with _door(real_engine) as (_, client):
        answer = await client.post(CHAT, json=asked)
    assert answer.status_code == 400
    assert "max" in answer.json()["error"]["message"]


async def _running(engine: LocalVllm) -> float:
    async with httpx.AsyncClient(timeout=120) as client:
        lines = (await client.get(f"{engine.spec.url}/metrics")).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running{"))
