"""What the demo tells on the screen."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from halo.cli.console import out
from planner.explanation import Explanation
from workloads.demo.figures import Figures, Sample, forecasts
from workloads.demo.setting import Setting

SHOWN_SAMPLES = 4


def introduce(setting: Setting) -> None:
    """What will be done, and what of it is real."""
    rows = len(setting.asked.rows)
    _heading(f"Halo demo: {rows} Text-to-SQL questions")
    _show(Text(f"{setting.asked.repeats} of them were asked before, as popular questions are."))
    _show_facts(told_apart(setting))


def told_apart(setting: Setting) -> Iterator[tuple[str, str]]:
    """What is real, and what is not."""
    job = "planning, scheduling, the SQL (six SQLite databases, killable child processes), the results on disk"
    if setting.scale is None:
        engines = ", ".join(engine.url for engine in setting.engines)
        yield "real", f"{job}; the model's answers and their time ({engines})"
        return
    gpus = ", ".join(engine.gpu for engine in setting.engines)
    yield "real", job
    yield "modelled", f"GPU time: {gpus} serving Llama-3-8B; {setting.scale:g} modelled s in each second of yours"
    yield "recorded", "the model's answers; a script made them, so the accuracy tells nothing of any model"


def show_plan(explanation: Explanation) -> None:
    """What will be asked for, before any call."""
    _heading("The plan")
    table = _table("step", "kind", "places", "calls as written", "after planning")
    for forecast in forecasts(explanation):
        places = f"{forecast.places}" if forecast.places > 1 else ""
        table.add_row(forecast.function, forecast.kind, places, str(forecast.as_written), str(forecast.planned))
    _show(table)
    for line in explanation.summary():
        _show(Text(line))
    _heading("The run")


def show_figures(figures: Figures) -> None:
    """What came of it."""
    _show_engines(figures)
    _heading("Some answers")
    for sample in some(figures.samples):
        _show_sample(sample)
    _heading("What it came to")
    _show_facts(outcome(figures))


def some(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Mostly right ones; a wrong one too, if there is one."""
    wrong = [sample for sample in samples if not sample.right][:1]
    return [*[sample for sample in samples if sample.right][: SHOWN_SAMPLES - len(wrong)], *wrong]


def outcome(figures: Figures) -> Iterator[tuple[str, str]]:
    """The figures that matter, named."""
    usage, accuracy = figures.usage, figures.accuracy
    yield "rows", f"{figures.rows} ended, each recorded once; {figures.failed} failed"
    yield "accuracy", f"{accuracy.share:.1%}: {accuracy.matched} queries return what the gold SQL returns"
    yield "model calls", f"{usage['calls']:,} made of {figures.calls_as_written:,} as written ({_saved_calls(figures)})"
    yield "tool runs", f"{usage['tools']:,} made of {usage['tools'] + usage['saved_tools']:,} as written"
    yield "prompt tokens", f"{figures.prompt_tokens_as_written:,} as written: {_tokens_told(figures)}"
    yield "time", time_told(figures)


def time_told(figures: Figures) -> str:
    """How long it took, and by whose clock."""
    if figures.scale is None:
        return f"{figures.makespan_s:.1f} s from the first event to the last row"
    return f"{figures.makespan_s:.1f} modelled s from the first event to the last row; {figures.seconds:.1f} s of yours"


def show_where(setting: Setting) -> None:
    """What is left on disk, and how to do it again."""
    _heading("See for yourself")
    lines = [("report", f"{setting.report}"), ("results", f"{setting.batch.out / 'results.jsonl'}")]
    if setting.scale is not None:
        rows, fleet = f"--rows {setting.rows}", f"--fleet {setting.fleet}"
        lines += [("again", f"halo batch run text2sql {rows} {fleet} --out {setting.again}")]
        lines += [("real engine", "halo demo --engine http://localhost:8000")]
    for name, text in lines:
        out().print(Text.assemble("  ", (f"{name:<14}", "bold"), text))  # in one line each, to be copied


def cell(value: object) -> str:
    """A value of a result, short."""
    return f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _show_engines(figures: Figures) -> None:
    table = _table("engine", "GPU", "calls", "busy", "calls inside")
    for engine in figures.engines:
        inside = f"{engine.mean_running:.1f} of {engine.max_running}"
        table.add_row(engine.id, engine.gpu, f"{engine.calls:,}", f"{engine.busy_share:.0%}", inside)
    _show(table)


def _show_sample(sample: Sample) -> None:
    verdict = ("right", "green") if sample.right else ("wrong", "red")
    votes = f", {sample.votes} of {sample.candidates} candidates agree"
    rows = "; ".join(", ".join(cell(value) for value in row) for row in sample.rows) or "no rows"
    more = f"; ... ({sample.row_count} rows)" if sample.row_count > len(sample.rows) else ""
    _show(Text.assemble((sample.question, "bold"), (f"  {sample.database}", "dim")))
    _show(Text(sample.sql or "(no query)", style="cyan"), indent=4)
    _show(Text.assemble(f"{rows}{more}  ", verdict, (votes, "dim")), indent=4)


def _saved_calls(figures: Figures) -> str:
    share = figures.usage["saved_calls"] / figures.calls_as_written if figures.calls_as_written else 0.0
    return f"{share:.0%} saved"


def _tokens_told(figures: Figures) -> str:
    usage = figures.usage
    return (
        f"{usage['saved_prompt_tokens']:,} in calls that were saved, {usage['cached_tokens']:,} from the engines'"
        f" prefix caches, {figures.prompt_tokens_computed:,} computed"
    )


def _heading(text: str) -> None:
    out().print(Text(f"\n{text}", style="bold blue"))


def _show_facts(facts: Iterable[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    for name, text in facts:
        table.add_row(Text(name, style="bold"), Text(text))
    _show(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    return table


def _show(what: RenderableType, indent: int = 2) -> None:
    out().print(Padding(what, (0, 0, 0, indent), expand=False), soft_wrap=False)
