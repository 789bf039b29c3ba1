"""The `halo` command in this process: what it prints, where, and how it ends."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner, Result

from executor.commands import Status
from executor.store.jobs import NewJob
from executor.store.sql import open_store
from executor.store.tables import SCHEMA_REVISION
from executor.store.writes import JobEnded, ProgramEnded
from halo.cli.main import add_installed, make_app
from planner.ir.ids import JobId

TRIAGE = str(Path(__file__).parent / "workflows" / "triage.py")
FLEET = '[[engine]]\nid = "scripted"\nkind = "scripted"\nmodel = "test-model"\ngpu = "A10"\nprice_per_hour = 0.75\n'
Halo = Callable[..., Result]


@pytest.fixture
def halo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Halo:
    """`halo("run", ...)`, in an empty folder with a fleet file, and with nothing in the environment."""
    for name in ("HALO_FLEET", "HALO_ENGINE_URL", "HALO_DEBUG", "HALO_DATABASE_URL", "HALO_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(FLEET)
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(make_app(), [str(part) for part in arguments], **options)


def told(result: Result) -> str:
    return re.sub(r"\s+", " ", result.stderr)


def rows(folder: Path, *found: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


# -- run


def test_run_prints_the_result(halo: Halo) -> None:
    result = halo("run", TRIAGE, "-i", "question=7", "-i", "times=3", "--fleet", "fleet.toml", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["length"], found["times"]) == (1, 3)


def test_run_reads_inputs_from_a_file_and_from_stdin(halo: Halo, tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('{"question": "hello", "times": 2}')
    from_file = halo("run", TRIAGE, "--input-json", "input.json", "-i", "times=5", "--fleet", "fleet.toml")
    from_stdin = halo("run", TRIAGE, "--input-json", "-", "--fleet", "fleet.toml", input='{"question": "hello"}')
    assert json.loads(from_file.stdout)["times"] == 5
    assert json.loads(from_stdin.stdout)["times"] == 1


def test_a_run_that_fails_says_why_and_ends_with_1(halo: Halo) -> None:
    result = halo("run", TRIAGE, "-i", "question=please raise", "--fleet", "fleet.toml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert told(result) == "error: tool_raised: act raised ValueError: told to "


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["nonsense"], "error: no workflow is called 'nonsense'"),
        (["gone.py:flow"], "error: there is no file 'gone.py'"),
        ([f"{TRIAGE}:triag"], "has no 'triag'; did you mean 'triage'?"),
        ([TRIAGE], "question: is missing"),
        ([TRIAGE, "-i", "question=a", "-i", "tims=3"], "tims: there is no such input"),
        ([TRIAGE, "-i", "question=a", "-i", "times=x"], "times:"),
        ([TRIAGE, "-i", "question"], "'question' is not NAME=VALUE"),
        ([TRIAGE, "--input-json", "gone.json"], "gone.json cannot be read"),
        ([TRIAGE, "--input-json", "fleet.toml"], "fleet.toml is not JSON"),
        ([TRIAGE, "-i", "question=a"], "error: no engine is named. Name one in one of three ways: --engine"),
        ([TRIAGE, "-i", "question=a", "--engine", "localhost:1"], "this is no URL of an HTTP server"),
        ([TRIAGE, "-i", "question=a", "--fleet", "gone.toml"], "gone.toml: cannot be read"),
        (
            [TRIAGE, "-i", "question=a", "--fleet", "fleet.toml", "--model", "m"],
            "--model says what the engines at --engine serve",
        ),
        ([TRIAGE, "-i", "question=a", "--engine", "http://127.0.0.1:9"], "start it, or name its models"),
        ([TRIAGE, "-i", "question=a", "--engine", "http://127.0.0.1:9", "--model", "tst-model"], "did you mean"),
    ],
)
def test_what_cannot_be_run_is_told_in_one_block(halo: Halo, arguments: list[str], what: str) -> None:
    result = halo("run", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert what in told(result).replace("│ ", "")
    assert "Traceback" not in result.output


# -- explain


def test_explain_counts_calls_without_making_any(halo: Halo, tmp_path: Path) -> None:
    path = rows(tmp_path, {"question": "a"}, {"question": "a"}, {"nonsense": 1})
    result = halo("explain", TRIAGE, "--rows", path, "--format", "json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["calls"], found["distinct_calls"]) == ({"low": 4, "high": 4}, {"low": 3, "high": 3})
    assert "1 of 3 rows cannot run; row 2: column 'question': is missing" in told(result)


@pytest.mark.parametrize(
    ("form", "beginning"),
    [
        ("table", "plan triage, 1 row"),
        ("tree", "plan triage, 1 row\n├─ topic: generate test-model, 1 of 1, "),
        ("mermaid", "flowchart"),
        ("html", "<!doctype html>"),
    ],
)
def test_explain_has_many_forms(halo: Halo, form: str, beginning: str) -> None:
    assert halo("explain", TRIAGE, "-i", "question=a", "-f", form).stdout.startswith(beginning)


@pytest.mark.parametrize(
    ("form", "beginning"),
    [("table", "plan triage version 1"), ("json", "{"), ("mermaid", "flowchart"), ("html", "<pre>plan triage")],
)
def test_explain_without_rows_shows_the_plan(halo: Halo, form: str, beginning: str) -> None:
    assert halo("explain", TRIAGE, "-f", form).stdout.startswith(beginning)


def test_explain_tells_engine_time_for_the_fleet_or_a_reference(halo: Halo) -> None:
    of_fleet = json.loads(halo("explain", TRIAGE, "-i", "question=a", "--fleet", "fleet.toml", "--json").stdout)
    of_reference = json.loads(halo("explain", TRIAGE, "-i", "question=a", "--json").stdout)
    assert of_fleet["engines"] == ["A10 with Llama-3-8B, not calibrated"]
    assert of_reference["engines"][-1] == "the reference, for no engine is named"
    assert of_reference["engine_seconds"]["low"] < of_fleet["engine_seconds"]["low"]
    assert of_fleet["usd"]["high"] == pytest.approx(of_fleet["engine_seconds"]["high"] * 0.75 / 3600)


def test_explain_goes_by_what_the_database_has_seen(halo: Halo, tmp_path: Path) -> None:
    path = rows(tmp_path, *({"question": str(number)} for number in range(40)))
    assert halo("batch", "run", TRIAGE, "--rows", path, "--out", "out", "--fleet", "fleet.toml").exit_code == 0
    asked = ("explain", TRIAGE, "-i", "question=a", "--json")
    new, known = (json.loads(halo(*asked, *more).stdout) for more in ([], ["--database", "sqlite:///out/job.db"]))

    def written(found: dict[str, Any]) -> float:
        return sum(stage["output_tokens"]["low"] for stage in found["stages"])

    assert any(line.startswith("stages seen before take what they took in") for line in known["assumptions"])
    assert written(known) != written(new) == (32 + 64) / 8


def test_explain_simulates_a_run_and_asks_nobody(halo: Halo) -> None:
    shown = halo("explain", TRIAGE, "-i", "question=a", "--fleet", "fleet.toml", "--simulate")
    assert shown.exit_code == 0
    assert shown.stdout.startswith("plan triage, 1 row")
    assert "makespan in virtual time: " in shown.stderr
    assert "nothing was seen yet: priors" in shown.stderr
    assert "scripted: as fast as its GPU kind is believed to be; how far off that is, is not in the range" in told(
        shown
    )
    found = json.loads(halo("explain", TRIAGE, "-i", "question=a", "--simulate", "--json").stderr)
    assert found["rows_played"] == 1
    assert 0 < found["seconds"]["p10"] <= found["seconds"]["p50"] <= found["seconds"]["p90"]
    assert halo("explain", TRIAGE, "--simulate").exit_code == 2


def test_explain_simulates_by_what_the_last_jobs_took(halo: Halo, tmp_path: Path) -> None:
    path = rows(tmp_path, *({"question": str(number)} for number in range(8)))
    assert halo("batch", "run", TRIAGE, "--rows", path, "--out", "out", "--fleet", "fleet.toml").exit_code == 0
    asked = ("explain", TRIAGE, "--rows", path, "--fleet", "fleet.toml", "--simulate")
    shown = halo(*asked, "--database", "sqlite:///out/job.db")
    assert "the last job of this plan took" in shown.stderr
    assert "the last job" not in halo(*asked).stderr


KEPT = '[[engine]]\nid = "anns"\nkind = "scripted"\nmodel = "test-model"\ngpu = "H100"\ntenants = ["ann"]\n'


def test_explain_forecasts_for_the_engines_that_a_tenant_may_use(halo: Halo, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET + KEPT)
    asked = ("explain", TRIAGE, "-i", "question=a", "--fleet", "fleet.toml", "--simulate", "--json")
    shown = {tenant: halo(*asked, *(("--tenant", tenant) if tenant else ())) for tenant in ("", "bob", "ann")}
    engines = {tenant: json.loads(one.stdout)["engines"] for tenant, one in shown.items()}
    seconds = {tenant: json.loads(one.stderr)["seconds"]["p50"] for tenant, one in shown.items()}
    assert engines == {
        "": ["A10 with Llama-3-8B, not calibrated", "without anns, kept for other tenants than 'default'"],
        "bob": ["A10 with Llama-3-8B, not calibrated", "without anns, kept for other tenants than 'bob'"],
        "ann": ["A10 with Llama-3-8B, not calibrated", "H100 with Llama-3-8B, calibrated"],
    }
    assert seconds["ann"] < seconds[""] == seconds["bob"]
    assert "without anns, kept for other tenants" in halo(*asked[:-1]).stderr


def test_explain_tells_at_once_that_nobody_serves_a_tenant_and_what_can_be_done(halo: Halo, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(KEPT)
    asked = ("explain", TRIAGE, "-i", "question=a", "--fleet", "fleet.toml", "--tenant", "bob")
    fix = "the model 'test-model' is served by anns, kept for tenants in the fleet file: name 'bob' among them"
    shown = halo(*asked, "--json")
    assert (shown.exit_code, told(shown).strip()) == (0, f"warning: {fix}")
    assert (json.loads(shown.stdout)["notes"], json.loads(shown.stdout)["engines"]) == ([fix], [])
    played = halo(*asked, "--simulate")
    assert played.exit_code == 2
    assert f"there is no run to foresee: {fix}" in told(played)


def test_explain_goes_by_what_the_tenants_own_jobs_took(halo: Halo, tmp_path: Path) -> None:
    path = rows(tmp_path, *({"question": str(number)} for number in range(8)))
    assert halo("batch", "run", TRIAGE, "--rows", path, "--out", "out", "--fleet", "fleet.toml").exit_code == 0
    asked = ("explain", TRIAGE, "--rows", path, "--database", "sqlite:///out/job.db")
    assert "stages seen before take what they took" in halo(*asked).stdout
    assert "stages seen before" not in halo(*asked, "--tenant", "ann").stdout


def test_explain_takes_rows_or_inputs(halo: Halo, tmp_path: Path) -> None:
    result = halo("explain", TRIAGE, "--rows", rows(tmp_path, {"question": "a"}), "-i", "question=a")
    assert result.exit_code == 2
    assert "give either --rows or --input" in told(result)


# -- batch


def test_a_batch_says_how_it_went_and_where_its_files_are(halo: Halo, tmp_path: Path) -> None:
    path = rows(tmp_path, {"question": "a", "extra": 1}, {"question": "a"}, {"question": "b raise"})
    result = halo("batch", "run", TRIAGE, "--rows", path, "--out", "out", "--fleet", "fleet.toml")
    assert result.exit_code == 1
    assert result.stdout.startswith("3 rows: 2 succeeded, 1 failed\n  1 tool_raised\ncalls: ")
    assert "results: out/results.jsonl\nerrors: out/errors.jsonl\n" in result.stdout
    assert "warning: column 'extra' is no input and was ignored" in told(result)


def test_a_batch_without_failures_ends_with_0_and_prints_json_for_programs(halo: Halo, tmp_path: Path) -> None:
    path = rows(tmp_path, {"question": "a"})
    result = halo("batch", "run", TRIAGE, "--rows", path, "--out", "out", "--fleet", "fleet.toml", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["succeeded"] == 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--rows", "gone.jsonl", "--out", "out"], "the rows file gone.jsonl does not exist"),
        (["--rows", "fleet.toml", "--out", "out"], "is of no kind that holds rows"),
        (["--rows", "empty.jsonl", "--out", "out"], "the rows file empty.jsonl has no rows"),
        (["--rows", "wrong.jsonl", "--out", "out"], "'question'; did you mean 'qestion'?"),
        (["--rows", "right.jsonl", "--out", "."], "has files in it: name a new or an empty folder"),
        (["--rows", "right.jsonl", "--out", "out", "--limit", "0"], "Invalid value for '--limit'"),
        (["--out", "out"], "Missing option '--rows'"),
    ],
)
def test_a_batch_that_cannot_begin_is_told_in_one_block(
    halo: Halo, tmp_path: Path, arguments: list[str], what: str
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "wrong.jsonl").write_text('{"qestion": "a"}\n')
    (tmp_path / "right.jsonl").write_text('{"question": "a"}\n')
    result = halo("batch", "run", TRIAGE, *arguments, "--fleet", "fleet.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert what in told(result)
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


# -- engines, doctor, db, version


def test_engines_are_listed_as_they_are_named(halo: Halo) -> None:
    assert "scripted" in halo("engines", "list", "--fleet", "fleet.toml").stdout
    (found,) = json.loads(halo("engines", "list", "--fleet", "fleet.toml", "--json").stdout)
    assert (found["gpu"], found["price_per_hour"]) == ("A10", 0.75)


def test_a_table_in_a_pipe_is_as_wide_as_it_must_be(halo: Halo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    listed = halo("engines", "list", "--engine", "http://an-engine-of-a-long-name.example:8000")
    assert "http://an-engine-of-a-long-name.example:8000" in listed.stdout
    assert len(listed.stdout.splitlines()) == 2


def test_a_probe_of_an_engine_that_is_down_ends_with_1(halo: Halo) -> None:
    up, down = (
        halo("engines", "probe", "--fleet", "fleet.toml", "--json"),
        halo("engines", "probe", "--engine", "http://127.0.0.1:9", "--json"),
    )
    assert (up.exit_code, json.loads(up.stdout)[0]["ready"]) == (0, True)
    assert (down.exit_code, json.loads(down.stdout)[0]["ready"]) == (1, False)
    assert "cannot connect" in json.loads(down.stdout)[0]["detail"]


def test_only_a_cpu_engine_is_started_from_here(halo: Halo) -> None:
    result = halo("engines", "start")
    assert result.exit_code == 2
    assert "for a GPU run `vllm serve`" in told(result).replace("│ ", "")


def test_an_engine_that_is_not_built_is_told_with_the_fix(halo: Halo) -> None:
    result = halo("engines", "start", "--cpu")
    assert result.exit_code == 1
    assert "run `make engine` first" in told(result)


def test_a_database_is_brought_up_to_date(halo: Halo, tmp_path: Path) -> None:
    result = halo("db", "upgrade", f"sqlite:///{tmp_path / 'halo.db'}")
    assert (result.exit_code, result.stdout) == (0, f"the database is up to date (schema {SCHEMA_REVISION})\n")
    assert (tmp_path / "halo.db").exists()


@pytest.mark.parametrize("url", ["nonsense", "mysql://somewhere/db", "sqlite:///no/such/folder/halo.db"])
def test_an_address_that_is_no_database_is_refused(halo: Halo, url: str) -> None:
    result = halo("db", "upgrade", url)
    assert result.exit_code == 2
    assert told(result).startswith("error: ")
    assert "Traceback" not in result.output


async def _done_long_ago(file: Path) -> None:
    store = await open_store(f"sqlite:///{file}")
    for name in ("old", "new", "queued"):
        await store.create_job(NewJob(JobId(name), "greet", "{}", [{"name": "ada"}]))
        if name != "queued":
            claim = await store.claim("test", 60, JobId(name))
            assert claim is not None
            await store.write(claim, [ProgramEnded(0, Status.SUCCEEDED, "1"), JobEnded(Status.SUCCEEDED)])
    await store.close()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE jobs SET ended_at = ended_at - 40 * 86400, created_at = 0 WHERE id = 'old'")
        database.execute("UPDATE jobs SET created_at = 0 WHERE id = 'queued'")


def test_runs_that_ended_long_ago_are_forgotten_and_no_others(halo: Halo, tmp_path: Path) -> None:
    asyncio.run(_done_long_ago(tmp_path / "halo.db"))
    sweep = ("db", "sweep", f"sqlite:///{tmp_path / 'halo.db'}", "--older-than")
    assert halo(*sweep, "30d", "--dry-run").stdout == "1 runs that ended more than 30d ago would be forgotten\n"
    assert json.loads(halo(*sweep, "30d", "--json").stdout) == {"forgotten": 1, "old": 1}
    assert halo(*sweep, "1h").stdout == "0 runs that ended more than 1h ago are forgotten\n"
    with closing(sqlite3.connect(tmp_path / "halo.db")) as database:
        assert database.execute("SELECT id FROM jobs ORDER BY number").fetchall() == [("new",), ("queued",)]
        assert database.execute("SELECT count(*) FROM programs").fetchone() == (2,)


@pytest.mark.parametrize(
    ("age", "says"),
    [("a while", "write 30d or 12h"), ("5m", "5m is too soon: write 1h or more"), ("30d", "no database")],
)
def test_a_sweep_that_cannot_be_is_refused_with_the_fix(halo: Halo, tmp_path: Path, age: str, says: str) -> None:
    result = halo("db", "sweep", f"sqlite:///{tmp_path / 'gone.db'}", "--older-than", age)
    assert result.exit_code == 2
    assert says in told(result)
    assert not (tmp_path / "gone.db").exists()


def test_version_is_for_people_and_for_programs(halo: Halo) -> None:
    assert halo("version").stdout.startswith("halo ")
    assert set(json.loads(halo("version", "--json").stdout)) == {"halo", "python"}


# -- the command itself


def _commands(group: Any, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


@pytest.mark.parametrize("command", [*_commands(get_command(make_app()))])
def test_every_command_helps_with_an_example_and_has_json(halo: Halo, command: str) -> None:
    result = halo(*command.split(), "--help")
    shown = re.sub(r"\s+", " ", result.stdout)
    assert result.exit_code == 0
    assert f"halo {command}" in shown.partition("Example")[2]
    assert "--json" in shown or command in ("serve", "engines start"), "these run until they are stopped"


def test_an_unknown_command_is_told_with_a_close_one(halo: Halo) -> None:
    result = halo("explian")
    assert result.exit_code == 2
    assert "No such command 'explian'" in told(result)


@pytest.mark.parametrize(("debug", "traceback"), [([], False), (["--debug"], True)])
def test_a_bug_is_called_one_and_shows_where_only_when_asked(
    halo: Halo, tmp_path: Path, debug: list[str], traceback: bool
) -> None:
    app = make_app()

    @app.command("boom")
    def boom() -> None:
        raise ZeroDivisionError("no way")

    result = CliRunner().invoke(app, [*debug, "boom"])
    assert result.exit_code == 1
    assert "error: this is a bug in Halo: ZeroDivisionError: no way" in told(result)
    assert ("Traceback" in result.stderr) is traceback
    assert ("HALO_DEBUG=1" in result.stderr) is not traceback


def test_ctrl_c_in_any_command_ends_with_130() -> None:
    app = make_app()

    @app.command("wait")
    def wait() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(app, ["wait"])
    assert (result.exit_code, result.stderr.strip()) == (130, "stopped")


# -- commands of other packages

guest = typer.Typer()


@guest.command()
def greet(name: str) -> None:
    typer.echo(f"hello {name}")


several = typer.Typer()
several.command("one")(greet)
several.command("two")(greet)
not_an_app = "text"


def installed(*points: tuple[str, str]) -> typer.Typer:
    app = make_app()
    add_installed(app, [EntryPoint(name, value, "halo.commands") for name, value in points])
    return app


def test_other_packages_add_commands_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    app = installed(("greet", "test_cli_commands:guest"), ("many", "test_cli_commands:several"))
    assert CliRunner().invoke(app, ["greet", "you"]).stdout == "hello you\n"
    assert CliRunner().invoke(app, ["many", "two", "you"]).stdout == "hello you\n"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("broken", "no_such_module:app", "ModuleNotFoundError"),
        ("broken", "json:no_such_app", "AttributeError"),
        ("text", "json:__doc__", "it is no Typer app"),
        ("batch", "json:dumps", "Halo has one of that name"),
    ],
)
def test_a_package_that_fails_to_load_costs_only_its_own_command(
    name: str, value: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = installed((name, value))
    warning = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert f"warning: the command {name!r} of {value} is left out: " in warning
    assert why in warning
    assert CliRunner().invoke(app, ["version"]).exit_code == 0
