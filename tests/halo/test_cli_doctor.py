"""`halo doctor`: each thing that can be wrong with a machine, and the fix that is told."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from executor.engines.port import EngineSpec
from halo.cli.main import make_app
from halo.doctor import (
    OUR_PACKAGES,
    Check,
    Level,
    check_database,
    check_disk,
    check_engines,
    check_local_engine,
    check_package,
    check_python,
    check_redis,
    examine,
    patient,
)
from planner.ir.ids import EngineId

ORIGINS = dict.fromkeys(OUR_PACKAGES, "/site-packages")


def test_an_old_python_fails() -> None:
    assert check_python((3, 10, 4)).level is Level.FAIL
    assert check_python((3, 13, 0)).level is Level.OK


def test_a_package_that_two_distributions_claim_fails_and_names_the_other() -> None:
    check = check_package("executor", ["executor", "halo-orchestrator"], ORIGINS)
    assert check.level is Level.FAIL
    assert check.detail == "executor claims the same import name"
    assert check.fix.startswith("pip uninstall executor; or install Halo into an environment of its own")


def test_a_package_that_comes_from_elsewhere_fails() -> None:
    check = check_package("kvstore", ["halo-orchestrator"], ORIGINS | {"kvstore": "/somewhere"})
    assert (check.level, check.detail) == (Level.FAIL, "is imported from /somewhere, but halo from /site-packages")


def test_our_packages_are_fine_installed_or_from_source() -> None:
    assert check_package("halo", ["halo-orchestrator"], ORIGINS).level is Level.OK
    assert check_package("halo", [], ORIGINS).detail == "from the source in /site-packages"


@pytest.mark.parametrize(
    ("url", "level", "detail"),
    [
        ("memory://", Level.WARN, "nothing survives a restart"),
        ("nonsense", Level.FAIL, "not one Halo knows"),
        ("sqlite:///no/such/folder/halo.db", Level.FAIL, "does not exist"),
        ("postgresql://halo:secret@127.0.0.1:9/halo", Level.FAIL, "cannot be reached"),
    ],
)
async def test_databases(url: str, level: Level, detail: str) -> None:
    check = await check_database(url)
    assert check.level is level
    assert detail in check.detail
    assert check.fix
    assert "secret" not in check.detail


async def test_a_database_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    check = await check_database(f"sqlite:///{tmp_path}/halo.db")
    assert check.level is Level.OK
    assert not list(tmp_path.iterdir())


async def test_a_database_that_is_out_of_date_is_told(tmp_path: Path) -> None:
    (tmp_path / "halo.db").touch()
    check = await check_database(f"sqlite:///{tmp_path}/halo.db")
    assert check.level is Level.FAIL
    assert "run `halo db upgrade`" in check.detail


async def test_redis_that_is_away_is_a_warning() -> None:
    check = await check_redis("redis://127.0.0.1:9/0")
    assert check.level is Level.WARN
    assert "Halo works without it" in check.detail
    assert (await check_redis(None)).level is Level.OK


async def test_engines_are_asked() -> None:
    up = EngineSpec(EngineId("up"), "scripted", ("m",))
    down = EngineSpec(EngineId("down"), "vllm", url="http://127.0.0.1:9", models=())
    invalid = EngineSpec(EngineId("invalid"), "nonsense", ())
    assert [check.level for check in await check_engines([up, down, invalid])] == [Level.OK, Level.FAIL, Level.FAIL]


async def test_engines_that_are_not_named_or_not_well_named_are_findings_too(tmp_path: Path) -> None:
    (unnamed,) = await check_engines(patient({}, tmp_path).engines)
    assert (unnamed.level, unnamed.detail) == (Level.WARN, "none is named")
    (broken,) = await check_engines(patient({"HALO_FLEET": "gone.toml"}, tmp_path).engines)
    assert broken.level is Level.FAIL
    assert "gone.toml: cannot be read" in broken.detail


def test_little_disk_is_warned_of() -> None:
    assert check_disk(Path("/"), 10 * 1024**3).level is Level.OK
    assert check_disk(Path("/"), 1024**3).level is Level.WARN
    assert check_disk(Path("/"), 1024**2).level is Level.FAIL


def test_a_local_engine_is_found_where_it_was_built(tmp_path: Path) -> None:
    assert check_local_engine(tmp_path).fix == "make engine"
    (tmp_path / ".venv-engine" / "bin").mkdir(parents=True)
    (tmp_path / ".venv-engine" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".engine" / "tiny-llama").mkdir(parents=True)
    (tmp_path / ".engine" / "tiny-llama" / "config.json").write_text("{}")
    assert check_local_engine(tmp_path).level is Level.OK


async def test_this_machine_is_examined_whole(tmp_path: Path) -> None:
    checks = await examine(patient({"HALO_ENGINE_URL": "http://127.0.0.1:9"}, tmp_path))
    names = [check.name for check in checks]
    assert names == [
        "python",
        *(f"package {name}" for name in OUR_PACKAGES),
        "database",
        "redis",
        "engine 127.0.0.1:9",
        "disk",
        "cpu engine",
    ]
    assert all(check.fix for check in checks if check.level is not Level.OK)


def test_the_command_prints_a_line_for_each_and_ends_with_1_when_something_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HALO_FLEET", raising=False)
    monkeypatch.delenv("HALO_DATABASE_URL", raising=False)
    (tmp_path / "fleet.toml").write_text('[[engine]]\nid = "e"\nkind = "scripted"\nmodel = "m"\n')
    well = CliRunner().invoke(make_app(), ["doctor", "--fleet", "fleet.toml"])
    assert well.exit_code == 0
    assert "ok   engine e: serves m" in well.stdout
    ill = CliRunner().invoke(make_app(), ["doctor", "--engine", "http://127.0.0.1:9", "--json"])
    assert ill.exit_code == 1
    found = [Check(**entry) for entry in json.loads(ill.stdout)]
    assert [check.name for check in found if check.level == "fail"] == ["engine 127.0.0.1:9"]
