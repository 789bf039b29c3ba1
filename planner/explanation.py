"""What a job will ask for, told before anything runs: as values, text, JSON, a picture, a notebook's table."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from planner.ir.plan import Plan
from planner.ir.values import Json
from planner.job import PassReport
from planner.mermaid import mermaid


@dataclass(frozen=True, slots=True)
class Span:
    """From `low` to `high`, both included; one figure where they are equal."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = f"{round(self.low):,}", f"{round(self.high):,}"
        return low if low == high else f"{low}..{high}"

    def __add__(self, other: "Span") -> "Span":
        return Span(self.low + other.low, self.high + other.high)

    def __mul__(self, other: "Span") -> "Span":
        return Span(self.low * other.low, self.high * other.high)


NOTHING = Span(0, 0)


@dataclass(frozen=True, slots=True)
class StageForecast:
    """One stage of one plan, over all rows of all parts with that plan.

    `calls` is how often it would run as written, `distinct` how often after merging; both count model calls where the
    stage makes them (an agent makes several). Token counts are estimates: `prompt_tokens` as written, `merged_tokens`
    of the distinct calls, `shared_tokens` of those in prefixes that the best cache need not compute again (outermost
    stages only), `output_tokens` what the distinct calls write. `planner.timing` adds `engine_seconds` and `usd`.
    """

    plan: int
    path: str
    kind: str
    does: str
    calls: Span
    distinct: Span
    prompt_tokens: Span
    merged_tokens: Span
    shared_tokens: float
    note: str = ""
    output_tokens: Span = NOTHING
    engine_seconds: Span | None = None
    usd: Span | None = None

    @property
    def asks_model(self) -> bool:
        return self.kind in {"generate", "agent"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """`plans[i]` runs on `rows[i]` rows; `stages` are all their stages, in the order of `planner.ir.sites.walk`.

    `engines` describe those that the times of stages are for; without times there are none.
    """

    plans: tuple[Plan, ...]
    rows: tuple[int, ...]
    stages: tuple[StageForecast, ...]
    passes: tuple[PassReport, ...]
    assumptions: tuple[str, ...]
    engines: tuple[str, ...] = ()

    @property
    def calls(self) -> Span:
        """Model calls as written."""
        return sum((stage.calls for stage in self.stages if stage.asks_model), NOTHING)

    @property
    def distinct_calls(self) -> Span:
        """Model calls after merging."""
        return sum((stage.distinct for stage in self.stages if stage.asks_model), NOTHING)

    @property
    def prompt_tokens(self) -> Span:
        return sum((stage.prompt_tokens for stage in self.stages), NOTHING)

    @property
    def merged_tokens(self) -> Span:
        return sum((stage.merged_tokens for stage in self.stages), NOTHING)

    @property
    def shared_tokens(self) -> float:
        return sum(stage.shared_tokens for stage in self.stages)

    @property
    def engine_seconds(self) -> Span:
        """Of all stages with a time."""
        return sum((stage.engine_seconds or NOTHING for stage in self.stages), NOTHING)

    @property
    def usd(self) -> Span:
        return sum((stage.usd or NOTHING for stage in self.stages), NOTHING)

    def to_text(self) -> str:
        return (
            "\n".join([*self._tables(), "", *self.summary(), "", *self._pass_lines(), *self._assumption_lines()]) + "\n"
        )

    def to_json(self) -> Json:
        """Plain data, ready for `json.dumps`; spans are `{"low", "high"}`."""
        return {
            "plans": [{"name": plan.name, "rows": rows} for plan, rows in zip(self.plans, self.rows, strict=True)],
            "calls": asdict(self.calls),
            "distinct_calls": asdict(self.distinct_calls),
            "prompt_tokens": asdict(self.prompt_tokens),
            "merged_tokens": asdict(self.merged_tokens),
            "shared_tokens": self.shared_tokens,
            "engine_seconds": asdict(self.engine_seconds) if self.engines else None,
            "usd": asdict(self.usd) if self.engines else None,
            "engines": list(self.engines),
            "stages": [asdict(stage) for stage in self.stages],
            "passes": [_report(report) for report in self.passes],
            "assumptions": list(self.assumptions),
        }

    def to_mermaid(self) -> str:
        """A flowchart of all plans, each stage with its calls."""
        labels = [{s.path: _label(s) for s in self.stages if s.plan == number} for number in range(len(self.plans))]
        return mermaid(self.plans, labels)

    def _repr_html_(self) -> str:
        tables = "".join(self._html_table(number) for number in range(len(self.plans)))
        told = "<br>".join(html.escape(line) for line in (*self.summary(), *self._assumption_lines()))
        return f"{tables}<p>{told}</p>"

    def summary(self) -> tuple[str, ...]:
        """The figures that matter, a line each."""
        left = Span(max(0, self.merged_tokens.low - self.shared_tokens), self.merged_tokens.high - self.shared_tokens)
        return (
            f"model calls: {self.calls} as written, {self.distinct_calls} after merging",
            f"prompt tokens (estimate): {self.prompt_tokens} as written, {self.merged_tokens} after merging, "
            f"{left} with the best prefix cache",
            *self._time_lines(),
        )

    def _time_lines(self) -> Iterator[str]:
        if self.engines:
            yield f"engine time (estimate): {_figures(self.engine_seconds)} s, {_figures(self.usd)} USD"
            yield f"on {'; '.join(self.engines)}"

    def _tables(self) -> Iterator[str]:
        for number in range(len(self.plans)):
            yield self._title(number)
            yield from _aligned([self._headings(), *self._cells(number)])

    def _html_table(self, plan: int) -> str:
        title = html.escape(self._title(plan))
        rows = "".join(_html_row(cells) for cells in self._cells(plan))
        head = f"<caption>{title}</caption><thead>{_html_row(self._headings(), 'th')}</thead>"
        return f"<table>{head}<tbody>{rows}</tbody></table>"

    def _title(self, plan: int) -> str:
        return f"plan {self.plans[plan].name}, {self.rows[plan]:,} rows"

    def _cells(self, plan: int) -> list[tuple[str, ...]]:
        stages = [stage for stage in self.stages if stage.plan == plan]
        if not self.engines:
            return [(*_stage_cells(stage), stage.note) for stage in stages]
        return [(*_stage_cells(stage), *_cost_cells(stage), stage.note) for stage in stages]

    def _headings(self) -> tuple[str, ...]:
        return (*_HEADINGS, *(_COST_HEADINGS if self.engines else ()), "")

    def _pass_lines(self) -> Iterator[str]:
        for report in self.passes:
            counts = ", ".join(f"{name} {count:,}" for name, count in report.counts.items())
            yield f"pass {report.name}: {counts or 'nothing to do'}"

    def _assumption_lines(self) -> Iterator[str]:
        yield "tokens are estimates; shared are those in prefixes that the best prefix cache computes once"
        yield f"estimates assume: {'; '.join(self.assumptions)}"


_HEADINGS = (
    "stage",
    "kind",
    "model or tool",
    "calls",
    "distinct",
    "prompt tokens",
    "after merging",
    "in shared prefixes",
)
_COST_HEADINGS = ("engine s", "USD")


def _stage_cells(stage: StageForecast) -> tuple[str, ...]:
    tokens = (str(stage.prompt_tokens), str(stage.merged_tokens), f"{round(stage.shared_tokens):,}")
    shown = tokens if stage.asks_model else ("", "", "")
    return (stage.path, stage.kind, stage.does, str(stage.calls), str(stage.distinct), *shown)


def _cost_cells(stage: StageForecast) -> tuple[str, ...]:
    return tuple("" if span is None else _figures(span) for span in (stage.engine_seconds, stage.usd))


def _figures(span: Span) -> str:
    """Three digits: times and money are not known any better."""
    low, high = (f"{end:,.0f}" if end >= 100 else f"{end:.3g}" for end in (span.low, span.high))
    return low if low == high else f"{low}..{high}"


_FIRST_FIGURE = 3


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.rjust(width) if _FIRST_FIGURE <= column < len(row) - 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield ("  " + "  ".join(cells)).rstrip()


def _label(stage: StageForecast) -> str:
    return f"{stage.kind} {stage.does}".strip() + f"\n{stage.distinct} of {stage.calls}"


def _html_row(cells: Sequence[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _report(report: PassReport) -> Json:
    changes = [{"what": c.what, "path": c.path, "detail": c.detail, "parts": list(c.parts)} for c in report.changes]
    return {"name": report.name, "counts": dict(report.counts), "changes": changes}
