"""What a Halo service is told from outside: variables that begin with HALO_, and a TOML file where one is named."""

import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from executor.policy.fairness import TenantShare
from executor.policy.rules import HALO, LIVE_RULES
from planner.advice import advice, closest
from planner.errors import Problem, problem_lines

PREFIX = "HALO_"
NESTED = "__"
#: Variables that other parts of Halo read: clients, inline runs, tests, tools.
OTHERS = frozenset(
    {
        "HALO_URL",
        "HALO_API_KEY",
        "HALO_ENGINE_URL",
        "HALO_ENGINE_API_KEY",
        "HALO_DEBUG",
        "HALO_PRICES",
        "HALO_CACHE_HOME",
    }
)
OTHERS_PREFIXES = ("HALO_TEST_", "HALO_TOOL_")

_KEY = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}:[0-9a-f]{64}$"
_DATABASES = ("memory://", "sqlite:", "postgresql:", "postgres:", "postgresql+", "sqlite+")
_REDIS = ("redis://", "rediss://", "unix://")


#: In `tenants`, this stands for every tenant that is not there.
ANY_TENANT = "*"


class SettingsInvalid(Exception):
    """Everything wrong with the settings at once; each problem says where it is and what to do."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(["these settings cannot be used:", *problem_lines(problems)]))
        self.problems = problems


class Bounds(BaseModel):
    """How much a service takes at once. `jobs` run at once in one process, `programs` of all of them.

    Of the calls of agents outside of Halo, `calls_waiting` of a tenant wait for an engine, and each takes at most
    `call_s`. After `lease_s` without a sign of life another process takes over what this one runs. The scheduler's
    `decisions` are kept of so many programs of a run. At most `cache_results` of `cache_bytes` are kept for later runs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: Annotated[int, Field(ge=1024, le=1024**3)] = 10 * 1024 * 1024
    rows: Annotated[int, Field(ge=1)] = 100_000
    row_bytes: Annotated[int, Field(ge=64)] = 256 * 1024
    metadata_bytes: Annotated[int, Field(ge=64)] = 16 * 1024
    wait_s: Annotated[float, Field(gt=0, le=600)] = 60.0
    jobs: Annotated[int, Field(ge=1)] = 64
    programs: Annotated[int, Field(ge=1)] = 512
    calls_waiting: Annotated[int, Field(ge=1)] = 1024
    call_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    lease_s: Annotated[float, Field(ge=1, le=3600)] = 15.0
    decisions: Annotated[int, Field(ge=0, le=1_000_000)] = 256
    cache_results: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    cache_bytes: Annotated[int, Field(ge=1024)] = 256 * 1024 * 1024


class Tuning(BaseModel):
    """Whether the scheduler tunes itself: a look at the newest `events` every `every_s` seconds; 0 is never."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 0.0
    events: Annotated[int, Field(ge=1000, le=1_000_000)] = 50_000


class TenantBounds(BaseModel):
    """What a tenant may have: engines' time by `weight` while others want it too, and at most so many programs running
    and queued at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    running: Annotated[int | None, Field(ge=1)] = None
    queued: Annotated[int | None, Field(ge=1)] = None


class Settings(BaseSettings):
    """One object for `halo serve` and workers. Read it with `read_settings`.

    `workflows` are references: `module:name`, `path/file.py:name`, or the name of an entry point. `api_keys` are
    `tenant:sha256-of-the-key` in hex, given here or one a line in `api_keys_file`; without any, only this machine is
    listened to. `tenants` says what each may have; `*` stands for all that are not named; `operators` may take engines
    out, see all of them, and read metrics. Calls of runs get engines by the `rule` of that name. With `result_cache`,
    greedy and seeded calls, and pure tools with a version, are not done again for the same tenant.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=NESTED, extra="forbid", frozen=True, validate_default=True
    )

    database_url: str = "sqlite:///halo.db"
    redis_url: str | None = None
    fleet: Path | None = None
    rule: str = HALO.name
    workflows: Annotated[tuple[str, ...], NoDecode] = ()
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    api_keys: Annotated[tuple[Annotated[str, Field(pattern=_KEY)], ...], NoDecode] = ()
    api_keys_file: Path | None = None
    operators: Annotated[tuple[str, ...], NoDecode] = ()
    journal: Path | None = None
    result_cache: bool = True
    tenants: dict[str, TenantBounds] = {}
    limits: Bounds = Bounds()
    tuning: Tuning = Tuning()

    @field_validator("workflows", "api_keys", "operators", mode="before")
    @classmethod
    def _from_list(cls, given: Any) -> Any:
        return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given

    @field_validator("rule", mode="before")
    @classmethod
    def _as_named(cls, given: Any) -> Any:
        """`round-robin`, as an option is written, is `round robin`."""
        return given.replace("-", " ") if isinstance(given, str) else given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read_settings(file: Path | None = None, **given: Any) -> Settings:
    """What was `given`, else the environment, else the file, else the defaults. Raises `SettingsInvalid`."""
    problems = list(_unknown_variables(os.environ))
    if file is not None and not file.is_file():
        raise SettingsInvalid((*problems, Problem(str(file), "is no file", "name a TOML file of settings")))
    try:
        settings = _settings_class(file)(**given)
    except ValidationError as error:
        raise SettingsInvalid((*problems, *_problems(error))) from None
    except ValueError as error:  # TOML that cannot be read, JSON in a variable
        raise SettingsInvalid((*problems, Problem(str(file or PREFIX), str(error), "correct it"))) from None
    problems += _misfits(settings)
    if problems:
        raise SettingsInvalid(tuple(problems))
    return settings


def tenant_shares(settings: Settings) -> dict[str, Any]:
    """For the scheduler's limits: what each tenant may have, and who is not named."""
    shares = {name: TenantShare(**bounds.model_dump()) for name, bounds in settings.tenants.items()}
    return {"any_tenant": shares.pop(ANY_TENANT, TenantShare()), "tenants": shares}


def tenants_by_hash(settings: Settings) -> dict[str, str]:
    """Who each key belongs to, by the SHA-256 of the key. Empty when none are configured."""
    pairs = [line.split(":") for line in (*settings.api_keys, *_lines(settings.api_keys_file))]
    return {digest: tenant for tenant, digest in pairs}


def _settings_class(file: Path | None) -> type[Settings]:
    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    return FromFile


def _misfits(settings: Settings) -> Iterator[Problem]:
    """What is well-formed and still cannot work."""
    if not settings.database_url.startswith(_DATABASES):
        yield Problem("database_url", "is no address of a database", "write sqlite:///halo.db or postgresql://...")
    if settings.redis_url is not None and not settings.redis_url.startswith(_REDIS):
        yield Problem("redis_url", "is no address of a Redis", "write redis://localhost:6379/0, or leave it out")
    for name, path in (("fleet", settings.fleet), ("api_keys_file", settings.api_keys_file)):
        if path is not None and not path.is_file():
            yield Problem(name, f"{str(path)!r} is no file", "name a file that is there")
    if settings.rule not in LIVE_RULES:
        yield Problem("rule", f"there is no rule {settings.rule!r}", advice(settings.rule, LIVE_RULES))
    yield from _key_problems(settings)
    yield from _operator_problems(settings)


def _key_problems(settings: Settings) -> Iterator[Problem]:
    lines = _lines(settings.api_keys_file)
    for number, line in enumerate(lines, 1):
        if not re.fullmatch(_KEY, line):
            yield Problem(f"api_keys_file, key {number}", "is not tenant:sha256", "write the hash of the key in hex")
    if not (settings.api_keys or lines or is_loopback(settings.host)):
        fix = "configure api_keys, or listen on 127.0.0.1"
        yield Problem("host", f"{settings.host!r} is open to others, and there are no API keys", fix)


def _operator_problems(settings: Settings) -> Iterator[Problem]:
    tenants = set(tenants_by_hash(settings).values()) if not list(_key_problems(settings)) else set(settings.operators)
    for name in settings.operators:
        if name not in tenants:
            yield Problem("operators", f"{name!r} is no tenant with a key", "give it one in api_keys, or leave it out")


def is_loopback(host: str) -> bool:
    """True when only this machine can reach a socket bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _lines(file: Path | None) -> list[str]:
    if file is None or not file.is_file():
        return []
    lines = (line.strip() for line in file.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[Problem]:
    known = sorted(PREFIX + name.upper() for name in Settings.model_fields)
    for variable in sorted(environment):
        name = variable.upper()
        if not name.startswith(PREFIX) or name in OTHERS or name.startswith(OTHERS_PREFIXES):
            continue
        if name.partition(NESTED)[0] not in known:
            yield Problem(variable, "is no setting of Halo", _advice(name, known))


def _advice(name: str, known: list[str]) -> str:
    close = closest(name, known)
    return f"did you mean {close}?" if close else f"there are: {', '.join(known)}"


def _problems(error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors(include_url=False, include_input=False):
        where = ".".join(str(step) for step in detail["loc"])
        yield Problem(where or "settings", _what(detail), _fix(detail, where))


def _what(detail: Any) -> str:
    if detail["type"] == "extra_forbidden":
        return "is no setting of Halo"
    if detail["type"] == "string_pattern_mismatch":
        return "is not of the form tenant:sha256"
    return str(detail["msg"]).lower()


#: Settings that have settings of their own.
_PARTS: Mapping[str, type[BaseModel]] = {"limits": Bounds, "tenants": TenantBounds, "tuning": Tuning}


def _fix(detail: Any, where: str) -> str:
    name = where.rpartition(".")[2]
    if detail["type"] == "extra_forbidden":
        return _advice(name, sorted(_PARTS.get(where.partition(".")[0], Settings).model_fields))
    if detail["type"] == "string_pattern_mismatch":
        return "write the tenant's name, a colon, and the SHA-256 of the key in hex"
    return f"change it, or leave it out ({PREFIX}{where.upper().replace('.', NESTED)})"
