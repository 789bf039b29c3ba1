"""EXPLAIN and EXPLAIN ANALYZE as one page by itself: no script, no font and no picture is loaded from anywhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from planner.analysis import Analysis, StageActual
from planner.drawing import Drawing, draw
from planner.explanation import Explanation, Span, StageForecast
from planner.placement.placement import Placement
from planner.prefix.saving import PrefixSaving
from planner.sections import placement_cells, prefix_cells
from planner.text_tables import percent, three_digits, whole

_TEMPLATE = "page.html.jinja"


def page(explanation: Explanation) -> str:
    """The forecast as an HTML document."""
    return _template().render(_given(explanation, None))


def analysis_page(analysis: Analysis) -> str:
    """The forecast and what became of it as an HTML document."""
    return _template().render(_given(analysis.prediction, analysis))


@lru_cache(maxsize=1)
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(_TEMPLATE)


@dataclass(frozen=True, slots=True)
class _Tile:
    """One figure that matters. `actual` is what became of it, and `below` says more."""

    name: str
    figure: str
    below: str = ""
    actual: str = ""


@dataclass(frozen=True, slots=True)
class _Bar:
    """From `low` to `high` what was predicted, at `actual` what was; shares of the widest bar of its group, in %."""

    name: str
    low: float
    high: float
    predicted: str
    actual: float | None = None
    was: str = ""


@dataclass(frozen=True, slots=True)
class _Bars:
    title: str
    bars: Sequence[_Bar]


@dataclass(frozen=True, slots=True)
class _PlanShown:
    title: str
    drawing: Drawing
    kinds: Mapping[str, str]
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def _given(told: Explanation, analysis: Analysis | None) -> dict[str, object]:
    done = {stage.path: stage for stage in analysis.stages} if analysis else {}
    numbers = range(len(told.plans))
    return {
        "title": ", ".join(plan.name for plan in told.plans),
        "what": "EXPLAIN ANALYZE" if analysis else "EXPLAIN",
        "rows": sum(told.rows),
        "tiles": list(_tiles(told, analysis)),
        "plans": [_plan_shown(told, number, done) for number in numbers],
        "prefixes": [_prefix_bars(saving) for saving in told.prefixes],
        "prefix_rows": [prefix_cells(saving) for saving in told.prefixes],
        "placement": told.placement,
        "placement_bars": _placement_bars(told.placement, done),
        "placement_rows": [placement_cells(stage) for stage in told.placement.stages] if told.placement else [],
        "switches": told.placement.switches if told.placement else (),
        "seconds": three_digits,
        "compared": list(_compared(analysis)) if analysis else [],
        "tables": _tables(analysis) if analysis else [],
        "passes": [(report.name, dict(report.counts)) for report in told.passes],
        "changes": [change for report in told.passes for change in report.changes],
        "engines": told.engines,
        "assumptions": told.assumptions,
        "notes": (*told.notes, *(analysis.notes if analysis else ())),
        "summary": analysis.summary() if analysis else (),
    }


def _tiles(told: Explanation, analysis: Analysis | None) -> Iterator[_Tile]:
    best = max(0.0, told.merged_tokens.low - told.shared_tokens)
    yield _Tile(
        "model calls", str(told.distinct_calls), f"{told.calls} as written", f"{analysis.calls:,}" if analysis else ""
    )
    yield _Tile(
        "prompt tokens",
        str(told.merged_tokens),
        f"{told.prompt_tokens} as written, {whole(best)} at best with a prefix cache",
        f"{analysis.prompt_tokens:,}, {analysis.cached_tokens:,} cached" if analysis else "",
    )
    if told.engines:
        took = three_digits(analysis.engine_seconds) if analysis else ""
        yield _Tile("engine seconds", told.engine_seconds.short(), f"{told.usd.short()} USD", took)
    if told.placement is not None:
        yield _Tile(
            "makespan",
            f"{three_digits(told.placement.makespan_s)} s",
            f"no schedule is below {three_digits(told.placement.bound_s)} s: gap {percent(told.placement.gap)}",
            f"{three_digits(analysis.seconds)} s" if analysis else "",
        )
    elif analysis:
        yield _Tile("makespan", "not predicted", "", f"{three_digits(analysis.seconds)} s")


def _plan_shown(told: Explanation, number: int, done: Mapping[str, StageActual]) -> _PlanShown:
    stages = [stage for stage in told.stages if stage.plan == number]
    texts = {stage.path: tuple(_box_lines(stage, done.get(stage.path))) for stage in stages}
    kinds = {stage.path: "gone" if stage.note and not stage.distinct.high else stage.kind for stage in stages}
    drawing = draw(told.plans[number], texts)
    return _PlanShown(told.title(number), drawing, kinds, told.headings(), told.cells(number))


def _box_lines(stage: StageForecast, done: StageActual | None) -> Iterator[str]:
    yield f"{stage.kind} {stage.does}".strip()
    if stage.note and not stage.distinct.high:
        yield stage.note
    elif done is None:
        yield f"{stage.distinct} of {stage.calls}"
    else:
        yield f"{done.calls if stage.asks_model else done.made:,} done, {stage.distinct} predicted"
    if done is None and stage.engine_seconds is not None:
        yield f"{stage.engine_seconds.short()} s"
    elif done is not None and done.calls:
        yield f"{three_digits(done.engine_s)} s of engines"


def _prefix_bars(saving: PrefixSaving) -> _Bars:
    names = {
        "at best": saving.optimum_tokens,
        "in the planned order": saving.planned_tokens,
        "in the order of the rows": saving.arrival_tokens,
    }
    bars = [
        _Bar(name, 0.0, 100 * saving.share(tokens), f"{whole(tokens)} tokens, {percent(saving.share(tokens))}")
        for name, tokens in names.items()
    ]
    return _Bars(f"{saving.model}: prompt tokens found in a prefix cache", bars)


def _placement_bars(placement: Placement | None, done: Mapping[str, StageActual]) -> _Bars | None:
    """When each stage runs, and when it ran."""
    if placement is None:
        return None
    ended = [stage.ended_s for stage in done.values() if stage.ended_s is not None]
    whole_s = max([placement.makespan_s, *ended, 1e-9])
    bars = [_from_to(stage.path, stage.starts_s, stage.ends_s, whole_s) for stage in placement.stages]
    return _Bars("when each stage runs, predicted", bars)


def _from_to(path: str, begins_s: float, ends_s: float, whole_s: float) -> _Bar:
    share = 100 / max(whole_s, 1e-9)
    return _Bar(path, share * begins_s, share * ends_s, f"{three_digits(begins_s)} s to {three_digits(ends_s)} s")


def _compared(analysis: Analysis) -> Iterator[_Bars]:
    pairs = list(analysis.pairs)
    asked = [(told, done) for told, done in pairs if told.asks_model and (told.distinct.high or done.calls)]
    yield _bars("model calls", [(told.path, told.distinct, done.calls) for told, done in asked])
    yield _bars("prompt tokens", [(told.path, told.merged_tokens, done.prompt_tokens) for told, done in asked])
    yield _bars("output tokens", [(told.path, told.output_tokens, done.output_tokens) for told, done in asked])
    timed = [(t.path, t.engine_seconds, d.engine_s) for t, d in asked if t.engine_seconds is not None]
    if timed:
        yield _bars("engine seconds", timed, three_digits)
    found = analysis.prefix_tokens()
    yield _bars("prompt tokens found in prefix caches", [(name, Span(tokens, tokens), None) for name, tokens in found])
    ran = [(d.path, d.begun_s, d.ended_s) for _, d in pairs if d.begun_s is not None and d.ended_s is not None]
    yield _Bars("when each stage ran", [_from_to(path, begun, ended, analysis.seconds) for path, begun, ended in ran])


def _bars(title: str, given: Sequence[tuple[str, Span, float | None]], show: Callable[[float], str] = whole) -> _Bars:
    widest = max([1e-9, *(max(span.high, actual or 0.0) for _, span, actual in given)])
    bars = [
        _Bar(
            path,
            100 * span.low / widest,
            100 * span.high / widest,
            " to ".join(dict.fromkeys(map(show, (span.low, span.high)))),
            None if actual is None else 100 * actual / widest,
            "" if actual is None else show(actual),
        )
        for path, span, actual in given
    ]
    return _Bars(title, bars)


def _tables(analysis: Analysis) -> list[tuple[str, Sequence[Sequence[str]]]]:
    return [
        ("calls and tools", analysis.call_rows()),
        ("tokens", analysis.token_rows()),
        ("time", analysis.time_rows()),
        ("what each pass saved, of what running as written asks for", analysis.saving_rows()),
    ]
