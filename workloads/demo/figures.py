"""The demo in figures: what its screen, its report and its JSON tell."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executor.engines.model.profiles import PROFILES
from executor.engines.port import EngineSpec
from halo.batch.folder import RESULTS
from halo.batch.intake import take_in
from planner.explain import explain
from planner.explanation import NOTHING, Explanation, Span, StageForecast
from planner.ir.plan import Generate, Tool
from planner.ir.sites import walk
from planner.job import JobPart
from planner.optimize import optimize
from workloads.demo.account import Account, FunctionWork, function_of
from workloads.demo.run import DemoRun
from workloads.demo.setting import Setting
from workloads.text2sql.accuracy import Accuracy, accuracy_of, read_answers, read_gold_rows, verdicts
from workloads.text2sql.databases import locate_in
from workloads.text2sql.datasets import Question

SAMPLES_RIGHT, SAMPLES_WRONG = 6, 2
PREVIEW_ROWS = 3


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one function of the workflow was planned to do, over all its stages: `places` in the plan."""

    function: str
    kind: str
    places: int
    as_written: Span
    planned: Span


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """`busy_share` is the part of the makespan with a call inside, `mean_running` the calls inside on average."""

    id: str
    gpu: str
    source: str
    calls: int
    busy_share: float
    mean_running: float
    max_running: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A question and what was answered to it. `rows` are the first of `row_count`."""

    question: str
    database: str
    sql: str
    rows: Sequence[Sequence[Any]]
    row_count: int
    votes: int
    candidates: int
    right: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """`functions`, in the order of the plan, were to be called `made + saved` times. `seconds` passed in which
    `makespan_s` were modelled, `scale` in each; with real engines that is None, and the makespan is real too."""

    rows: int
    repeats: int
    failed: int
    seconds: float
    makespan_s: float
    scale: float | None
    usage: Mapping[str, int]
    accuracy: Accuracy
    functions: Mapping[str, FunctionWork]
    engines: Sequence[EngineFigures]
    samples: Sequence[Sample]

    @property
    def calls_as_written(self) -> int:
        return self.usage["calls"] + self.usage["saved_calls"]

    @property
    def prompt_tokens_as_written(self) -> int:
        return self.usage["prompt_tokens"] + self.usage["saved_prompt_tokens"]

    @property
    def prompt_tokens_computed(self) -> int:
        """What the engines had to read: neither merged nor in their prefix caches."""
        return self.usage["prompt_tokens"] - self.usage["cached_tokens"]


def explain_setting(setting: Setting) -> Explanation:
    """What the job will ask for, before any call."""
    table, _ = take_in(setting.rows, setting.workflow.plan.inputs)
    part = JobPart(setting.workflow.plan, table)
    return explain([part], optimize([part]))


def forecasts(explanation: Explanation) -> list[Forecast]:
    """By function, in the order of the plan; loops are told by what is inside them."""
    found: dict[str, list[StageForecast]] = {}
    for stage in explanation.stages:
        if stage.kind in ("generate", "tool"):
            found.setdefault(function_of(stage.path), []).append(stage)
    return [_forecast(name, stages) for name, stages in found.items()]


def figures_of(run: DemoRun) -> Figures:
    """Scores the answers too, by running their queries and the gold ones."""
    setting, summary = run.setting, run.summary
    results = setting.batch.out / RESULTS
    gold, answers = read_gold_rows(setting.rows), read_answers(results)
    found = list(verdicts(gold, answers, lambda name: locate_in(setting.databases, name)))
    return Figures(
        rows=summary.rows,
        repeats=setting.asked.repeats,
        failed=summary.failed,
        seconds=summary.timing.seconds,
        makespan_s=run.account.makespan_s,
        scale=setting.scale,
        usage=summary.usage,
        accuracy=accuracy_of(found),
        functions={name: run.account.functions.get(name, FunctionWork()) for name in _function_names(setting)},
        engines=[_engine(spec, run.account) for spec in run.engines],
        samples=_samples(setting.asked.rows, results, found),
    )


def _function_names(setting: Setting) -> Iterator[str]:
    """In the order of the plan."""
    sites = (site for site in walk(setting.workflow.plan) if isinstance(site.stage, Generate | Tool))
    return iter(dict.fromkeys(function_of(site.path) for site in sites))


def _forecast(function: str, stages: Sequence[StageForecast]) -> Forecast:
    calls = sum((stage.calls for stage in stages), NOTHING)
    distinct = sum((stage.distinct for stage in stages), NOTHING)
    return Forecast(function, "model call" if stages[0].asks_model else "tool", len(stages), calls, distinct)


def _engine(spec: EngineSpec, account: Account) -> EngineFigures:
    spans = account.of_engine(spec.id)
    inside_s = sum(span.seconds for span in spans)
    return EngineFigures(
        id=spec.id,
        gpu=spec.gpu,
        source=_source(spec),
        calls=len(spans),
        busy_share=account.busy_share(spec.id),
        mean_running=inside_s / account.makespan_s if account.makespan_s else 0.0,
        max_running=spec.max_running,
    )


def _source(spec: EngineSpec) -> str:
    if spec.kind != "modelled" or spec.gpu not in PROFILES:
        return spec.url
    profile = PROFILES[spec.gpu]
    return profile.source if profile.calibrated else f"{profile.source}, not calibrated"


def _samples(questions: Sequence[Question], results: Path, verdicts: Sequence[str]) -> list[Sample]:
    """One answer from each database, and some that are wrong."""
    right: dict[str, Sample] = {}
    wrong: dict[str, Sample] = {}
    for row, answer in _answers(results):
        sample = _sample(questions[row], answer, right=verdicts[row] == "match")
        (right if sample.right else wrong).setdefault(sample.database, sample)
    shown = [*list(right.values())[:SAMPLES_RIGHT], *list(wrong.values())[:SAMPLES_WRONG]]
    return sorted(shown, key=lambda sample: (not sample.right, sample.database))


def _answers(results: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with results.open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            yield line["row"], line["result"]


def _sample(question: Question, answer: Mapping[str, Any], *, right: bool) -> Sample:
    return Sample(
        question=question.question,
        database=question.db_id,
        sql=" ".join(answer["sql"].split()),
        rows=answer["preview"][:PREVIEW_ROWS],
        row_count=answer["rows"],
        votes=answer["votes"],
        candidates=answer["candidates"],
        right=right,
    )
