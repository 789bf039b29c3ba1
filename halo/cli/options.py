"""Arguments and options that several commands share, and how a shell completes them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from executor.engines.port import EngineSpec
    from executor.slo import SloClass
    from halo.sdk.workflow import Workflow


def complete_workflow(incomplete: str) -> Iterator[str]:
    """Installed workflows, and the Python files and folders that begin so."""
    from halo.sdk.find import known_workflows

    yield from (name for name in known_workflows() if name.startswith(incomplete))
    folder, _, beginning = incomplete.rpartition("/")
    if "/" in incomplete or incomplete:
        for entry in sorted(Path(folder or ".").glob(f"{beginning}*")):
            if entry.is_dir() and not entry.name.startswith("."):
                yield f"{entry}/"
            elif entry.suffix == ".py":
                yield str(entry)


AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, for programs.")]
WorkflowName = Annotated[
    str,
    typer.Argument(
        metavar="WORKFLOW",
        help="module:name, path/to/file.py:name, or the name of an installed workflow.",
        autocompletion=complete_workflow,
        show_default=False,
    ),
]
EngineUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--engine", metavar="URL", help="An OpenAI-compatible server; may be given several times.", show_default=False
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME[=SERVED]",
        help="A model that the engines at --engine serve, and their own name for it where that is another; "
        "without any, they are asked.",
        show_default=False,
    ),
]
Fleet = Annotated[
    Path | None,
    typer.Option(metavar="FILE.toml", help="A file that describes the engines.", show_default=False),
]
Tenant = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Whose calls they are: engines that the fleet file keeps for others are left out. Without it, `default`,"
        " as batches and a service without API keys run.",
        show_default=False,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="NAME=VALUE", help="One input; may be given several times."),
]
InputJson = Annotated[
    Path | None,
    typer.Option("--input-json", metavar="FILE", help="A JSON object of inputs; - reads stdin.", show_default=False),
]


Deadline = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Be done by then: 90s, 20m, 2h from now.", show_default=False),
]
Slo = Annotated[
    str | None,
    typer.Option(metavar="CLASS", help="How urgent: interactive, standard, batch or background.", show_default=False),
]


def complete_rule(incomplete: str) -> Iterator[str]:
    from executor.policy.rules import LIVE_RULES

    yield from (name for name in map(_as_option, LIVE_RULES) if name.startswith(incomplete))


RULE = typer.Option(
    "--rule",
    metavar="NAME",
    help="How calls get engines: halo (unless told otherwise), or a rule to compare it with: round-robin,"
    " least-loaded, session-affinity, hexgen, hexgen-as-written, balance, late-binding.",
    autocompletion=complete_rule,
    show_default=False,
)
Rule = Annotated[str | None, RULE]


def rule_name(given: str | None) -> str | None:
    """As the scheduler knows it."""
    from executor.policy.rules import LIVE_RULES

    names = {_as_option(name): name for name in LIVE_RULES}
    if given is not None and _as_option(given) not in names:
        raise typer.BadParameter(f"{given!r} is no rule: write one of {', '.join(names)}", param_hint="--rule")
    return None if given is None else names[_as_option(given)]


def _as_option(rule: str) -> str:
    return rule.replace(" ", "-")


def deadline_s(given: str | None) -> float | None:
    """Seconds from now."""
    from halo.sdk.durations import seconds

    try:
        return None if given is None else seconds(given)
    except ValueError as error:
        raise typer.BadParameter(f"{error}: write 90s, 20m or 2h", param_hint="--deadline") from None


def slo_class(given: str | None, otherwise: str) -> "SloClass":
    from executor.slo import SloClass

    try:
        return SloClass(given or otherwise)
    except ValueError:
        known = ", ".join(SloClass)
        raise typer.BadParameter(f"{given!r} is no class: write one of {known}", param_hint="--slo") from None


def engines_for(
    workflow: "Workflow[..., Any]", urls: list[str] | None, models: list[str] | None, fleet: Path | None
) -> "tuple[EngineSpec, ...]":
    """Those named; none for a workflow without LLM calls when none are. Raises `EnginesUnnamed`, `FleetInvalid`."""
    from halo.batch.engines import named_engines
    from planner.ir.needs import models_of

    if not (urls or models or fleet or models_of(workflow.plan)):
        return ()
    return named_engines(urls or (), models or (), fleet, os.environ)
