"""From a fleet file to engines: what is written is meant, and everything wrong is told at once."""

from dataclasses import replace
from pathlib import Path

import pytest

from executor.engines.fleet_file import engine_from_url, read_fleet
from executor.engines.model.profiles import PROFILES
from executor.engines.modelled import Modelled
from executor.engines.open import open_engine
from executor.engines.port import EngineSpec, GenerateRequest
from executor.engines.profile_file import profile_toml, read_profile, write_profile
from executor.engines.recorded import Recording, read_recorded
from executor.engines.scripted import Scripted
from executor.engines.vllm_http import VllmHttp
from executor.errors import AnswersInvalid, FleetInvalid
from planner.ir.ids import EngineId
from planner.ir.plan import Sampling
from tests.executor.stub_openai import StubOpenAI

GOOD = """
[[engine]]
id = "big"
url = "https://gpu-host:8000/v1"
models = ["llama", "llama-sql"]
gpu = "H100"
max_running = 128
context_tokens = 16384
price_per_hour = 2

[engine.options]
api_key_env = "KEY"

[[engine]]
id = "small"
kind = "modelled"
model = "llama"
gpu = "A10"
[engine.options]
answers = "answers.jsonl"
scale = 50.0
"""
REQUEST = GenerateRequest("c1", "p1", "llama", ({"role": "user", "content": "hello"},), Sampling())


def shout(request: GenerateRequest) -> str:
    return str(request.messages[-1]["content"]).upper()


def fleet(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(text, encoding="utf-8")
    return path


def told(path: Path) -> list[str]:
    with pytest.raises(FleetInvalid) as caught:
        read_fleet(path)
    assert all(problem.fix for problem in caught.value.problems)
    return [f"{problem.where}: {problem.what}" for problem in caught.value.problems]


def test_a_fleet_file_gives_its_engines_in_order(tmp_path: Path) -> None:
    big, small = read_fleet(fleet(tmp_path, GOOD))
    assert big == EngineSpec(
        EngineId("big"),
        "vllm",
        ("llama", "llama-sql"),
        "https://gpu-host:8000/v1",
        "H100",
        128,
        16384,
        2.0,
        {"api_key_env": "KEY"},
    )
    assert (small.models, small.max_running) == (("llama",), 64)
    assert small.options == {"answers": str(tmp_path / "answers.jsonl"), "scale": 50.0}


def test_all_problems_of_all_engines_are_told_at_once(tmp_path: Path) -> None:
    text = """
    [[engine]]
    id = "a"
    kind = "vlm"
    max_runing = 3
    price_per_hour = "cheap"
    [[engine]]
    id = "b"
    kind = "vlm"
    max_running = 0
    [[engine]]
    url = "http://localhost:8000"
    [[engine]]
    id = "c"
    url = "localhost:8000"
    [engine.options]
    api_key = "secret"
    [[engine]]
    id = "c"
    kind = "scripted"
    [engine.options]
    seed = "x"
    """
    assert told(fleet(tmp_path, text)) == [
        "engine 'a': price_per_hour: Input should be a valid number",
        "engine 'a': max_runing: unknown",
        "engine 'b': max_running is 0",
        "engine 'b': there is no kind 'vlm'",
        "engine '#3': id is missing",
        "engine 'c': 'localhost:8000' is no URL of an HTTP server",
        "engine 'c': options.api_key: unknown",
        "engine 'c': a scripted engine names no model",
        "engine 'c': options.seed: Input should be a valid integer",
        "engine 'c': the id is used more than once",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("engine = 3", "has no engines"),
        ("", "has no engines"),
        ("[[engine]\n", "is not TOML"),
        ("[[engines]]\nid = 'a'", "has unknown keys: engines"),
        ("engine = [3]", "valid dictionary"),
        ("[[engine]]\nid='a'\nurl='http://h'\nmodel='m'\nmodels=['m']", "both `model` and `models`"),
    ],
)
def test_what_is_no_fleet_file_is_said(tmp_path: Path, text: str, what: str) -> None:
    assert what in told(fleet(tmp_path, text))[0]


def test_a_missing_fleet_file_is_said(tmp_path: Path) -> None:
    assert "cannot be read" in told(tmp_path / "missing.toml")[0]


def test_an_engine_from_a_url_is_named_after_its_server() -> None:
    assert engine_from_url("http://user:secret@host:8000/v1").id == "host:8000"
    assert engine_from_url("http://host").models == ()
    for url in ("host:8000", "ftp://host", "http://", "http://host:99999", "http://[half"):
        with pytest.raises(FleetInvalid, match="no URL"):
            engine_from_url(url)


async def test_each_kind_opens_its_body(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"contains": "hello", "text": "hi"}\n')
    big, small = (open_engine(spec, environ={"KEY": "k"}) for spec in read_fleet(fleet(tmp_path, GOOD)))
    assert isinstance(big, VllmHttp)
    assert isinstance(small, Modelled)
    assert (await small.generate(REQUEST)).text == "hi"
    for engine in (big, small):
        await engine.close()


async def test_answers_may_come_from_a_seed_or_a_function() -> None:
    spec = EngineSpec(EngineId("s"), "scripted", ("llama",), options={"seed": 3})
    made_up = open_engine(spec)
    assert isinstance(made_up, Scripted)
    assert (await made_up.generate(REQUEST)).text
    shouting = EngineSpec(EngineId("s"), "scripted", ("llama",), options={"answers": f"{__name__}:shout"})
    assert (await open_engine(shouting).generate(REQUEST)).text == "HELLO"


@pytest.mark.parametrize("answers", ["no_such_module:answer", "json:no_such_function", "json:__doc__"])
def test_a_function_that_is_not_there_is_said(answers: str) -> None:
    with pytest.raises(FleetInvalid, match=r"options\.answers"):
        open_engine(EngineSpec(EngineId("s"), "scripted", ("llama",), options={"answers": answers}))


def test_what_only_opening_shows_is_said(tmp_path: Path) -> None:
    missing = EngineSpec(EngineId("s"), "scripted", ("llama",), options={"answers": str(tmp_path / "none.jsonl")})
    with pytest.raises(AnswersInvalid, match=r"none\.jsonl"):
        open_engine(missing)
    locked = EngineSpec(EngineId("e"), "openai", (), "http://host", options={"api_key_env": "NOT_SET"})
    with pytest.raises(FleetInvalid, match="NOT_SET is not set"):
        open_engine(locked, environ={})
    with pytest.raises(FleetInvalid, match="there is no kind"):
        open_engine(EngineSpec(EngineId("e"), "magic", ("m",)))


async def test_a_run_on_a_real_server_can_be_recorded_and_replayed(tmp_path: Path, stub_openai: StubOpenAI) -> None:
    path = tmp_path / "run.jsonl"
    spec = EngineSpec(EngineId("e"), "vllm", ("stub-model",), stub_openai.url, options={"record": str(path)})
    request = GenerateRequest("c1", "p1", "stub-model", ({"role": "user", "content": "hi"},), Sampling())
    engine = open_engine(spec)
    assert isinstance(engine, Recording)
    said = await engine.generate(request)
    assert (await engine.probe()).ready
    await engine.close()
    await engine.close()
    assert read_recorded(path).answer(request).text == said.text


def test_a_model_may_have_another_name_on_the_server(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.toml"
    fleet.write_text('[[engine]]\nid = "a"\nurl = "http://gpu:8000"\nmodels = ["sql=org/llama", "large"]\n')
    (spec,) = read_fleet(fleet)
    assert (spec.models, spec.served_names) == (("sql", "large"), {"sql": "org/llama"})


def test_a_fleet_file_names_the_profile_of_an_engine_and_its_tensor_parallel_degree(tmp_path):
    write_profile(tmp_path / "small.toml", PROFILES["A10"])
    engine = '[[engine]]\nid = "a"\nkind = "modelled"\nmodel = "llama"\n'
    (spec,) = read_fleet(fleet(tmp_path, engine + 'tensor_parallel = 2\nprofile = "small.toml"\n'))
    assert spec.tensor_parallel == 2
    assert spec.profile == PROFILES["A10"]
    assert read_profile(tmp_path / "small.toml") == PROFILES["A10"]


def test_a_fleet_file_may_tell_an_engines_kv_and_that_it_shares_late(tmp_path):
    engine = '[[engine]]\nid = "a"\nkind = "modelled"\nmodel = "llama"\n'
    (spec,) = read_fleet(fleet(tmp_path, engine))
    assert (spec.kv_tokens, spec.warm_first) == (0, False)
    (spec,) = read_fleet(fleet(tmp_path, engine + "kv_tokens = 4096\nwarm_first = true\n"))
    assert (spec.kv_tokens, spec.warm_first) == (4096, True)
    assert told(fleet(tmp_path, engine + "kv_tokens = -1\n")) == ["engine 'a': kv_tokens is -1"]


def test_an_engine_may_say_where_it_publishes_kv_events(tmp_path: Path) -> None:
    engine = '[[engine]]\nid = "a"\nurl = "http://h:1"\n'
    addresses = 'kv_events = "tcp://h:5557"\nkv_replay = "tcp://h:5558"\n'
    (spec,) = read_fleet(fleet(tmp_path, engine + addresses))
    assert (spec.kv_events, spec.kv_replay) == ("tcp://h:5557", "tcp://h:5558")
    assert told(fleet(tmp_path, engine + 'kv_replay = "tcp://*:5558"\n')) == [
        "engine 'a': kv_replay: 'tcp://*:5558' is no address to connect to",
        "engine 'a': kv_replay is written without kv_events",
    ]


def test_everything_wrong_with_a_profile_is_told_with_its_engine(tmp_path):
    text = profile_toml(replace(PROFILES["A10"], blend=0.5, source='"quoted" é')) + "speed = 3\n"
    (tmp_path / "bad.toml").write_text(text, encoding="utf-8")
    engine = '[[engine]]\nid = "a"\nkind = "modelled"\nmodel = "llama"\nprofile = "bad.toml"\n'
    problems = told(fleet(tmp_path, engine))
    assert [problem.rpartition(": ")[0].rpartition(": ")[2] for problem in problems] == ["blend", "speed"]
    assert all(problem.startswith("engine 'a': ") for problem in problems)
    missing = told(fleet(tmp_path, engine.replace("bad.toml", "none.toml")))
    assert "cannot be read" in missing[0]


def test_an_engine_may_have_adapters_and_be_kept_for_tenants(tmp_path: Path) -> None:
    engine = '[[engine]]\nid = "a"\nkind = "vllm"\nurl = "http://h:1"\n'
    (spec,) = read_fleet(fleet(tmp_path, engine + 'model = "base"\nadapters = ["sql=lora-7"]\ntenants = ["ann"]\n'))
    assert (spec.served, spec.served_names) == (("base", "sql"), {"sql": "lora-7"})
    assert spec.serves("sql", "ann")
    assert not spec.serves("sql", "bob")
    assert told(fleet(tmp_path, engine + 'adapters = ["sql", "sql"]\ntenants = [""]\n')) == [
        "engine 'a': it names adapters and no model that they are of",
        "engine 'a': 'sql' is named more than once among its models and adapters",
        "engine 'a': a tenant in `tenants` has no name",
    ]
