"""Prompts in an engine's own tokens: asked over HTTP, remembered, and counted as far as that is cheap."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from example_plans import generate, output
from live_runs import submit

from executor.clock import WallClock
from executor.drivers.live import LiveDriver
from executor.engines.answers import FromFunction
from executor.engines.local_vllm import LocalVllm
from executor.engines.port import EngineSpec, GenerateRequest
from executor.engines.scripted import Scripted
from executor.store.memory import MemoryStore
from executor.tokenization.counting import PromptCounter, count_tokens
from executor.tokenization.file import TokenizerFolder
from executor.tokenization.open import folder_tokenizers
from executor.tokenization.port import NotTokenized, TokenIds, Tokenize
from executor.tokenization.vllm import PrefixCache, VllmTokenizer
from executor.tools import ToolRunner
from kvstore.memory_state import MemoryStates
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId
from planner.ir.plan import Input, Plan
from planner.ir.values import Json
from planner.job import JobPart
from planner.optimize import optimize
from planner.prefix.saving import prefix_savings
from planner.table import Table
from tests.executor.stub_tokenizer import TokenServer


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    made = TokenServer()
    await made.http.start_server()
    yield made
    await made.http.close()


def prompt(text: str) -> list[Json]:
    return [{"role": "user", "content": text}]


async def test_the_engine_is_asked_once_for_each_prompt(server: TokenServer) -> None:
    async with VllmTokenizer(str(server.http.make_url("/v1")), "served") as tokenize:
        tokens = await tokenize([prompt("ab"), prompt("c")])
        again = await tokenize([prompt("c")])

    assert [found.tolist() for found in tokens] == [[97, 98], [99]]
    assert [found.tolist() for found in again] == [[99]]
    assert server.asked == [{"model": "served", "messages": prompt(text)} for text in ("ab", "c")]


async def test_the_engine_tells_of_its_prefix_cache_or_nothing(server: TokenServer) -> None:
    async with VllmTokenizer(str(server.http.make_url("")), "m") as tokenize:
        assert await tokenize.cache() == PrefixCache(32, 32 * 136)
        server.metrics = "up 1\n"
        assert await tokenize.cache() is None


@pytest.mark.parametrize(
    ("status", "answer", "what"),
    [
        (404, {"detail": "Not Found"}, "status 404"),
        (200, {"tokens": [-1]}, "something else"),
        (200, [1], "something else"),
    ],
)
async def test_a_server_without_it_is_told(server: TokenServer, status: int, answer: Json, what: str) -> None:
    server.status, server.answer = status, answer
    async with VllmTokenizer(str(server.http.make_url("")), "m") as tokenize:
        with pytest.raises(NotTokenized, match=what):
            await tokenize([prompt("ab"), prompt("c")])


async def test_a_server_that_is_not_there_is_told(server: TokenServer) -> None:
    url = str(server.http.make_url(""))
    await server.http.close()
    async with VllmTokenizer(url, "m") as tokenize:
        with pytest.raises(NotTokenized, match="does not answer"):
            await tokenize([prompt("ab")])


async def two_chars_a_token(prompts: Sequence[Sequence[Json]]) -> list[TokenIds]:
    texts = ["".join(message["content"] for message in each) for each in prompts]
    return [np.asarray([hash(text[at : at + 2]) & 0xFFFF for at in range(0, len(text), 2)]) for text in texts]


def job(rows: int) -> JobPart:
    known = generate("ask", Const("t" * 64), Column("x"))
    reads = generate("again", output("ask"))
    plan = Plan("p", (Input("x"),), (known, reads), output("again"))
    return JobPart(plan, Table({"x": [f"{number:02}" for number in range(rows)]}, rows))


async def test_prompts_known_before_the_run_are_counted_in_the_tokens_of_their_model() -> None:
    part = job(4)
    counted = await count_tokens([part], optimize([part]), {"small": two_chars_a_token}, 16)

    assert list(counted.parts[0].token_blocks) == ["ask"]
    assert counted.cut.chars_per_token == 2
    (saving,) = prefix_savings(counted.parts, optimize(counted.parts), {}, counted.cut)
    assert (saving.counted, saving.optimum_tokens) == ("both", 3 * 32)


async def test_too_many_prompts_are_sampled_to_learn_how_long_tokens_are() -> None:
    part, asked = job(50), []

    async def remembers(prompts: Sequence[Sequence[Json]]) -> list[TokenIds]:
        asked.extend(prompts)
        return await two_chars_a_token(prompts)

    counted = await count_tokens([part], optimize([part]), {"small": remembers}, 16, at_most=49)

    assert counted.parts[0].token_blocks == {}
    assert counted.cut.chars_per_token == 2
    assert len(asked) == 50


async def test_a_model_without_a_tokenizer_is_estimated() -> None:
    part = job(4)
    counted = await count_tokens([part], optimize([part]), {})

    assert (counted.parts, counted.cut.chars_per_token) == ((part,), 4)


@pytest.mark.engine
async def test_the_real_engine_counts_as_it_computes(real_engine: LocalVllm) -> None:
    async with VllmTokenizer(real_engine.spec.url, "tiny-llama") as tokenize:
        (tokens,) = await tokenize([prompt("How many rows are there?")])
        cache = await tokenize.cache()

    assert len(tokens) > 5
    assert cache is not None
    assert cache.block_tokens == 32
    assert cache.kv_tokens > 1000


CONFIG = {"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}"}
TEMPLATE = """{{ bos_token }} {% for message in messages %}
{{ message.role }} {{ message.content }} {% endfor %}
{% if add_generation_prompt %}assistant{% endif %}"""


def model_folder(folder: Path, template: str = TEMPLATE) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: number for number, word in enumerate(["<s>", "user", "assistant", "how", "many", "?"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    (folder / "chat_template.jinja").write_text(template)
    return folder


async def test_a_models_folder_gives_the_tokens_of_its_chat_template(tmp_path: Path) -> None:
    tokenize = TokenizerFolder(model_folder(tmp_path))

    assert [tokens.tolist() for tokens in await tokenize([prompt("how many"), prompt("?")])] == [
        [0, 1, 3, 4, 2],
        [0, 1, 5, 2],
    ]


async def test_a_folder_without_its_files_or_with_broken_ones_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotTokenized, match=r"has no tokenizer\.json"):
        TokenizerFolder(tmp_path)
    model_folder(tmp_path, "{% for %}")
    with pytest.raises(NotTokenized, match="its chat template is none"):
        TokenizerFolder(tmp_path)
    model_folder(tmp_path, "{{ raise_exception('only users may speak') }}")
    with pytest.raises(NotTokenized, match="only users may speak"):
        await TokenizerFolder(tmp_path)([prompt("how")])
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(NotTokenized, match="is no tokenizer"):
        TokenizerFolder(tmp_path)


def test_the_fleet_file_names_tokenizers_of_models(tmp_path: Path) -> None:
    model_folder(tmp_path)
    named = EngineSpec(EngineId("a"), "vllm", ("m", "n"), "http://host:1", options={"tokenizer": str(tmp_path)})
    bare = EngineSpec(EngineId("b"), "vllm", ("o",), "http://host:2")

    assert set(folder_tokenizers([named, bare])) == {"m", "n"}


@pytest.mark.engine
async def test_the_engine_and_its_models_folder_agree(real_engine: LocalVllm) -> None:
    prompts = [prompt("How many rows are there?"), [{"role": "system", "content": "Sé breve."}, *prompt("¿Cuántas?")]]
    async with VllmTokenizer(real_engine.spec.url, "tiny-llama") as tokenize:
        asked = await tokenize(prompts)
    read = await TokenizerFolder(Path(__file__).parents[2] / ".engine" / "tiny-llama")(prompts)

    assert [tokens.tolist() for tokens in read] == [tokens.tolist() for tokens in asked]


async def by_last_letter(prompts: Sequence[Sequence[Json]]) -> list[TokenIds]:
    """To this tokenizer prompts are alike whose last words are."""
    return [np.full(64, ord(each[0]["content"][-1])) for each in prompts]


async def broken(prompts: Sequence[Sequence[Json]]) -> list[TokenIds]:
    raise NotTokenized("folder", "is gone", "bring it back")


@pytest.mark.parametrize(
    ("tokenize", "order"),
    [(by_last_letter, ["a1", "d1", "b2", "c2"]), (broken, ["a1", "b2", "c2", "d1"])],
)
async def test_the_live_driver_plans_in_tokens_where_a_tokenizer_is_at_hand(
    tokenize: Tokenize, order: list[str]
) -> None:
    """Texts have nothing in common; to this tokenizer those are alike that end alike."""
    asked: list[str] = []

    def answer(request: GenerateRequest) -> str:
        asked.append(request.messages[0]["content"][-2:])
        return "yes"

    plan = Plan("p", (Input("x"),), (generate("ask", Column("x")),), output("ask"))
    store = MemoryStore()
    job = await submit(store, plan, [{"x": row * 100} for row in ("a1", "b2", "c2", "d1")])
    engine = Scripted(EngineSpec(EngineId("e"), "scripted", ("small",), max_running=1), FromFunction(answer))
    counter = PromptCounter({"small": tokenize}, 16)
    async with LiveDriver([engine], ToolRunner({}), store, MemoryStates(), WallClock(), counter=counter) as driver:
        claim = await store.claim("test", 60.0, job)
        assert claim is not None
        await driver.run(claim)

    assert asked == order
