"""A job's prompts in the tokens of the engines that are named."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from example_plans import generate, output

from executor.engines.port import EngineSpec
from executor.tokenization.port import NotTokenized
from halo.tokens import count_prompts
from halo.wiring import open_runtime
from planner.foretell import foretell
from planner.ir.expressions import Column
from planner.ir.ids import EngineId
from planner.ir.plan import Input, Plan
from planner.job import JobPart
from planner.optimize import optimize
from planner.table import Table
from tests.executor.stub_tokenizer import TokenServer


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    made = TokenServer()
    await made.http.start_server()
    yield made
    await made.http.close()


def job() -> JobPart:
    plan = Plan("p", (Input("x"),), (generate("ask", Column("x")),), output("ask"))
    return JobPart(plan, Table({"x": ["a" * 70 + str(number) for number in range(3)]}, 3))


def spec(server: TokenServer) -> EngineSpec:
    return EngineSpec(EngineId("e"), "vllm", ("small",), str(server.http.make_url("")), served_names={"small": "tiny"})


async def test_the_engine_counts_in_its_own_blocks(server: TokenServer) -> None:
    part = job()
    counted = await count_prompts([part], optimize([part]), [spec(server)])
    (saving,) = foretell([part], counted=counted.parts, cut=counted.cut).explanation.prefixes

    assert {asked["model"] for asked in server.asked} == {"tiny"}
    assert (saving.counted, saving.prompt_tokens, saving.optimum_tokens) == ("tokens", 3 * 71, 2 * 64)
    assert counted.kv_tokens == {"small": 32 * 136}


async def test_what_no_engine_counts_is_estimated_and_why_is_told(server: TokenServer) -> None:
    part = job()
    server.status = 404
    counted = await count_prompts([part], optimize([part]), [spec(server)])
    (saving,) = foretell([part], counted=counted.parts, cut=counted.cut).explanation.prefixes

    assert "answers /tokenize with status 404" in counted.problem
    assert (saving.counted, saving.optimum_tokens) == ("characters", 2 * 16)


async def test_engines_that_have_no_tokenizer_are_not_asked() -> None:
    part = job()
    counted = await count_prompts([part], optimize([part]), [EngineSpec(EngineId("e"), "scripted", ("small",))])

    assert (counted.problem, counted.parts[0].token_blocks) == ("", {})


async def test_a_tokenizer_folder_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    named = EngineSpec(EngineId("e"), "vllm", ("small",), "http://127.0.0.1:9", options={"tokenizer": str(tmp_path)})

    with pytest.raises(NotTokenized, match=r"tokenizer\.json|not installed"):
        async with open_runtime([named], {}):
            pass
