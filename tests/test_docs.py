"""The reference pages name all there is: who looks something up finds it, and finds nothing that is gone."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click import Command
from service_stand import service
from typer.main import get_command

import halo
from executor.engines.fleet_file import read_fleet
from executor.engines.options import OPTIONS
from executor.errors import FleetInvalid
from halo.cli.main import make_app
from halo.cli.options import complete_rule
from halo.settings import Bounds, Settings

ROOT = Path(__file__).resolve().parent.parent
PAGES = {page.stem: page.read_text() for page in (ROOT / "docs").glob("*.md")}
README = (ROOT / "README.md").read_text()


def in_code(page: str) -> set[str]:
    """What stands between backquotes, and the words of examples."""
    blocks = re.findall(r"```\n(.*?)```", page, re.DOTALL)
    return {*re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL)), *blocks}


def test_every_key_of_the_fleet_file_stands_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('[[engine]]\nid = "a"\nurl = "http://a"\nunknown = 1\n')
    with pytest.raises(FleetInvalid) as refused:
        read_fleet(tmp_path / "fleet.toml")
    keys = refused.value.problems[0].fix.removeprefix("an engine knows: ").split(", ")
    options = {name for options in OPTIONS.values() for name in options.model_fields}
    assert {*keys, *options} <= in_code(PAGES["service"])


def test_every_setting_stands_in_the_table() -> None:
    assert {*Settings.model_fields, *Bounds.model_fields} <= in_code(PAGES["service"])


def test_every_rule_is_told_alike_in_the_table_and_by_the_command() -> None:
    rules = set(complete_rule(""))
    serve = get_command(make_app()).commands["serve"]  # type: ignore[attr-defined]
    (help_text,) = [option.help for option in serve.params if option.name == "rule"]
    assert rules <= in_code(PAGES["service"])
    assert rules <= set(re.findall(r"[a-z-]+", help_text))


async def test_every_address_stands_in_the_table_and_none_that_is_gone() -> None:
    async with service(working=False) as stand:
        paths = stand.app.openapi()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    told = {one for one in in_code(PAGES["service"]) if re.match(r"(GET|POST|PUT|DELETE) /", one)}
    assert there == told


def test_every_public_name_stands_in_the_reference() -> None:
    told = {found for code in in_code(PAGES["python"]) for found in re.findall(r"\bhalo\.(\w+)", code)}
    assert set(halo.__all__) <= told
    assert all(hasattr(halo, name) for name in told)


def test_every_benchmark_says_what_it_measures() -> None:
    told = {one for one in in_code(PAGES["research"]) if one.startswith("benchmarks.")}
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in (ROOT / "benchmarks").rglob("*.py")
    }
    to_be_run = {name for name, file in files.items() if f"python -m {name}" in file.read_text()[:2000]}
    assert to_be_run <= told <= files.keys()


def test_every_command_is_named_somewhere() -> None:
    texts = " ".join([README, *PAGES.values()])
    missing = [command for command in _commands(get_command(make_app())) if f"halo {command}" not in texts]
    assert not missing


def _commands(group: Command, before: str = "") -> Iterator[str]:
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"
