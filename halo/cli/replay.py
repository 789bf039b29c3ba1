"""`halo replay`: recorded traffic run again in virtual time, as it was or under other settings."""

import os
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halo.cli.console import print_json, print_table, say
from halo.cli.options import RULE, AsJson, EngineUrls, Fleet, Models
from planner.ir.values import Json

if TYPE_CHECKING:
    from executor.core.knobs import Tuned
    from executor.drivers.shadow import Tuning
    from executor.engines.port import EngineSpec
    from executor.policy.tuning import Knob, Setting
    from halo.replay import Replayed

_EXAMPLES = """Examples:

  halo replay record journal.txt --last 3600 --out window.txt

  halo replay run window.txt --fleet fleet.toml --set active_programs=64

  halo replay tune window.txt --fleet fleet.toml

  halo replay door journal.door.txt --program fix-issue-7

Where a journal comes from: `halo batch run --journal FILE`, or `HALO_JOURNAL=FILE halo serve`, which writes what came
through its OpenAI door beside it.
"""
_Journal = Annotated[
    Path,
    typer.Argument(metavar="JOURNAL", help="The events of a run or a service.", exists=True, dir_okay=False),
]
_Last = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="Only what came in so lately.", show_default=False)
]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KNOB=VALUE", help="Turn a knob; may be given several times.", show_default=False),
]
_Rule = Annotated[str, RULE]
_Seed = Annotated[int, typer.Option(help="Draws the samples.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Run recorded traffic again, and tune by it.", epilog=_EXAMPLES)
    group.command("record", epilog=_example("record journal.txt --last 3600 --out window.txt"))(record)
    group.command("run", epilog=_example("run window.txt --fleet fleet.toml --set active_programs=64"))(run)
    group.command("tune", epilog=_example("tune window.txt --fleet fleet.toml"))(tune)
    group.command("door", epilog=_example("door journal.door.txt --program fix-issue-7"))(door)
    app.add_typer(group, name="replay")


def _example(command: str) -> str:
    return f"Example:\n\n  halo replay {command}"


def record(
    journal: _Journal,
    last: _Last = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the window there.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what traffic a journal holds, and cut the newest part of it out."""
    from halo.replay import cut, read_window

    if out is not None:
        cut(journal, last, out)
    window = read_window(journal, last)
    told: dict[str, Json] = {
        "jobs": len(window.jobs),
        "programs": window.programs,
        "calls": window.calls,
        "seconds": round(window.seconds, 3),
    }
    if as_json:
        print_json({**told, "out": None if out is None else str(out)})
        return
    typer.echo(f"{window.programs:,} programs of {len(window.jobs):,} jobs ended, with {window.calls:,} calls,")
    typer.echo(f"within {window.seconds:,.1f} s" + (f"; written to {out}" if out else ""))


def run(
    journal: _Journal,
    last: _Last = None,
    engine: EngineUrls = None,
    model: Models = None,
    fleet: Fleet = None,
    settings: _Set = None,
    rule: _Rule = "halo",
    as_json: AsJson = False,
) -> None:
    """Run a window of traffic again in virtual time on the engines named, and show it beside what it was.

    Lengths, choices and tools are as they were; where and when calls run is decided anew.
    """
    from halo.replay import read_window, run_window

    rule = rule.replace("-", " ")
    tuned, started = _tuned(settings, rule)
    found = run_window(read_window(journal, last), _specs(engine, model, fleet), tuned)
    if as_json:
        print_json({"rule": rule, "setting": dict(started), **found.as_json()})
        return
    print_table(("", "as it was", "in virtual time"), _compared(found))
    if found.left_out:
        say(f"{found.left_out:,} programs are left out: not all of what they did is in the window")


def tune(
    journal: _Journal,
    last: _Last = None,
    engine: EngineUrls = None,
    model: Models = None,
    fleet: Fleet = None,
    settings: _Set = None,
    seed: _Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Look for better settings on a window of traffic, and hold the best against its newest third.

    A setting is proposed only if it is better by more than the noise. The exit code is 0 either way.
    """
    from executor.drivers import shadow
    from halo.replay import read_window

    tuned, _ = _tuned(settings, "halo")
    found = shadow.tune(read_window(journal, last), _specs(engine, model, fleet), tuned, seed=seed)
    if as_json:
        print_json(_as_json(found))
        return
    print_table(("knob", "now", "cost of its best step", "chosen"), _tried(found))
    typer.echo(("take it: " if found.better else "leave it: ") + found.why)


def door(
    journal: _Journal,
    program: Annotated[
        str | None, typer.Option(metavar="NAME", help="Why each call of that program went where it did.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide again what an OpenAI door decided, and show how long calls waited and why they went where they did."""
    from halo.door_decisions import decisions_of

    found = decisions_of(journal, program)
    if as_json:
        print_json(found.as_json())
        return
    for line in found.lines():
        typer.echo(line)
    if program is not None:
        print_table(("after", "waited", "engine", "why"), found.rows())


def _tuned(settings: list[str] | None, rule: str) -> "tuple[Tuned, Setting]":
    from executor.core.knobs import Tuned, knobs_of, setting_of, with_setting
    from executor.core.limits import Limits
    from executor.policy.rules import RULES

    if rule not in RULES:
        raise typer.BadParameter(f"there are: {', '.join(RULES)}", param_hint="--rule")
    tuned = Tuned(Limits(), RULES[rule])
    turned = dict(_turned(settings or (), {knob.name: knob for knob in knobs_of(tuned)}))
    tuned = with_setting(tuned, turned)
    return tuned, setting_of(tuned)


def _turned(settings: Sequence[str], known: "Mapping[str, Knob]") -> Iterator[tuple[str, float]]:
    for one in settings:
        name, _, text = one.partition("=")
        if name not in known:
            raise typer.BadParameter(f"{name!r} is no knob; there are: {', '.join(known)}", param_hint="--set")
        try:
            value = float(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is no number: write {name}=VALUE", param_hint="--set") from None
        if not (0 < value < inf or value in known[name].ladder):
            raise typer.BadParameter(f"{name} cannot be {text}: write a number above 0", param_hint="--set")
        yield name, value


def _specs(urls: list[str] | None, models: list[str] | None, fleet: Path | None) -> "Sequence[EngineSpec]":
    from executor.engines.model.profiles import in_real_time
    from halo.batch.engines import named_engines

    return [in_real_time(spec) for spec in named_engines(urls or (), models or (), fleet, os.environ)]


def _compared(found: "Replayed") -> Iterator[Sequence[str]]:
    was, now = found.recorded, found.simulated
    yield "programs", f"{was.programs:,}", f"{now.programs:,}"
    yield "mean", f"{was.mean_s:,.2f} s", f"{now.mean_s:,.2f} s"
    yield "95 % within", f"{was.p95_s:,.2f} s", f"{now.p95_s:,.2f} s"
    yield "missed their deadline", f"{was.missed:,}", f"{now.missed:,}"


def _tried(found: "Tuning") -> Iterator[Sequence[str]]:
    chosen = dict(found.chosen)
    for name, value in found.current:
        steps = [
            f"{dict(trial.setting)[name]:g}: {trial.found.ratio:.3f}"
            for trial in found.trials
            if _only_step(found.current, trial.setting) == name
        ]
        taken = f"{chosen[name]:g}" if chosen[name] != value else ""
        yield name, f"{value:g}", ", ".join(steps), taken


def _only_step(current: "Setting", setting: "Setting") -> str | None:
    """The knob that differs, where it is the only one."""
    steps = [name for name, value in setting if dict(current)[name] != value]
    return steps[0] if len(steps) == 1 else None


def _as_json(found: "Tuning") -> Json:
    last = found.last
    interval: Json = None if last is None else {"ratio": last.ratio, "low": last.low, "high": last.high}
    trials: list[Json] = [{"setting": dict(one.setting), "ratio": one.found.ratio} for one in found.trials]
    return {
        "better": found.better,
        "why": found.why,
        "setting": dict(found.current),
        "chosen": dict(found.chosen),
        "cost": interval,
        "trials": trials,
    }
