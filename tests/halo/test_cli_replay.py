"""`halo replay`: a batch's journal is cut, run again, and tuned by."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from halo.cli.main import make_app

TRIAGE = str(Path(__file__).parent / "workflows" / "triage.py")
FLEET = """
[[engine]]
id = "quick"
kind = "scripted"
model = "test-model"
gpu = "A100"
max_running = 32
"""
ROWS = 50
Halo = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch with a journal was run there."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "fleet.toml").write_text(FLEET)
    (folder / "noise.bin").write_bytes(b"\xff\xfe\x00")
    (folder / "broken.txt").write_text('JobSubmitted {"at": 1.0, "jo')
    (folder / "door.txt").write_text('DoorOpened {"at": 1.0}\n')
    rows = [json.dumps({"question": f"question {number}"}) for number in range(ROWS)]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    names = {"--rows": "rows.jsonl", "--fleet": "fleet.toml", "--out": "out", "--journal": "journal.txt"}
    arguments = [part for name, file in names.items() for part in (name, str(folder / file))]
    ran = CliRunner().invoke(make_app(), ["batch", "run", TRIAGE, *arguments])
    assert ran.exit_code == 0, ran.stderr
    return folder


@pytest.fixture
def halo(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Halo:
    for name in ("HALO_FLEET", "HALO_ENGINE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return lambda *arguments: CliRunner().invoke(make_app(), ["replay", *(str(part) for part in arguments)])


def test_a_journal_tells_what_it_holds_and_can_be_cut_out(halo: Halo) -> None:
    whole = json.loads(halo("record", "journal.txt", "--out", "window.txt", "--json").stdout)
    again = json.loads(halo("record", "window.txt", "--json").stdout)
    assert (whole["jobs"], whole["programs"]) == (1, ROWS)
    assert {**again, "out": "window.txt"} == whole


def test_it_is_run_again_under_other_bounds(halo: Halo) -> None:
    free = json.loads(halo("run", "journal.txt", "--fleet", "fleet.toml", "--json").stdout)
    tight = halo("run", "journal.txt", "--fleet", "fleet.toml", "--set", "active_programs=1", "--json")
    assert free["simulated"]["programs"] == free["recorded"]["programs"] == ROWS
    assert json.loads(tight.stdout)["simulated"]["mean_s"] > 2 * free["simulated"]["mean_s"]
    assert "in virtual time" in halo("run", "journal.txt", "--fleet", "fleet.toml").stdout


@pytest.mark.parametrize("written", ["round robin", "round-robin"])
def test_it_is_run_again_under_another_rule(halo: Halo, written: str) -> None:
    told = json.loads(halo("run", "journal.txt", "--fleet", "fleet.toml", "--rule", written, "--json").stdout)
    assert (told["rule"], told["simulated"]["programs"]) == ("round robin", ROWS)


def test_a_setting_that_is_far_off_is_found_and_proposed(halo: Halo) -> None:
    told = json.loads(
        halo("tune", "journal.txt", "--fleet", "fleet.toml", "--set", "active_programs=4", "--json").stdout
    )
    assert told["better"], told["why"]
    assert told["chosen"]["active_programs"] > 4
    shown = halo("tune", "journal.txt", "--fleet", "fleet.toml", "--set", "active_programs=4")
    assert "take it: better by more than the noise" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "journal.txt", "--fleet", "fleet.toml", "--set", "speed=2"), "'speed' is no knob; there are: active"),
        (("run", "journal.txt", "--fleet", "fleet.toml", "--set", "active_programs=many"), "'many' is no number"),
        (("run", "journal.txt", "--fleet", "fleet.toml", "--set", "price_backlog=0"), "price_backlog cannot be 0"),
        (("run", "journal.txt", "--fleet", "fleet.toml", "--set", "active_programs=nan"), "cannot be nan"),
        (("run", "journal.txt", "--fleet", "fleet.toml", "--rule", "coin"), "there are: halo, round robin"),
        (
            ("run", "rows.jsonl", "--fleet", "fleet.toml"),
            "is no journal of Halo: line 1 does not begin with the name of",
        ),
        (("tune", "rows.jsonl", "--fleet", "fleet.toml"), "name a file that --journal or HALO_JOURNAL wrote"),
        (("run", "noise.bin", "--fleet", "fleet.toml"), "is no journal of Halo: it is no text in UTF-8"),
        (("run", "broken.txt", "--fleet", "fleet.toml"), "is no journal of Halo: line 1 is no whole JobSubmitted"),
        (("tune", "door.txt", "--fleet", "fleet.toml"), "is the journal of an OpenAI door"),
        (("record", "journal.txt", "--last", "0"), "no program ended within it"),
    ],
)
def test_what_cannot_be_done_is_said(halo: Halo, arguments: tuple[str, ...], said: str) -> None:
    result = halo(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
