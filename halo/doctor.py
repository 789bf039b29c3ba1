"""What is wrong with this machine, and how to mend it."""

import asyncio
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy.engine import URL, make_url

from executor.engines.local_recipe import EngineNotRunning, recipe_in
from executor.engines.open import open_engine
from executor.engines.port import EngineSpec
from executor.errors import ExecutorError
from executor.store.database import Database, database_url
from executor.store.failures import StoreRefused, StoreUnavailable
from executor.store.migrating import check as check_tables
from halo import distribution
from halo.batch.engines import ENGINE_URL, FLEET, named_engines
from halo.batch.errors import EnginesUnnamed
from halo.wiring import MEMORY, open_states
from kvstore.program_state import StateUnavailable
from planner.ir.values import Json

OUR_PACKAGES = ("halo", "planner", "executor", "kvstore", "workloads")
OLDEST_PYTHON = (3, 11)
LITTLE_BYTES, TOO_LITTLE_BYTES = 2 * 1024**3, 200 * 1024**2
ANSWER_S = 5.0


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `fix` is empty where nothing needs mending."""

    name: str
    level: Level
    detail: str
    fix: str = ""

    def as_json(self) -> Json:
        return {"name": self.name, "level": str(self.level), "detail": self.detail, "fix": self.fix}


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: everything that the checks take from outside."""

    python: tuple[int, ...]
    owners: Mapping[str, Sequence[str]]
    origins: Mapping[str, str]
    database: str
    redis: str | None
    engines: "Sequence[EngineSpec] | Check"
    folder: Path
    free_bytes: int


def patient(
    environment: Mapping[str, str],
    folder: Path,
    urls: Sequence[str] = (),
    models: Sequence[str] = (),
    fleet: Path | None = None,
) -> Patient:
    """This machine, as the environment has it. `engines` is a finding where there are none to be asked."""
    return Patient(
        python=sys.version_info[:3],
        owners=packages_distributions(),
        origins={name: _origin(name) for name in OUR_PACKAGES},
        database=environment.get("HALO_DATABASE_URL", "sqlite:///halo.db"),
        redis=environment.get("HALO_REDIS_URL"),
        engines=_engines(urls, models, fleet, environment),
        folder=folder,
        free_bytes=shutil.disk_usage(folder).free,
    )


async def examine(patient: Patient) -> list[Check]:
    """Every finding, good ones too. Changes nothing."""
    return [
        check_python(patient.python),
        *(check_package(name, patient.owners.get(name, ()), patient.origins) for name in OUR_PACKAGES),
        await check_database(patient.database),
        await check_redis(patient.redis),
        *await check_engines(patient.engines),
        check_disk(patient.folder, patient.free_bytes),
        check_local_engine(patient.folder),
    ]


def check_python(version: tuple[int, ...]) -> Check:
    text, oldest = ".".join(map(str, version)), ".".join(map(str, OLDEST_PYTHON))
    if version >= OLDEST_PYTHON:
        return Check("python", Level.OK, text)
    return Check("python", Level.FAIL, f"{text} is too old", f"install Python {oldest} or newer")


def check_package(name: str, owners: Sequence[str], origins: Mapping[str, str]) -> Check:
    """Two distributions that own one name overwrite each other's files without a word."""
    title, strangers = f"package {name}", sorted({owner for owner in owners if owner != distribution.NAME})
    if strangers:
        fix = (
            f"pip uninstall {' '.join(strangers)}; or install Halo into an environment of its own, then install it anew"
        )
        return Check(title, Level.FAIL, f"{', '.join(strangers)} claims the same import name", fix)
    if origins[name] != origins["halo"]:
        where = origins[name] or "nowhere"
        return Check(title, Level.FAIL, f"is imported from {where}, but halo from {origins['halo']}", _ONE_PLACE)
    return Check(title, Level.OK, "ours" if owners else f"from the source in {origins[name]}")


_ONE_PLACE = "start Halo from another folder, or install it into an environment of its own"


async def check_database(url: str) -> Check:
    if url == MEMORY:
        return Check("database", Level.WARN, "in memory: nothing survives a restart", "set HALO_DATABASE_URL")
    try:
        address = database_url(url)
        shown = address.render_as_string(hide_password=True)
        if _not_made_yet(address):
            return Check("database", Level.OK, f"{shown} will be made when it is first needed")
        await _look_at(Database(address))
    except StoreRefused as error:
        return Check("database", Level.FAIL, str(error), "see HALO_DATABASE_URL")
    except StoreUnavailable as error:
        return Check("database", Level.FAIL, f"{_shown(url)} cannot be reached: {error}", "start it, or mend the URL")
    return Check("database", Level.OK, shown)


async def check_redis(url: str | None) -> Check:
    if url is None:
        return Check("redis", Level.OK, "not configured: live state is kept in each process (HALO_REDIS_URL)")
    states = open_states(url)
    try:
        await asyncio.wait_for(states.ping(), ANSWER_S)
    except (StateUnavailable, TimeoutError) as error:
        detail = f"cannot be reached: {error or 'no answer'}; Halo works without it, more slowly"
        return Check("redis", Level.WARN, detail, "start Redis, or mend HALO_REDIS_URL")
    finally:
        await states.close()
    return Check("redis", Level.OK, "answers")


async def check_engines(engines: Sequence[EngineSpec] | Check) -> list[Check]:
    if isinstance(engines, Check):
        return [engines]
    return list(await asyncio.gather(*map(_check_engine, engines)))


def check_disk(folder: Path, free_bytes: int) -> Check:
    detail = f"{free_bytes / 1024**3:.1f} GiB free at {folder}"
    if free_bytes < TOO_LITTLE_BYTES:
        return Check("disk", Level.FAIL, detail, "make room: a full disk stops every job")
    if free_bytes < LITTLE_BYTES:
        return Check("disk", Level.WARN, detail, "make room before a large batch")
    return Check("disk", Level.OK, detail)


def check_local_engine(folder: Path) -> Check:
    try:
        recipe = recipe_in(folder)
    except EngineNotRunning:
        return Check("cpu engine", Level.WARN, "is not built here; only tests of real engines need it", "make engine")
    return Check("cpu engine", Level.OK, f"is built; `halo engines start --cpu` serves {recipe.served_name}")


def _origin(name: str) -> str:
    """The folder a package is imported from; empty when it is not found."""
    spec = find_spec(name)
    return str(Path(spec.origin).parent.parent) if spec and spec.origin else ""


def _engines(
    urls: Sequence[str], models: Sequence[str], fleet: Path | None, environment: Mapping[str, str]
) -> Sequence[EngineSpec] | Check:
    if not (urls or models or fleet or environment.get(FLEET) or environment.get(ENGINE_URL)):
        fix = f"name one with --engine URL, --fleet FILE, {FLEET} or {ENGINE_URL}"
        return Check("engines", Level.WARN, "none is named", fix)
    try:
        return named_engines(urls, models, fleet, environment)
    except (EnginesUnnamed, ExecutorError) as error:
        return Check("engines", Level.FAIL, _one_line(error), "mend what names them")


def _not_made_yet(address: URL) -> bool:
    return address.get_backend_name() == "sqlite" and not Path(str(address.database)).exists()


async def _look_at(database: Database) -> None:
    try:
        await check_tables(database)
    finally:
        await database.close()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


async def _check_engine(spec: EngineSpec) -> Check:
    title = f"engine {spec.id}"
    try:
        engine = open_engine(spec)
    except ExecutorError as error:
        return Check(title, Level.FAIL, _one_line(error), "mend the fleet file")
    try:
        health = await asyncio.wait_for(engine.probe(), ANSWER_S)
    except TimeoutError:
        return Check(title, Level.FAIL, f"no answer within {ANSWER_S:g} s", "see whether its server runs")
    finally:
        await engine.close()
    if not health.ready:
        return Check(title, Level.FAIL, f"is not ready: {health.detail}", f"see whether its server runs at {spec.url}")
    told = (f"serves {', '.join(health.models) or 'nothing'}", health.version, f"KV retention: {health.rung}")
    return Check(title, Level.OK, "; ".join(filter(None, told)))
