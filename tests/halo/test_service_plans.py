"""POST /v1/plans: prompts counted as the engines count them."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from service_stand import SPEC, service

from executor.engines.port import EngineSpec
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from halo.service.routes.plans import UNCOUNTED
from planner.ir.values import Json
from tests.executor.stub_tokenizer import TokenServer

ROWS = [{"name": "ada"}, {"name": "bob"}]


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    made = TokenServer()
    await made.http.start_server()
    yield made
    await made.http.close()


def behind(server: TokenServer) -> EngineSpec:
    """A vLLM's tokenizer; answers are made in this process."""
    return replace(SPEC, kind="vllm", url=str(server.http.make_url("")))


async def told(spec: EngineSpec, **request: Json) -> Json:
    async with service(engines=[Scripted(spec, Synthetic(7))], working=False) as stand:
        answer = await stand.api.post("/v1/plans", json={"workflow": "greet", **request})
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_prompts_are_counted_in_the_tokens_of_the_engines_where_that_is_asked_for(server: TokenServer) -> None:
    by_characters = await told(behind(server), rows=ROWS)
    assert server.asked == []
    by_engines = await told(behind(server), rows=ROWS, tokenizer="engines")
    assert {asked["model"] for asked in server.asked} == {"small"}
    (estimated,), (counted,) = (one["forecast"]["prefixes"] for one in (by_characters, by_engines))
    assert (estimated["counted"], counted["counted"]) == ("characters", "tokens")
    assert counted["prompt_tokens"] > 3 * estimated["prompt_tokens"], "a token for each character"
    assert by_engines["notes"] == by_characters["notes"]


async def test_where_no_tokenizer_is_to_be_had_that_is_noted_and_no_server_is_named(server: TokenServer) -> None:
    server.status = 404
    answer = await told(behind(server), rows=ROWS, tokenizer="engines")
    assert UNCOUNTED in answer["notes"]
    assert answer["forecast"]["prefixes"][0]["counted"] == "characters"
    assert str(server.http.port) not in str(answer)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"rows": ROWS, "tokenizer": "/etc/llama"}, "'characters' or 'engines'"),
        ({"tokenizer": "engines"}, "send 'rows', or leave it out"),
    ],
)
async def test_what_counts_nothing_is_refused_at_the_door(body: dict[str, Json], said: str) -> None:
    async with service(working=False) as stand:
        refused = await stand.api.post("/v1/plans", json={"workflow": "greet", **body})
    assert refused.status_code == 422
    assert said in refused.text
