"""`halo why`: what it shows of a batch's calls, of a database, and of what is not there."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from halo.cli.main import make_app
from halo.cli.options import complete_rule

TRIAGE = str(Path(__file__).parent / "workflows" / "triage.py")
FLEET = """
[[engine]]
id = "quick"
kind = "scripted"
model = "test-model"
gpu = "A100"

[[engine]]
id = "slow"
kind = "scripted"
model = "test-model"
gpu = "L4"
"""
Halo = Callable[..., Result]


@pytest.fixture
def halo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Halo:
    for name in ("HALO_FLEET", "HALO_ENGINE_URL", "HALO_DATABASE_URL", "HALO_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"question": f"q{n}"}) + "\n" for n in range(2)))
    runner = CliRunner()
    return lambda *arguments: runner.invoke(make_app(), [str(part) for part in arguments])


@pytest.fixture
def batch(halo: Halo) -> Path:
    ran = halo("batch", "run", TRIAGE, "--rows", "rows.jsonl", "--fleet", "fleet.toml", "--out", "out")
    assert ran.exit_code == 0, ran.stderr
    return Path("out")


def test_a_batch_tells_where_its_calls_went_and_why(halo: Halo, batch: Path) -> None:
    result = halo("why", batch)
    assert result.exit_code == 0, result.stderr
    head, *lines = result.stdout.splitlines()
    assert head.split()[:5] == ["at", "row", "node", "try", "engine"]
    assert lines
    assert all(" quick " in line and "slow " in line for line in lines)


def test_of_one_node_each_engine_is_shown(halo: Halo, batch: Path) -> None:
    found = json.loads(halo("why", batch, "--json").stdout)["decisions"]
    result = halo("why", batch, "--row", 1, "--node", found[0]["path"])
    assert result.exit_code == 0, result.stderr
    assert "row 1" in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines() if "taken" in line] == ["quick"]


def test_no_more_is_shown_than_was_asked_for_and_that_is_said(halo: Halo, batch: Path) -> None:
    result = halo("why", batch, "--limit", 1)
    assert len(result.stdout.splitlines()) == 2
    assert "more than 1" in result.stderr


def test_a_batchs_database_is_asked_by_the_id_of_its_job(halo: Halo, batch: Path) -> None:
    (database,) = batch.rglob("*.db")
    summary = json.loads((batch / "summary.json").read_text())
    result = halo("why", summary["job"], "--database", f"sqlite:///{database}", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["decisions"] == json.loads(halo("why", batch, "--json").stdout)["decisions"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run_1", "--database", "sqlite:///nowhere.db"), "There is no database nowhere.db"),
        (("run_1", "--server", "http://x", "--database", "sqlite:///y.db"), "name a server or a database"),
        ((".",), "holds no batch"),
    ],
)
def test_what_is_not_there_is_said(halo: Halo, arguments: tuple[str, ...], said: str) -> None:
    result = halo("why", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_a_batch_may_go_by_another_rule_which_its_decisions_name(halo: Halo) -> None:
    arguments = ("batch", "run", TRIAGE, "--rows", "rows.jsonl", "--fleet", "fleet.toml", "--out", "out")
    assert halo(*arguments, "--rule", "round-robin").exit_code == 0
    decisions = json.loads(halo("why", "out", "--json").stdout)["decisions"]
    assert decisions
    assert all(one["reason"].startswith("round robin: ") for one in decisions)


def test_a_rule_that_there_is_not_is_told_with_those_there_are(halo: Halo) -> None:
    result = halo("batch", "run", TRIAGE, "--rows", "rows.jsonl", "--out", "out", "--rule", "oracle")
    assert result.exit_code == 2
    told = " ".join(result.stderr.replace("│", " ").split())
    assert "'oracle' is no rule: write one of halo, round-robin, least-loaded" in told


def test_a_shell_completes_rules() -> None:
    assert list(complete_rule("hex")) == ["hexgen", "hexgen-as-written"]
