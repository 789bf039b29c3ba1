"""`halo fleet`: the questions, where their workloads and engines come from, and what is said of wrong ones."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from halo.cli.main import make_app

TRIAGE = str(Path(__file__).parent / "workflows" / "triage.py")
FLEET = '[[engine]]\nid = "scripted"\nkind = "scripted"\nmodel = "test-model"\ngpu = "A10"\nprice_per_hour = 0.75\n'
WORKLOAD = """
programs_per_s = 2

[[call]]
name = "draft"
model = "Llama-3.1-8B"
prompt_tokens = 3000
cached_tokens = 2000
output_tokens = 200
per_program = 2
in_turn = 1
"""
Halo = Callable[..., Result]


@pytest.fixture
def halo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Halo:
    """`halo("fleet", ...)` in an empty folder with a workload, rows and a fleet file."""
    for name in ("HALO_FLEET", "HALO_ENGINE_URL", "HALO_DEBUG", "HALO_DATABASE_URL", "HALO_PRICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "traffic.toml").write_text(WORKLOAD)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"question": f"q{n}"}) + "\n" for n in range(20)))
    runner = CliRunner()
    return lambda *arguments: runner.invoke(make_app(), [str(part) for part in arguments])


def found(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def told(result: Result) -> str:
    return re.sub(r"\s+", " ", result.stderr.replace("│", ""))


def test_plan_tells_the_cheapest_engines_and_what_they_do(halo: Halo) -> None:
    plan = found(halo("fleet", "plan", "--workload", "traffic.toml", "--token-ms", "50", "--json"))
    assert plan["usd_per_hour"] == sum(one["count"] * one["usd_per_hour"] for one in plan["engines"])
    assert sum(one["calls_per_s"]["draft"] for one in plan["engines"]) == pytest.approx(4)
    assert plan["at_load"]["within_bounds"]
    assert plan["at_load"]["latencies"]["draft"]["high"]["token_s"] <= 0.05
    assert plan["knee_programs_per_s"] >= 2
    assert plan["at_load"]["joules_per_program"] == pytest.approx(plan["at_load"]["watts"] / 2)


def test_plan_keeps_to_the_kinds_prices_and_limits_that_are_given(halo: Halo) -> None:
    asked = (
        "fleet",
        "plan",
        "--workload",
        "traffic.toml",
        "--programs-per-s",
        "20",
        "--gpus-per-engine",
        "1",
        "--json",
    )
    plan = found(halo(*asked, "--gpu", "H100=1.50", "--gpu", "A10", "--at-most", "H100=1"))
    engines = {one["gpu"]: one for one in plan["engines"]}
    assert (engines["H100"]["count"], engines["H100"]["usd_per_hour"]) == (1, 1.5)
    assert engines["A10"]["count"] > 1


def test_a_table_says_engines_latency_money_and_assumptions(halo: Halo) -> None:
    result = halo("fleet", "plan", "--workload", "traffic.toml", "--first-token-s", "1")
    assert result.stdout.startswith("engines  kind")
    assert "USD an hour for 2 programs a second" in result.stdout
    assert "as traffic.toml says" in told(result)
    assert "nothing bounds what calls take" in told(halo("fleet", "plan", "--workload", "traffic.toml"))


def test_knee_tells_the_curve_and_what_one_more_brings(halo: Halo) -> None:
    asked = ("fleet", "knee", "--workload", "traffic.toml", "--have", "H100=2", "--have", "2xA100-80=1")
    knee = found(halo(*asked, "--gpu", "A10", "--call-s", "30", "--json"))
    assert {(one["kind"], one["count"]) for one in knee["engines"]} == {("H100", 2), ("2 x A100-80", 1)}
    assert knee["load"] == pytest.approx(2 / knee["knee_programs_per_s"])
    assert [point["within_bounds"] for point in knee["curve"]][:1] == [True]
    assert {one["kind"] for one in knee["one_more"]} == {"A10", "2 x A10", "4 x A10", "8 x A10"}


def test_signals_are_tokens_a_second(halo: Halo) -> None:
    asked = ("fleet", "signals", "--workload", "traffic.toml", "--have", "H100=2", "--token-ms", "40", "--json")
    (signal,) = found(halo(*asked))["models"]
    assert (signal["prefill_demanded"], signal["decode_demanded"]) == (2 * 2 * 1000, 2 * 2 * 200)
    assert signal["decode_possible"] > signal["decode_demanded"]


def test_a_workflow_is_forecast_and_a_job_tells_what_it_took(halo: Halo) -> None:
    rows = ("--rows", "rows.jsonl")
    forecast = found(halo("fleet", "plan", TRIAGE, *rows, "--programs-per-s", "5", "--fleet", "fleet.toml", "--json"))
    assert halo("batch", "run", TRIAGE, *rows, "--out", "out", "--fleet", "fleet.toml").exit_code == 0
    job = json.loads((Path("out") / "summary.json").read_text())["job"]
    asked = ("fleet", "plan", "--job", job, "--database", "sqlite:///out/job.db", "--programs-per-s", "5")
    recorded = found(halo(*asked, "--fleet", "fleet.toml", "--json"))
    assert {one["name"] for one in forecast["calls"]} == {one["name"] for one in recorded["calls"]}
    assert [one["kind"] for one in recorded["engines"]] == ["A10"]
    assert recorded["origin"] == f"as job {job} recorded it over 20 programs"


APART = WORKLOAD.replace("per_program", 'tenant = "ann"\nper_program')
SQL = '\n[[call]]\nname = "sql"\nmodel = "sql"\nadapter_of = "Llama-3.1-8B"\nprompt_tokens = 500\noutput_tokens = 50\n'


def test_tenants_that_are_kept_apart_get_engines_of_their_own(halo: Halo) -> None:
    Path("apart.toml").write_text('apart = ["ann"]\n' + APART + SQL)
    asked = ("fleet", "plan", "--workload", "apart.toml", "--token-ms", "50")
    plan = found(halo(*asked, "--json"))
    of_tenants = {tuple(one["tenants"]): set(one["calls_per_s"]) for one in plan["engines"]}
    assert of_tenants == {(): {"sql"}, ("ann",): {"draft"}}
    assert [one["adapters"] for one in plan["engines"] if not one["tenants"]] == [["sql"]]
    shown = halo(*asked)
    assert ", kept for ann  Llama-3.1-8B" in shown.stdout
    assert "ann has engines of its own: its calls go nowhere else, and nobody else's go there" in told(shown)
    assert "calls to a LoRA adapter take what calls to its model do" in told(shown)


@pytest.mark.parametrize("whose", ["", 'tenant = "default"\n'])
def test_calls_that_are_alike_count_each(halo: Halo, whose: str) -> None:
    Path("twice.toml").write_text(WORKLOAD + WORKLOAD[WORKLOAD.index("[[call]]") :] + whose)
    ((once,), (twice,)) = (
        found(halo("fleet", "signals", "--workload", file, "--have", "H100=1", "--json"))["models"]
        for file in ("traffic.toml", "twice.toml")
    )
    assert twice["decode_demanded"] == pytest.approx(2 * once["decode_demanded"])
    plan = found(halo("fleet", "plan", "--workload", "twice.toml", "--token-ms", "50", "--json"))
    assert {name for one in plan["engines"] for name in one["calls_per_s"]} == {"draft", "draft (2)"}


def test_engines_that_are_kept_for_others_do_nothing_for_a_tenant(halo: Halo) -> None:
    engine = '[[engine]]\nid = "{}"\nkind = "scripted"\nmodel = "Llama-3.1-8B"\nadapters = ["sql"]\ngpu = "H100"\n'
    kept = engine.format("anns") + 'tenants = ["ann"]\n'
    Path("traffic.toml").write_text(WORKLOAD + SQL.replace('adapter_of = "Llama-3.1-8B"\n', ""))
    Path("fleet.toml").write_text(engine.format("everybodys") + kept)
    asked = ("fleet", "signals", "--workload", "traffic.toml", "--fleet", "fleet.toml", "--token-ms", "50", "--json")
    (anns,), (bobs,) = (found(halo(*asked, "--tenant", name))["models"] for name in ("ann", "bob"))
    assert (anns["engines"], bobs["engines"], bobs["tenants"]) == (2, 1, [])
    assert anns["decode_possible"] == pytest.approx(2 * bobs["decode_possible"], rel=0.05)
    Path("fleet.toml").write_text(kept)
    for question in ("knee", "signals", "plan"):
        refused = halo("fleet", question, "--workload", "traffic.toml", "--fleet", "fleet.toml", "--tenant", "bob")
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "kept for other tenants than 'bob'; name 'bob' in `tenants` of an engine" in told(refused)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["plan"], "name one: --workload FILE, --job ID, or a workflow with --rows"),
        (["plan", TRIAGE], "a workflow needs --rows and --programs-per-s"),
        (["plan", "--workload", "gone.toml"], "gone.toml: cannot be read"),
        (["plan", "--workload", "fleet.toml"], "programs_per_s: is missing; write for example programs_per_s = 2.0"),
        (
            ["plan", "--workload", "traffic.toml", "--token-ms", "0.1"],
            "draft: no kind of engine allowed keeps the bounds",
        ),
        (["plan", "--workload", "traffic.toml", "--gpu", "H10"], "H10: no GPU kind is called so"),
        (["plan", "--workload", "traffic.toml", "--gpu", "H100=x"], "'x' is no price"),
        (["plan", "--workload", "traffic.toml", "--at-most", "H100"], "this is not KIND=COUNT"),
        (["knee", "--workload", "traffic.toml", "--have", "3xH100=1"], "this is not KIND=COUNT"),
        (["knee", "--workload", "traffic.toml", "--have", "gpt:H100=1"], "the workload asks no model 'gpt'"),
        (["knee", "--workload", "traffic.toml", "--fleet", "fleet.toml"], "no engine of the fleet serves it"),
        (["knee", "--workload", "traffic.toml"], "no engine is named"),
        (["signals", "--job", "gone", "--database", "sqlite:///gone.db"], "There is no database gone.db"),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_block(halo: Halo, arguments: list[str], what: str) -> None:
    result = halo("fleet", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert what in told(result)
    assert "Traceback" not in result.output


def test_everything_wrong_with_a_workload_is_told_at_once(halo: Halo) -> None:
    Path("bad.json").write_text('{"programs_per_s": -1, "call": [{"model": "m", "prompt_tokens": 1, "tokens": 2}]}')
    problems = told(halo("fleet", "plan", "--workload", "bad.json"))
    assert all(part in problems for part in ("programs_per_s", "call.0.output_tokens", "call.0.tokens"))
