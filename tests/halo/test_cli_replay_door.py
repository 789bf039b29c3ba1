"""`halo replay door`: a service's door journal is decided again, and told."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived, DoorEvent
from executor.door.limits import DoorLimits
from executor.door.record import DoorOpened
from executor.drivers.door import Asked
from executor.engines.port import EngineSpec, Usage
from executor.journal import Journal
from halo.cli.main import make_app
from halo.door_decisions import decisions_of
from halo.wiring import open_door, open_runtime
from planner.ir.ids import EngineId, ProgramId

QUICK = EngineSpec(EngineId("quick"), "vllm", ("test-model",), max_running=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two programs came through a door whose engine takes one call at a time; a third call was of no known model."""
    limits = DoorLimits()
    journal, core = Journal(tmp_path / "events.door.txt"), DoorCore((QUICK,), limits)
    events: list[DoorEvent] = [
        CallArrived(100.0, 1, "team", "test-model", ProgramId("team/x"), ProgramId("team/ada")),
        CallArrived(101.0, 2, "team", "test-model", ProgramId("team/y"), ProgramId("team/bob")),
        CallAnswered(103.5, 1, Usage(10, 1)),
        CallArrived(104.0, 3, "team", "another", ProgramId("team/z")),
    ]
    journal.append(DoorOpened(99.0, (QUICK,), limits))
    for event in events:
        journal.append(core.recorded(event))
        core.handle(event)
    journal.close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def halo(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), ["replay", "door", *arguments])


def test_it_tells_how_long_calls_waited_and_where_they_went(folder: Path) -> None:
    found = json.loads(halo("events.door.txt", "--json").stdout)
    assert (found["calls"], found["programs"], found["refused"]) == (3, 2, {"model_unknown": 1})
    assert found["engines"] == {"quick": 2}
    assert [(one["program"], one["waited_s"]) for one in found["decisions"]] == [("team/ada", 0.0), ("team/bob", 2.5)]
    assert "3 calls came, of 2 programs; 1 were refused" in halo("events.door.txt").stdout


def test_of_one_program_it_says_why(folder: Path) -> None:
    found = json.loads(halo("events.door.txt", "--program", "bob", "--json").stdout)
    assert [(one["program"], one["engine"]) for one in found["decisions"]] == [("team/bob", "quick")]
    assert found["decisions"][0]["reason"]
    assert "2.50 s" in halo("events.door.txt", "--program", "bob").stdout


def test_what_is_no_journal_of_a_door_is_told(folder: Path) -> None:
    (folder / "notes.txt").write_text("bread\n")
    refused = halo("notes.txt")
    assert refused.exit_code == 2
    assert "is no journal of a door: line 1 does not begin" in refused.stderr
    lines = (folder / "events.door.txt").read_text().splitlines(keepends=True)
    (folder / "cut.txt").write_text("".join(lines[1:]))
    assert "before its door was opened" in halo("cut.txt").stderr


@pytest.mark.parametrize("first", ["", 'WakeUp {"at": 0.5}\n'])
def test_given_the_journal_of_jobs_it_names_that_of_the_door(folder: Path, first: str) -> None:
    (folder / "events.txt").write_text(first + 'Cancelled {"at": 1.0, "job": "j"}\n')
    refused = halo("events.txt")
    assert refused.exit_code == 2
    assert "is the journal of jobs" in refused.stderr
    assert "events.door.txt" in refused.stderr


class Reader:
    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        assert status == 200

    async def write(self, part: bytes) -> None:
        pass


async def test_a_service_writes_what_came_through_its_door_beside_its_jobs(tmp_path: Path) -> None:
    asked = Asked("team", "/v1/completions", {"model": "test-model", "prompt": "secret"}, {"x-session-id": "ada"})
    scripted = EngineSpec(EngineId("quick"), "scripted", ("test-model",))
    journal = tmp_path / "events.txt"
    async with open_runtime([scripted], {}, journal=journal) as runtime, open_door(runtime, journal=journal) as door:
        await door.answer(asked, Reader())
    found = decisions_of(tmp_path / "events.door.txt")
    assert [(one.program, one.engine) for one in found.sendings] == [("team/ada", "quick")]
    assert "secret" not in (tmp_path / "events.door.txt").read_text()
