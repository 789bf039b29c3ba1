"""`halo fleet`: questions of a fleet before it is bought or changed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halo.cli.console import print_json, print_table, say
from halo.cli.options import AsJson, Fleet, Tenant, complete_workflow
from halo.cli.workloads import workload_asked

if TYPE_CHECKING:
    from planner.fleet.kinds import EngineKind
    from planner.fleet.workload import Slo, Workload

_PLAN_EXAMPLES = """Examples:

  halo fleet plan --workload traffic.toml --token-ms 50

  halo fleet plan --job run_0198c --database sqlite:///halo.db --program-s 30 --gpu H100 --gpu A10=0.60

  halo fleet plan text2sql --rows questions.jsonl --programs-per-s 4 --first-token-s 1 --at-most H100=8
"""
_KNEE_EXAMPLES = """Examples:

  halo fleet knee --workload traffic.toml --token-ms 50 --have H100=2 --have A10=4

  halo fleet knee --job run_0198c --fleet fleet.toml --call-s 20
"""
_SIGNALS_EXAMPLES = """Examples:

  halo fleet signals --job run_0198c --fleet fleet.toml --token-ms 50

  halo fleet signals --workload traffic.toml --have 2xA100-80=3
"""


def complete_gpu(incomplete: str) -> Iterable[str]:
    from planner.cost.gpus import GPUS

    return [gpu.name for gpu in GPUS if gpu.name.lower().startswith(incomplete.lower())]


_Workflow = Annotated[
    str | None,
    typer.Argument(
        metavar="[WORKFLOW]",
        help="A workflow whose rows are forecast: module:name, path/to/file.py:name, or an installed one.",
        autocompletion=complete_workflow,
        show_default=False,
    ),
]
_Rows = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Rows of the workflow: .jsonl, .csv or .parquet.", show_default=False),
]
_File = Annotated[
    Path | None,
    typer.Option("--workload", metavar="FILE", help="The calls, written by hand: .toml or .json.", show_default=False),
]
_Job = Annotated[
    str | None, typer.Option(metavar="ID", help="The calls of a run or job of the service.", show_default=False)
]
_Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Where --job is kept; sqlite:///halo.db unless told otherwise.", show_default=False
    ),
]
_Rate = Annotated[
    float | None,
    typer.Option(
        "--programs-per-s",
        min=1e-9,
        metavar="RATE",
        help="Programs that begin in a second, instead of those of the file or the job.",
        show_default=False,
    ),
]
_TokenMs = Annotated[
    float | None, typer.Option(min=1e-3, help="Milliseconds for each token after the first.", show_default=False)
]
_FirstTokenS = Annotated[
    float | None, typer.Option(min=1e-6, help="Seconds to the first token of a call.", show_default=False)
]
_CallS = Annotated[float | None, typer.Option(min=1e-6, help="Seconds for a whole call.", show_default=False)]
_ProgramS = Annotated[
    float | None, typer.Option(min=1e-6, help="Seconds for all calls a program waits for.", show_default=False)
]
_Share = Annotated[float, typer.Option(min=0.01, max=0.9999, help="The share of calls that keep the bounds.")]
_Gpus = Annotated[
    list[str] | None,
    typer.Option(
        "--gpu",
        metavar="KIND[=USD]",
        help="A GPU kind that may be bought, with dollars for an hour; may be given several times. Without, all.",
        autocompletion=complete_gpu,
        show_default=False,
    ),
]
_AtMost = Annotated[
    list[str] | None,
    typer.Option("--at-most", metavar="KIND=COUNT", help="No more GPUs of that kind.", show_default=False),
]
_MostGpus = Annotated[int, typer.Option("--gpus-per-engine", min=1, max=8, help="No more GPUs for one engine.")]
_Have = Annotated[
    list[str] | None,
    typer.Option(
        "--have",
        metavar="[MODEL:][Nx]KIND=COUNT",
        help="Engines there are, of N GPUs each; may be given several times.",
        show_default=False,
    ),
]
_Target = Annotated[float, typer.Option(min=0.01, max=1.0, help="The part of the possible load that is aimed at.")]


def register(app: typer.Typer) -> None:
    fleet = typer.Typer(no_args_is_help=True, help="Ask what a fleet would do before buying or changing it.")
    fleet.command("plan", epilog=_PLAN_EXAMPLES)(plan)
    fleet.command("knee", epilog=_KNEE_EXAMPLES)(knee)
    fleet.command("signals", epilog=_SIGNALS_EXAMPLES)(signals)
    app.add_typer(fleet, name="fleet")


def plan(
    workflow: _Workflow = None,
    rows: _Rows = None,
    workload: _File = None,
    job: _Job = None,
    database: _Database = None,
    programs_per_s: _Rate = None,
    token_ms: _TokenMs = None,
    first_token_s: _FirstTokenS = None,
    call_s: _CallS = None,
    program_s: _ProgramS = None,
    share: _Share = 0.95,
    gpu: _Gpus = None,
    at_most: _AtMost = None,
    gpus_per_engine: _MostGpus = 8,
    fleet: Fleet = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Find the cheapest engines for a workload within bounds on latency.

    The workload is a file (--workload), a job that was run (--job), or a workflow with rows. Without --gpu all GPU
    kinds are considered at their shipped prices (HALO_PRICES names a file of your own); with --fleet the kinds of
    engines in that file, with their measured profiles and prices, instead. Nothing is asked of any engine.
    """
    from halo.fleet.engines import kinds_for, read_counts, taken_for
    from halo.fleet.told import ENGINE_COLUMNS, LATENCY_COLUMNS, MORE_COLUMNS, PlanTold, latency_rows, more_rows, notes
    from halo.prices import read_prices
    from planner.fleet.knee import find_knee, one_more, point_of
    from planner.fleet.mix import cheapest_mix
    from planner.fleet.sharing import require_served

    asked = workload_asked(workflow, rows, workload, job, database, programs_per_s, tenant)
    slo, prices = _slo(token_ms, first_token_s, call_s, program_s, share), read_prices(os.environ)
    if fleet is not None and gpu:
        raise typer.BadParameter("name GPU kinds with --gpu, or engines with --fleet", param_hint="--gpu")
    kinds = list(_there(asked, (), fleet)) if fleet else kinds_for(asked, gpu or (), prices, gpus_per_engine)
    if fleet:
        require_served(asked, kinds)
    limits = {one.gpu: one.count for one in read_counts(at_most or ())}
    mix = cheapest_mix(asked, slo, kinds, limits)
    found = PlanTold(
        asked,
        slo,
        mix,
        point_of(asked, slo, mix),
        find_knee(asked, slo, mix.engines, loads=()),
        one_more(asked, slo, mix.engines, kinds),
        [*taken_for(asked), *notes(asked, slo, list(mix.engines))],
    )
    if as_json:
        print_json(found.as_json())
        return
    print_table(ENGINE_COLUMNS, found.engine_rows())
    typer.echo("\n" + "\n".join(found.lines()) + f"\nwhat {share:.0%} of calls keep to:\n")
    print_table(LATENCY_COLUMNS, latency_rows(found.point))
    typer.echo("")
    print_table(MORE_COLUMNS, more_rows(found.more))
    _tell(found.notes)


def knee(
    workflow: _Workflow = None,
    rows: _Rows = None,
    workload: _File = None,
    job: _Job = None,
    database: _Database = None,
    programs_per_s: _Rate = None,
    token_ms: _TokenMs = None,
    first_token_s: _FirstTokenS = None,
    call_s: _CallS = None,
    program_s: _ProgramS = None,
    share: _Share = 0.95,
    have: _Have = None,
    fleet: Fleet = None,
    gpu: _Gpus = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Find the load at which calls leave their bounds, and what one more engine adds to that.

    The engines are those of --fleet or --have. One more is of a kind there is, or of those named with --gpu.
    """
    from halo.fleet.engines import kinds_for, taken_for
    from halo.fleet.told import CURVE_COLUMNS, MORE_COLUMNS, KneeTold, curve_rows, more_rows, notes
    from halo.prices import read_prices
    from planner.fleet.knee import find_knee, one_more

    asked = workload_asked(workflow, rows, workload, job, database, programs_per_s, tenant)
    slo, engines = _slo(token_ms, first_token_s, call_s, program_s, share), _there(asked, have or (), fleet)
    candidates = kinds_for(asked, gpu, read_prices(os.environ)) if gpu else list(engines)
    found = KneeTold(
        asked,
        slo,
        engines,
        find_knee(asked, slo, engines),
        one_more(asked, slo, engines, candidates),
        [*taken_for(asked), *notes(asked, slo, list(engines))],
    )
    if as_json:
        print_json(found.as_json())
        return
    typer.echo("\n".join(found.lines()) + f"\nwhat {share:.0%} of calls keep to, by load; a program on average:\n")
    print_table(CURVE_COLUMNS, curve_rows(found.knee))
    typer.echo("")
    print_table(MORE_COLUMNS, more_rows(found.more))
    _tell(found.notes)


def signals(
    workflow: _Workflow = None,
    rows: _Rows = None,
    workload: _File = None,
    job: _Job = None,
    database: _Database = None,
    programs_per_s: _Rate = None,
    token_ms: _TokenMs = None,
    first_token_s: _FirstTokenS = None,
    call_s: _CallS = None,
    program_s: _ProgramS = None,
    share: _Share = 0.95,
    have: _Have = None,
    fleet: Fleet = None,
    target: _Target = 0.8,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Tell an autoscaler what is asked for and what is possible, in tokens a second, and how many engines to have.

    For each model: prompt tokens to be read and tokens to be written. A service tells the same of what its engines
    were asked lately at GET /v1/fleet/signals.
    """
    from halo.fleet.told import SIGNAL_COLUMNS, notes, signal_json, signal_rows
    from planner.fleet.signals import signals as find_signals

    asked = workload_asked(workflow, rows, workload, job, database, programs_per_s, tenant)
    slo, engines = _slo(token_ms, first_token_s, call_s, program_s, share), _there(asked, have or (), fleet)
    found = find_signals(asked, slo, engines, target)
    if as_json:
        print_json({"target_load": target, "models": [signal_json(one) for one in found]})
        return
    print_table(SIGNAL_COLUMNS, signal_rows(found))
    _tell(notes(asked, slo, list(engines)))


def _tell(notes: Sequence[str]) -> None:
    for note in notes:
        say(note)


def _slo(
    token_ms: float | None, first_token_s: float | None, call_s: float | None, program_s: float | None, share: float
) -> "Slo":
    from planner.fleet.workload import Slo

    return Slo(token_ms / 1000 if token_ms is not None else None, first_token_s, call_s, program_s, share)


def _there(workload: "Workload", have: Sequence[str], fleet: Path | None) -> "Mapping[EngineKind, int]":
    """The engines there are."""
    from halo.batch.engines import named_engines
    from halo.fleet.engines import engines_had, engines_of_fleet
    from halo.prices import read_prices

    prices = read_prices(os.environ)
    if have and fleet is not None:
        raise typer.BadParameter("name engines with --have, or with --fleet", param_hint="--have")
    if have:
        return engines_had(workload, have, prices)
    return engines_of_fleet(workload, named_engines((), (), fleet, os.environ), prices)
