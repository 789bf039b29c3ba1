"""What a job will ask for, told before anything runs: as values, text, JSON, a picture, a notebook's table."""

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from planner.ir.plan import Plan
from planner.ir.values import Json
from planner.job import PassReport
from planner.mermaid import mermaid
from planner.placement.placement import Placement
from planner.prefix.saving import PrefixSaving
from planner.sections import placement_lines, prefix_lines, shares_text
from planner.text_tables import aligned, three_digits
from planner.tree import tree


@dataclass(frozen=True, slots=True)
class Span:
    """From `low` to `high`, both included; one figure where they are equal."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = f"{round(self.low):,}", f"{round(self.high):,}"
        return low if low == high else f"{low}..{high}"

    def short(self) -> str:
        """With three digits: times and money are not known any better."""
        low, high = three_digits(self.low), three_digits(self.high)
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

    `engines` describe those that the times of stages are for; without times there are none. `prefixes` tell what
    prompts share, model by model; `placement` where stages would run; `notes` what was left out, and why.
    `planner.foretell` adds all of them.
    """

    plans: tuple[Plan, ...]
    rows: tuple[int, ...]
    stages: tuple[StageForecast, ...]
    passes: tuple[PassReport, ...]
    assumptions: tuple[str, ...]
    engines: tuple[str, ...] = ()
    prefixes: tuple[PrefixSaving, ...] = ()
    placement: Placement | None = None
    notes: tuple[str, ...] = ()

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
        sections = (self._tables(), self.summary(), prefix_lines(self.prefixes), placement_lines(self.placement))
        told = [[*section] for section in (*sections, [*self._pass_lines(), *self.assumption_lines()])]
        return "\n\n".join("\n".join(lines) for lines in told if lines) + "\n"

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
            "prefixes": [asdict(saving) for saving in self.prefixes],
            "placement": None if self.placement is None else self.placement.to_json(),
            "assumptions": list(self.assumptions),
            "notes": list(self.notes),
        }

    def to_mermaid(self) -> str:
        """A flowchart of all plans, each stage with its calls."""
        return mermaid(self.plans, self._labels(lambda stage: "\n".join([*_said(stage), *self._where(stage)])))

    def to_tree(self) -> str:
        """All plans as trees, each stage with its calls, tokens and times."""
        return tree(self.plans, [self.title(number) for number in range(len(self.plans))], self._labels(self._branch))

    def _branch(self, stage: StageForecast) -> str:
        tokens = [f"{stage.merged_tokens} prompt tokens"] if stage.asks_model else []
        seconds = [] if stage.engine_seconds is None else [f"{stage.engine_seconds.short()} s"]
        notes = [stage.note] if stage.note else []
        return ", ".join([*_said(stage), *tokens, *seconds, *self._where(stage), *notes])

    def _where(self, stage: StageForecast) -> Iterator[str]:
        """The engines it runs on; a tool's pool goes without saying."""
        placed = self.placement.stages if self.placement and stage.asks_model else ()
        yield from (f"on {shares_text(one)}" for one in placed if (one.plan, one.path) == (stage.plan, stage.path))

    def _labels(self, label: Callable[[StageForecast], str]) -> list[dict[str, str]]:
        """For each plan, what `label` says of its stages, by path."""
        numbers = range(len(self.plans))
        return [{stage.path: label(stage) for stage in self.stages if stage.plan == number} for number in numbers]

    def _repr_html_(self) -> str:
        tables = "".join(self._html_table(number) for number in range(len(self.plans)))
        told = "<br>".join(html.escape(line) for line in (*self.summary(), *self.assumption_lines()))
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
            yield f"engine time (estimate): {self.engine_seconds.short()} s, {self.usd.short()} USD"
            yield f"on {'; '.join(self.engines)}"

    def _tables(self) -> Iterator[str]:
        for number in range(len(self.plans)):
            yield self.title(number)
            yield from aligned([self.headings(), *self.cells(number)], first_figure=3)

    def _html_table(self, plan: int) -> str:
        title = html.escape(self.title(plan))
        rows = "".join(_html_row(cells) for cells in self.cells(plan))
        head = f"<caption>{title}</caption><thead>{_html_row(self.headings(), 'th')}</thead>"
        return f"<table>{head}<tbody>{rows}</tbody></table>"

    def title(self, plan: int) -> str:
        rows = self.rows[plan]
        return f"plan {self.plans[plan].name}, {rows:,} {'row' if rows == 1 else 'rows'}"

    def cells(self, plan: int) -> list[tuple[str, ...]]:
        stages = [stage for stage in self.stages if stage.plan == plan]
        if not self.engines:
            return [(*_stage_cells(stage), stage.note) for stage in stages]
        return [(*_stage_cells(stage), *_cost_cells(stage), stage.note) for stage in stages]

    def headings(self) -> tuple[str, ...]:
        return (*_HEADINGS, *(_COST_HEADINGS if self.engines else ()), "")

    def _pass_lines(self) -> Iterator[str]:
        for report in self.passes:
            counts = ", ".join(f"{name} {count:,}" for name, count in report.counts.items())
            yield f"pass {report.name}: {counts or 'nothing to do'}"

    def assumption_lines(self) -> Iterator[str]:
        yield from self.notes
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
    return tuple("" if span is None else span.short() for span in (stage.engine_seconds, stage.usd))


def _said(stage: StageForecast) -> tuple[str, str]:
    return f"{stage.kind} {stage.does}".strip(), f"{stage.distinct} of {stage.calls}"


def _html_row(cells: Sequence[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _report(report: PassReport) -> Json:
    changes = [{"what": c.what, "path": c.path, "detail": c.detail, "parts": list(c.parts)} for c in report.changes]
    return {"name": report.name, "counts": dict(report.counts), "changes": changes}
