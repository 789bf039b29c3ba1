"""EXPLAIN ANALYZE: what was predicted of a job beside what became of it, as values, text, JSON, a tree, a picture."""

import html
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from planner.cost.correction import Correction
from planner.explanation import Explanation, Span, StageForecast
from planner.ir.ids import EngineId
from planner.ir.values import Json
from planner.mermaid import mermaid
from planner.text_tables import aligned, three_digits, whole
from planner.tree import tree


@dataclass(frozen=True, slots=True)
class StageActual:
    """What became of one stage, over all rows.

    Of its finished nodes, `made` did the work, `planned` took an answer that planning knew to be the same, `met` one
    whose equality showed at run time, `recalled` one from the result cache. Calls, tools and tokens are those made.
    `waited_s` and `took_s` are sums over calls and tools; `engine_s` is their share of the engines' time, where calls
    that are there together divide it. Instants count from the begin of the job's first call or tool.
    """

    path: str
    made: int = 0
    planned: int = 0
    met: int = 0
    recalled: int = 0
    calls: int = 0
    tools: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    waited_s: float = 0.0
    took_s: float = 0.0
    engine_s: float = 0.0
    begun_s: float | None = None
    ended_s: float | None = None

    @property
    def nodes(self) -> int:
        return self.made + self.planned + self.met + self.recalled


@dataclass(frozen=True, slots=True)
class Saving:
    """What running as written would have asked for more. `measured` by equal work that was done, or `estimated`."""

    by: str
    calls: float
    tools: float
    prompt_tokens: float
    output_tokens: float
    known: Literal["measured", "estimated"]


@dataclass(frozen=True, slots=True)
class EngineActual:
    """`busy_s` is how long at least one call was there. `before` and `after` the job it was known how far the engine is
    off what is believed of it, as the calls of all its jobs tell; None where nothing was known."""

    engine: EngineId
    calls: int
    busy_s: float
    before: Correction | None = None
    after: Correction | None = None


@dataclass(frozen=True, slots=True)
class Analysis:
    """`stages` stand in the order of the prediction's. `seconds` is from the first begin to the last end of anything.

    `rows_ended` of the prediction's rows had ended when this was made.
    """

    prediction: Explanation
    stages: tuple[StageActual, ...]
    savings: tuple[Saving, ...]
    engines: tuple[EngineActual, ...]
    seconds: float
    rows_ended: int
    notes: tuple[str, ...] = ()

    @property
    def pairs(self) -> Iterator[tuple[StageForecast, StageActual]]:
        return zip(self.prediction.stages, self.stages, strict=True)

    @property
    def calls(self) -> int:
        return sum(stage.calls for stage in self.stages)

    @property
    def prompt_tokens(self) -> int:
        return sum(stage.prompt_tokens for stage in self.stages)

    @property
    def cached_tokens(self) -> int:
        return sum(stage.cached_tokens for stage in self.stages)

    @property
    def output_tokens(self) -> int:
        return sum(stage.output_tokens for stage in self.stages)

    @property
    def engine_seconds(self) -> float:
        return sum(stage.engine_s for stage in self.stages)

    def to_text(self) -> str:
        told = [[*section] for section in (self._tables(), self.summary(), (*self.prediction.notes, *self.notes))]
        return "\n\n".join("\n".join(lines) for lines in told if lines) + "\n"

    def __str__(self) -> str:
        return self.to_text()

    def to_json(self) -> Json:
        """Plain data, ready for `json.dumps`."""
        return {
            "rows": sum(self.prediction.rows),
            "rows_ended": self.rows_ended,
            "seconds": self.seconds,
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
            "engine_seconds": self.engine_seconds,
            "stages": [asdict(stage) for stage in self.stages],
            "savings": [asdict(saving) for saving in self.savings],
            "prefixes": dict(self.prefix_tokens()),
            "engines": [asdict(engine) for engine in self.engines],
            "notes": list(self.notes),
            "prediction": self.prediction.to_json(),
        }

    def to_mermaid(self) -> str:
        """A flowchart, each stage with its calls: made, and predicted."""
        return mermaid(self.prediction.plans, self._labels("\n"))

    def to_tree(self) -> str:
        titles = [self.prediction.title(number) for number in range(len(self.prediction.plans))]
        return tree(self.prediction.plans, titles, self._labels(", "))

    def summary(self) -> tuple[str, ...]:
        """What was predicted, and what was, of the whole job."""
        told = self.prediction
        lines = [
            f"rows: {self.rows_ended:,} of {sum(told.rows):,} ended; {three_digits(self.seconds)} s from begin to end",
            f"model calls: {told.distinct_calls} predicted, {self.calls:,} made"
            f" ({against(told.distinct_calls, self.calls)})",
            f"prompt tokens: {told.merged_tokens} predicted, {self.prompt_tokens:,} sent"
            f" ({against(told.merged_tokens, self.prompt_tokens)}), {self.cached_tokens:,} of them cached by engines",
            *self._time_lines(),
        ]
        return (*lines, *self._saving_lines(), *self._prefix_lines(), *self._engine_lines())

    def call_rows(self) -> list[tuple[str, ...]]:
        """What was run how often: headings, then a row a stage."""
        return [_CALL_HEADINGS, *(_call_cells(told, done) for told, done in self.pairs)]

    def token_rows(self) -> list[tuple[str, ...]]:
        asked = [(told, done) for told, done in self.pairs if told.asks_model and (told.distinct.high or done.calls)]
        return [_TOKEN_HEADINGS, *(_token_cells(told, done) for told, done in asked)]

    def time_rows(self) -> list[tuple[str, ...]]:
        timed = [(told, done) for told, done in self.pairs if done.begun_s is not None]
        return [_TIME_HEADINGS, *(_time_cells(told, done) for told, done in timed)]

    def saving_rows(self) -> list[tuple[str, ...]]:
        return [_SAVING_HEADINGS, *map(_saving_cells, self.savings)]

    def _tables(self) -> Iterator[str]:
        yield f"{self.prediction.title(0)}: predicted against actual"
        for title, rows in (
            ("calls and tools", self.call_rows()),
            ("tokens", self.token_rows()),
            ("time", self.time_rows()),
        ):
            if len(rows) > 1:
                yield title
                yield from aligned(rows, first_figure=1)

    def _time_lines(self) -> Iterator[str]:
        told = self.prediction
        if told.engines and self.engine_seconds:
            yield (
                f"engine time: {told.engine_seconds.short()} s predicted, {three_digits(self.engine_seconds)} s"
                f" ({against(told.engine_seconds, self.engine_seconds)})"
            )
        if told.placement is not None and self.seconds:
            off = self.seconds / told.placement.makespan_s - 1 if told.placement.makespan_s else 0.0
            yield (
                f"makespan: {three_digits(told.placement.makespan_s)} s predicted,"
                f" {three_digits(self.seconds)} s taken ({off:+.0%})"
            )

    def _saving_lines(self) -> Iterator[str]:
        yield "what each pass saved, of what running as written asks for:"
        yield from aligned(self.saving_rows(), first_figure=1)

    def prefix_tokens(self) -> tuple[tuple[str, float], ...]:
        """Prompt tokens found in prefix caches: by engines, and as predicted of three orders."""
        found = self.prediction.prefixes
        if not found:
            return ()
        return (
            ("actual", float(self.cached_tokens)),
            ("planned order", sum(saving.planned_tokens for saving in found)),
            ("order of the rows", sum(saving.arrival_tokens for saving in found)),
            ("at best", sum(saving.optimum_tokens for saving in found)),
        )

    def _prefix_lines(self) -> Iterator[str]:
        if told := dict(self.prefix_tokens()):
            yield (
                f"prefix order: engines found {whole(told['actual'])} prompt tokens in their caches; predicted were"
                f" {whole(told['planned order'])} in the planned order, {whole(told['order of the rows'])} in the order"
                f" of the rows, {whole(told['at best'])} at best"
            )

    def _engine_lines(self) -> Iterator[str]:
        for engine in self.engines:
            busy = f"{engine.busy_s / self.seconds:.0%} of the time" if self.seconds else "all the time"
            yield f"engine {engine.engine}: {engine.calls:,} calls, in use {three_digits(engine.busy_s)} s, {busy}"
            if engine.after is not None:
                yield correction_line(engine.before, engine.after)

    def _labels(self, between: str) -> list[dict[str, str]]:
        labels: list[dict[str, str]] = [{} for _ in self.prediction.plans]
        for told, done in self.pairs:
            labels[told.plan][told.path] = between.join(_label_parts(told, done))
        return labels

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.to_text())}</pre>"


def against(predicted: Span, actual: float) -> str:
    """`actual` beside what was predicted, in a word."""
    if predicted.low - _ROUNDING <= actual <= predicted.high + _ROUNDING:
        return "as predicted"
    bound = predicted.high if actual > predicted.high else predicted.low
    return f"{actual / bound:.2g} times that" if bound else "not predicted"


def correction_line(before: Correction | None, after: Correction) -> str:
    """What an engine's calls taught of it."""
    known = "1 before, nothing was known" if before is None else f"{before.factor:.2f} before"
    return (
        f"  its calls last {after.factor:.2f} times as long as believed ({known});"
        f" so corrected, one is {after.error:.0%} off on average, over {after.calls:,} calls"
    )


_ROUNDING = 0.5
_CALL_HEADINGS = ("stage", "predicted", "made", "took planned", "met equal", "from cache", "calls", "tool runs", "")
_TOKEN_HEADINGS = (
    "stage",
    "prompt predicted",
    "sent",
    "cached predicted",
    "cached",
    "written predicted",
    "written",
    "",
)
_TIME_HEADINGS = (
    "stage", "engine s predicted", "engine s", "tool s", "each took s", "each waited s", "from s", "to s", "",
)  # fmt: skip
_SAVING_HEADINGS = ("", "calls", "tool runs", "prompt tokens", "output tokens", "")


def _call_cells(told: StageForecast, done: StageActual) -> tuple[str, ...]:
    ran = done.calls if told.asks_model else done.made
    counts = (done.made, done.planned, done.met, done.recalled, done.calls, done.tools)
    note = told.note or ("" if against(told.distinct, ran) == "as predicted" else against(told.distinct, ran))
    return (told.path, str(told.distinct), *(f"{count:,}" if count else "" for count in counts), note)


def _token_cells(told: StageForecast, done: StageActual) -> tuple[str, ...]:
    return (
        told.path,
        str(told.merged_tokens),
        f"{done.prompt_tokens:,}",
        whole(told.shared_tokens),
        f"{done.cached_tokens:,}",
        str(told.output_tokens),
        f"{done.output_tokens:,}",
        "",
    )


def _time_cells(told: StageForecast, done: StageActual) -> tuple[str, ...]:
    tool_s = done.took_s if told.kind == "tool" else 0.0
    return (
        told.path,
        "" if told.engine_seconds is None else told.engine_seconds.short(),
        three_digits(done.engine_s) if done.calls else "",
        three_digits(tool_s) if tool_s else "",
        three_digits(done.took_s / max(1, done.calls + done.tools)),
        three_digits(done.waited_s / max(1, done.calls + done.tools)),
        three_digits(done.begun_s or 0.0),
        three_digits(done.ended_s or 0.0),
        "",
    )


def _saving_cells(saving: Saving) -> tuple[str, ...]:
    figures = (saving.calls, saving.tools, saving.prompt_tokens, saving.output_tokens)
    return (saving.by, *map(whole, figures), saving.known if any(figures) else "")


def _label_parts(told: StageForecast, done: StageActual) -> Iterator[str]:
    yield f"{told.kind} {told.does}".strip()
    if told.note and not done.nodes:
        yield told.note
        return
    yield f"{done.made:,} made, {told.distinct} predicted"
    if shared := done.planned + done.met + done.recalled:
        yield f"{shared:,} shared"
    if done.begun_s is not None and done.ended_s is not None:
        yield f"{three_digits(done.begun_s)} s to {three_digits(done.ended_s)} s"
