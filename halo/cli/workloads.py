"""Where the workload of a fleet question comes from: a file, a job that was run, or a forecast."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from halo.cli.console import prints_aside

if TYPE_CHECKING:
    from planner.fleet.workload import Workload


def workload_asked(
    workflow: str | None,
    rows: Path | None,
    file: Path | None,
    job: str | None,
    database: str | None,
    programs_per_s: float | None,
    tenant: str | None,
) -> "Workload":
    """Calls of which nobody is named are the tenant's."""
    from executor.store.jobs import DEFAULT_TENANT

    if sum(one is not None for one in (workflow, file, job)) != 1:
        raise typer.BadParameter(
            "name one: --workload FILE, --job ID, or a workflow with --rows", param_hint="--workload"
        )
    if file is not None:
        asked = _in_file(file, programs_per_s)
    elif job is not None:
        asked = _of_job(job, database, programs_per_s)
    else:
        asked = _forecast(workflow or "", rows, database, programs_per_s, tenant)
    return asked.of_tenant(tenant or DEFAULT_TENANT)


def _in_file(file: Path, programs_per_s: float | None) -> "Workload":
    from halo.fleet.workload_file import read_workload

    read = read_workload(file)
    return read if programs_per_s is None else read.at(programs_per_s)


def _of_job(job: str, database: str | None, programs_per_s: float | None) -> "Workload":
    from halo.analysis import recorded_in_database
    from halo.event_loop import run_async
    from halo.fleet.workload import workload_of_job
    from halo.settings import read_settings

    recorded = run_async(recorded_in_database(database or read_settings().database_url, job))
    return workload_of_job(recorded, programs_per_s)


def _forecast(
    workflow: str, rows: Path | None, database: str | None, programs_per_s: float | None, tenant: str | None
) -> "Workload":
    from halo.batch.intake import take_in
    from halo.cli.explain import experience_in
    from halo.fleet.workload import workload_of_forecast
    from halo.sdk.find import find_workflow
    from planner.foretell import foretell
    from planner.job import JobPart

    if rows is None or programs_per_s is None:
        raise typer.BadParameter("a workflow needs --rows and --programs-per-s", param_hint="--rows")
    with prints_aside():
        found = find_workflow(workflow)
    table, _ = take_in(rows, found.plan.inputs, None)
    known = experience_in(found.plan, found.name, database, tenant)
    told = foretell([JobPart(found.plan, table)], experience=known)
    return workload_of_forecast(told.explanation, programs_per_s)
