"""Which engines to use: those a user names, in one of three ways."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from executor.engines.fleet_file import engine_from_url, read_fleet, read_models
from executor.engines.port import EngineSpec
from halo.batch.errors import EnginesUnnamed

FLEET, ENGINE_URL = "HALO_FLEET", "HALO_ENGINE_URL"
_THREE_WAYS = (
    "no engine is named. Name one in one of three ways:\n"
    "  --engine http://localhost:8000      an OpenAI-compatible server, as often as you have servers\n"
    "  --fleet fleet.toml                  a file that describes each engine\n"
    f"  {FLEET} or {ENGINE_URL}       the same, in the environment"
)


def named_engines(
    urls: Sequence[str] = (),
    models: Sequence[str] = (),
    fleet: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[EngineSpec, ...]:
    """The engines at `urls` and those of the fleet file; with neither, those the environment names.

    `models` are what the engines at `urls` serve; without any, they are asked. Raises `EnginesUnnamed`, `FleetInvalid`.
    """
    environment = environment or {}
    if not urls and fleet is None:
        urls = environment.get(ENGINE_URL, "").replace(",", " ").split()
        fleet = Path(environment[FLEET]) if environment.get(FLEET) else None
    if not urls and fleet is None:
        raise EnginesUnnamed(_THREE_WAYS)
    if models and not urls:
        raise EnginesUnnamed("--model says what the engines at --engine serve; a fleet file names models itself")
    described = read_fleet(fleet) if fleet is not None else ()
    names, served_names = read_models(models)
    at = [replace(engine_from_url(url), models=names, served_names=served_names) for url in dict.fromkeys(urls)]
    _check_ids((*at, *described))
    return (*at, *described)


def any_named(urls: Sequence[str], models: Sequence[str], fleet: Path | None, environment: Mapping[str, str]) -> bool:
    return bool(urls or models or fleet or environment.get(ENGINE_URL) or environment.get(FLEET))


def _check_ids(specs: Sequence[EngineSpec]) -> None:
    twice = [name for name, count in Counter(spec.id for spec in specs).items() if count > 1]
    if twice:
        raise EnginesUnnamed(f"two engines are called {twice[0]!r}: name each of them once")
