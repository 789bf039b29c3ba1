"""The demo's report: one HTML file that needs nothing else."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from planner.explanation import Explanation
from workloads.demo.account import Span
from workloads.demo.figures import EngineFigures, Figures, forecasts
from workloads.demo.run import DemoRun
from workloads.demo.screen import cell, time_told, told_apart
from workloads.demo.timeline import HEIGHT, WIDTH, Lane, lane, rows_line, ticks

TEMPLATE = "report.html.jinja"


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a bar, in percent of the longest."""

    kind: str
    percent: float
    label: str


@dataclass(frozen=True, slots=True)
class FunctionBars:
    """How often a function ran, and how often it was saved."""

    name: str
    kind: str
    made: int
    saved: int
    bars: tuple[Bar, ...]


def write_report(path: Path, run: DemoRun, explanation: Explanation, figures: Figures) -> None:
    """Writes the whole report into `path`."""
    path.write_text(render_report(run, explanation, figures), encoding="utf-8")


def render_report(run: DemoRun, explanation: Explanation, figures: Figures) -> str:
    """The report as HTML, without a reference to anything outside it."""
    return _template().render(
        figures=figures,
        forecasts=forecasts(explanation),
        explanation=explanation,
        functions=function_bars(figures),
        tokens=token_bars(figures),
        lanes=lanes(run, figures),
        rows_line=rows_line(run.account),
        ticks=ticks(figures.makespan_s),
        width=WIDTH,
        height=HEIGHT,
        told_apart=list(told_apart(run.setting)),
        time_told=time_told(figures),
        setting=run.setting,
    )


def function_bars(figures: Figures) -> list[FunctionBars]:
    """In the order of the plan, all to one scale."""
    counted = {
        name: (work.made.calls + work.made.tools, work.saved.calls + work.saved.tools, work.made.calls > 0)
        for name, work in figures.functions.items()
    }
    longest = max((made + saved for made, saved, _ in counted.values()), default=1)
    return [
        FunctionBars(name, "model call" if asks_model else "tool", made, saved, _parts(longest, made=made, saved=saved))
        for name, (made, saved, asks_model) in counted.items()
    ]


def token_bars(figures: Figures) -> tuple[Bar, ...]:
    """What became of the prompt tokens of all calls as written."""
    usage = figures.usage
    return _parts(
        figures.prompt_tokens_as_written,
        computed=figures.prompt_tokens_computed,
        cached=usage["cached_tokens"],
        saved=usage["saved_prompt_tokens"],
    )


def lanes(run: DemoRun, figures: Figures) -> list[Lane]:
    """The engines, and the tools beside them."""
    makespan_s = figures.makespan_s
    engines = [
        lane(_name(engine), f"{engine.busy_share:.0%} busy", _spans(run, number), makespan_s, engine.max_running)
        for number, engine in enumerate(figures.engines)
    ]
    tools = run.account.of_engine(None)
    return [*engines, lane("tools", f"{run.account.busy_share(None):.0%} busy", tools, makespan_s)]


def _name(engine: EngineFigures) -> str:
    return engine.id if engine.gpu == "unknown" else engine.gpu


def _spans(run: DemoRun, number: int) -> list[Span]:
    return run.account.of_engine(run.engines[number].id)


def _parts(whole: int, **counts: int) -> tuple[Bar, ...]:
    return tuple(Bar(kind, 100 * count / whole if whole else 0.0, f"{count:,}") for kind, count in counts.items())


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    return environment.get_template(TEMPLATE)
