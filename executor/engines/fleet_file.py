"""The fleet file: which engines there are.

[[engine]]
id = "a100-0"
kind = "vllm"                      # vllm, openai, modelled, scripted
url = "http://gpu-host:8000"
model = "meta-llama/Llama-3.1-8B"  # or models = [...]; without either the engine is asked; "sql=meta-llama/..."
                                   # answers to `sql` with the model the server knows by the other name
gpu = "A100"
max_running = 64
context_tokens = 8192
price_per_hour = 1.8
revision = "2026-03"               # which weights these are, where the server does not say it, or says it wrongly:
                                   # results of fixed work are kept for later jobs under this name
tensor_parallel = 2                # GPUs that hold one copy of the model; without it, as few as do
profile = "a100.toml"              # what `halo engines profile` measured
kv_tokens = 400000                 # room of its KV cache; a vLLM server is asked where this is not written
kv_events = "tcp://gpu-host:5557"  # where a vLLM says what its KV cache holds (--kv-events-config, endpoint
                                   # "tcp://*:5557"); needs the extra `kv-events`. Without it that is estimated
kv_replay = "tcp://gpu-host:5558"  # its replay_endpoint: what was missed is asked for there
kv_tier = "host-1"                 # engines that say the same share a KV tier (halo_vllm.tier): a program's next turn
                                   # may go to any of them, and loads its KV from there
kv_tier_gib = 8                    # its capacity_gib; 4 if left out
kv_tier_gb_per_s = 6.5             # how fast KV is loaded from it; half of the host's bus if left out
adapters = ["sql-lora"]            # LoRA adapters of its first model that it serves beside it (--lora-modules), by the
                                   # names calls ask for; "sql=sql-lora" as with models
tenants = ["ann", "bob"]           # it is kept for these: nobody else's calls go there
warm_first = false                 # true for a server that shares a prefix only after the first call with it has ended

[engine.options]
api_key_env = "GPU_HOST_KEY"
tokenizer = "llama-3.1-8b"         # the folder with the model's tokenizer.json and chat template; needs the extra
                                   # `tokenizers`. Plans are then made in the engine's own tokens
priority_scheduling = true         # for a vLLM started with --scheduling-policy priority
retention = "plugin"               # of a modelled engine: it keeps programs' KV as a vLLM with the plugin does
"""

import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from executor.engines.options import FUNCTION_REFERENCE, is_http_url, known_keys, spec_problems
from executor.engines.port import EngineSpec
from executor.engines.profile_file import read_profile
from executor.errors import FleetInvalid, ProfileInvalid
from planner.errors import Problem
from planner.ir.ids import EngineId
from planner.ir.values import Json

#: Options that name files; a fleet file means them relative to itself.
_FILE_OPTIONS = ("answers", "record", "tokenizer")


def read_fleet(path: Path) -> tuple[EngineSpec, ...]:
    """The engines of a fleet file, in its order. Raises `FleetInvalid` with every problem of every engine."""
    tables = _engine_tables(path)
    specs: list[EngineSpec] = []
    problems: list[Problem] = []
    for number, table in enumerate(tables, start=1):
        _read_engine(table, number, path.parent, specs, problems)
    problems.extend(_doubled(specs))
    if problems:
        raise FleetInvalid(problems)
    return tuple(specs)


def engine_from_url(url: str) -> EngineSpec:
    """The engine behind a URL, named after its host and port. It is asked which models it serves."""
    if not is_http_url(url):
        fix = "write http://host:port, as the engine's server prints it"
        raise FleetInvalid([Problem(url, "this is no URL of an HTTP server", fix)])
    return EngineSpec(EngineId(urlsplit(url).netloc.rpartition("@")[2]), "vllm", (), url=url)


def read_models(names: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The models' names and, of those written `name=served`, what the server itself calls them."""
    pairs = [name.partition("=") for name in names]
    return tuple(name for name, _, _ in pairs), {name: served for name, _, served in pairs if served}


class _EngineTable(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: str
    kind: str = "vllm"
    url: str = ""
    model: str | None = None
    models: list[str] | None = None
    gpu: str = "unknown"
    max_running: int = 64
    context_tokens: int = 8192
    price_per_hour: float = 0.0
    tensor_parallel: int | None = None
    profile: str | None = None
    kv_tokens: int = 0
    warm_first: bool = False
    revision: str = ""
    kv_events: str = ""
    kv_replay: str = ""
    kv_tier: str = ""
    kv_tier_gib: float = 4.0
    kv_tier_gb_per_s: float | None = None
    adapters: list[str] = []
    tenants: list[str] = []
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_way_to_name_models(self) -> Self:
        if self.model is not None and self.models is not None:
            raise ValueError("both `model` and `models` are given")
        return self

    def spec(self, folder: Path) -> EngineSpec:
        models, served_names = read_models((self.model,) if self.model is not None else self.models or ())
        adapters, names_of_adapters = read_models(self.adapters)
        return EngineSpec(
            EngineId(self.id),
            self.kind,
            models,
            self.url,
            self.gpu,
            self.max_running,
            self.context_tokens,
            self.price_per_hour,
            {name: _resolved(name, option, folder) for name, option in self.options.items()},
            served_names | names_of_adapters,
            self.tensor_parallel,
            read_profile(folder / self.profile) if self.profile is not None else None,
            self.kv_tokens,
            self.warm_first,
            revision=self.revision,
            kv_events=self.kv_events,
            kv_replay=self.kv_replay,
            kv_tier=self.kv_tier,
            kv_tier_gib=self.kv_tier_gib,
            kv_tier_gb_per_s=self.kv_tier_gb_per_s,
            adapters=adapters,
            tenants=tuple(self.tenants),
        )


def _engine_tables(path: Path) -> list[Json]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise _unreadable(path, f"cannot be read ({problem})", "name a fleet file") from None
    except tomllib.TOMLDecodeError as problem:
        raise _unreadable(path, f"is not TOML: {problem}", "see the TOML documentation") from None
    tables = content.pop("engine", None)
    if content:
        raise _unreadable(path, f"has unknown keys: {', '.join(content)}", "write only [[engine]] tables")
    if not isinstance(tables, list) or not tables:
        raise _unreadable(path, "has no engines", "write an [[engine]] table for each")
    return tables


def _unreadable(path: Path, what: str, fix: str) -> FleetInvalid:
    return FleetInvalid([Problem(str(path), what, fix)])


def _read_engine(table: Json, number: int, folder: Path, specs: list[EngineSpec], problems: list[Problem]) -> None:
    name = table.get("id", f"#{number}") if isinstance(table, dict) else f"#{number}"
    try:
        spec = _EngineTable.model_validate(table).spec(folder)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_input=False):
            problems.append(_problem(f"engine {name!r}", error))
        return
    except ProfileInvalid as invalid:
        problems.extend(replace(problem, where=f"engine {name!r}: {problem.where}") for problem in invalid.problems)
        return
    specs.append(spec)
    problems.extend(spec_problems(spec))


def _problem(where: str, error: Any) -> Problem:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return Problem(where, f"{place}: unknown", f"an engine knows: {known_keys(_EngineTable)}")
    if error["type"] == "missing":
        return Problem(where, f"{place} is missing", f"write {place} = ...")
    what = f"{place}: {error['msg']}" if place else error["msg"]
    return Problem(where, what, "correct it")


def _doubled(specs: list[EngineSpec]) -> list[Problem]:
    ids = [spec.id for spec in specs]
    doubled = dict.fromkeys(name for name in ids if ids.count(name) > 1)
    return [Problem(f"engine {name!r}", "the id is used more than once", "give each its own") for name in doubled]


def _resolved(name: str, option: Json, folder: Path) -> Json:
    if name not in _FILE_OPTIONS or not isinstance(option, str) or FUNCTION_REFERENCE.fullmatch(option):
        return option
    return str(folder / option)
