"""`halo demo`: a Text-to-SQL job on a modelled fleet, or on a real engine."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halo.cli.console import print_json, say
from halo.cli.options import AsJson, EngineUrls

if TYPE_CHECKING:
    from halo.batch.run import Running
    from planner.ir.values import Json
    from workloads.demo.figures import Figures
    from workloads.demo.run import DemoRun
    from workloads.demo.setting import Setting

app = typer.Typer()

_Out = Annotated[Path, typer.Option(metavar="DIR", help="Where everything is left; a former demo there is replaced.")]
_Quick = Annotated[bool, typer.Option("--quick", help="Only a few of the questions.")]
_Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The model of --engine; else the first one it serves.", show_default=False),
]


@app.command(epilog="Example:\n\n  halo demo --quick --json")
def demo(
    out: _Out = Path("halo-demo"),
    quick: _Quick = False,
    engine: EngineUrls = None,
    model: _Model = None,
    as_json: AsJson = False,
) -> None:
    """Run a Text-to-SQL job of a few hundred questions, and see what Halo makes of it.

    Without a GPU: three modelled engines answer from a recording, in the time that an A100, an L40S and an A10 would
    take. All else is real: planning, scheduling, the SQL, the results on disk. With --engine, the same job runs on an
    OpenAI-compatible server of yours.
    """
    from halo.event_loop import run_async
    from workloads.demo import screen
    from workloads.demo.figures import explain_setting, figures_of
    from workloads.demo.report import write_report
    from workloads.text2sql.databases import FOLDER_VARIABLE

    if model and not engine:
        raise typer.BadParameter("it says what --engine serves; give that too", param_hint="--model")
    setting = run_async(_prepare(out, engine or [], model, quick))
    os.environ[FOLDER_VARIABLE] = str(setting.databases.resolve())  # the tools and their processes look there
    explanation = explain_setting(setting)
    if not as_json:
        screen.introduce(setting)
        screen.show_plan(explanation)
    run = run_async(_run(setting))
    figures = figures_of(run)
    write_report(setting.report, run, explanation, figures)
    if as_json:
        print_json(_as_json(setting, figures))
    else:
        screen.show_figures(figures)
        screen.show_where(setting)
    raise typer.Exit(run.summary.exit_code)


async def _prepare(out: Path, urls: list[str], model: str | None, quick: bool) -> "Setting":
    from workloads.demo.setting import prepare_modelled, prepare_real

    if urls:
        return await prepare_real(out, urls, model, quick=quick)
    return prepare_modelled(out, quick=quick)


async def _run(setting: "Setting") -> "DemoRun":
    from halo.cli.interrupt import stop_on_interrupt
    from halo.cli.progress import show_progress
    from workloads.demo.run import run_demo

    async def watch(running: "Running") -> None:
        await show_progress(running)

    with stop_on_interrupt(lambda: say("stopping")) as stop:
        return await run_demo(setting, watch, stop)


def _as_json(setting: "Setting", figures: "Figures") -> "Json":
    usage, accuracy = figures.usage, figures.accuracy
    return {
        "rows": figures.rows,
        "repeats": figures.repeats,
        "failed": figures.failed,
        "calls": {"made": usage["calls"], "saved": usage["saved_calls"], "as_written": figures.calls_as_written},
        "tools": {"made": usage["tools"], "saved": usage["saved_tools"]},
        "prompt_tokens": {
            "sent": usage["prompt_tokens"],
            "saved": usage["saved_prompt_tokens"],
            "as_written": figures.prompt_tokens_as_written,
            "cached": usage["cached_tokens"],
        },
        "accuracy": {"share": accuracy.share, "matched": accuracy.matched, "verdicts": dict(accuracy.verdicts)},
        "makespan_s": round(figures.makespan_s, 3),
        "modelled_seconds_per_second": figures.scale,
        "seconds": round(figures.seconds, 3),
        "functions": {name: asdict(work) for name, work in figures.functions.items()},
        "engines": [asdict(engine) for engine in figures.engines],
        "samples": [asdict(sample) for sample in figures.samples],
        "report": str(setting.report),
    }
