"""EXPLAIN ANALYZE: from what was recorded of a run to what became of each predicted stage."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from planner.analysis import Analysis, EngineActual, Saving, StageActual
from planner.cost.correction import Correction
from planner.explanation import Explanation, StageForecast
from planner.ir.ids import EngineId
from planner.job import JobPlan
from planner.measured import CallSpan, How, Tally

Corrections = Mapping[EngineId, Correction]


def analyse(
    prediction: Explanation,
    job_plan: JobPlan,
    tallies: Sequence[Tally],
    spans: Sequence[CallSpan],
    rows_ended: int,
    before: Corrections | None = None,
    after: Corrections | None = None,
) -> Analysis:
    """`prediction` and `job_plan` are those of a job of one part; `tallies` and `spans` are all that was recorded.
    `before` and `after` the job engines were known to be so far off.
    """
    (part,) = job_plan.parts
    sites = _Sites(prediction.stages)
    shared = _Shared(tallies, {stage: len(grouping.keys) for stage, grouping in part.groups.items()})
    shares, used = _engine_use(spans)
    engines = tuple(_with_corrections(engine, before or {}, after or {}) for engine in used)
    began = min((tally.first_begun_at for tally in tallies if tally.first_begun_at is not None), default=0.0)
    ended = max((tally.last_ended_at for tally in tallies if tally.last_ended_at is not None), default=began)
    actual = {stage.path: StageActual(stage.path) for stage in prediction.stages}
    for tally in tallies:
        path = sites.of(tally.path)
        actual[path] = _add(actual[path], tally, shared.foretold(tally), began)
    for running, seconds in shares.items():
        path = sites.of(running)
        actual[path] = replace(actual[path], engine_s=actual[path].engine_s + seconds)
    stages = tuple(actual[stage.path] for stage in prediction.stages)
    savings = tuple(_savings(prediction, actual, tallies, shared))
    return Analysis(prediction, stages, savings, engines, ended - began, rows_ended)


def _with_corrections(engine: EngineActual, before: Corrections, after: Corrections) -> EngineActual:
    return replace(engine, before=before.get(engine.engine), after=after.get(engine.engine))


class _Sites:
    """From the paths of running programs to those of the plan."""

    def __init__(self, stages: Iterable[StageForecast]) -> None:
        self._known = {stage.path for stage in stages}

    def of(self, running: str) -> str:
        """`each[3]/check#1` ran at `each[*]/check`: the turns and tools of an agent are its own."""
        path = re.sub(r"#\d+/", "#*/", re.sub(r"\[\d+\]/", "[*]/", running))
        if path not in self._known:
            path = re.sub(r"#(\*/\d+|\d+)$", "", path)
        assert path in self._known, f"{running} is at no stage of the plan"
        return path


class _Shared:
    """Which of the nodes that took another's answer planning had foretold: all rows of a group but one."""

    def __init__(self, tallies: Sequence[Tally], works: Mapping[str, int]) -> None:
        """`works` has the number of distinct works of each stage that planning grouped."""
        self._works = works
        self._nodes: dict[str, int] = defaultdict(int)
        for tally in tallies:
            self._nodes[tally.path] += tally.nodes

    def foretold(self, tally: Tally) -> int:
        if tally.path not in self._works:
            return 0
        return max(0, min(tally.nodes, self._nodes[tally.path] - self._works[tally.path]))


def _add(stage: StageActual, tally: Tally, foretold: int, began: float) -> StageActual:
    if tally.how is How.RECALLED:
        return replace(stage, recalled=stage.recalled + tally.nodes)
    if tally.how is How.SHARED:
        return replace(stage, planned=stage.planned + foretold, met=stage.met + tally.nodes - foretold)
    return replace(
        stage,
        made=stage.made + tally.nodes,
        calls=stage.calls + tally.calls,
        tools=stage.tools + tally.tools,
        prompt_tokens=stage.prompt_tokens + tally.prompt_tokens,
        cached_tokens=stage.cached_tokens + tally.cached_tokens,
        output_tokens=stage.output_tokens + tally.output_tokens,
        waited_s=stage.waited_s + tally.waited_s,
        took_s=stage.took_s + tally.took_s,
        begun_s=_extreme(min, stage.begun_s, tally.first_begun_at, began),
        ended_s=_extreme(max, stage.ended_s, tally.last_ended_at, began),
    )


def _extreme(
    which: Callable[[float, float], float], known: float | None, instant: float | None, began: float
) -> float | None:
    if instant is None:
        return known
    return instant - began if known is None else which(known, instant - began)


def _engine_use(spans: Sequence[CallSpan]) -> tuple[dict[str, float], tuple[EngineActual, ...]]:
    """Each path's share of the time of engines, and what each engine was in use."""
    shares: dict[str, float] = defaultdict(float)
    of_engine: dict[EngineId, list[CallSpan]] = defaultdict(list)
    for span in spans:
        of_engine[span.engine].append(span)
    engines = []
    for engine in sorted(of_engine):
        here = of_engine[engine]
        seconds = _divided(here)
        for span, share in zip(here, seconds, strict=True):
            shares[span.path] += share
        engines.append(EngineActual(engine, len(here), sum(seconds)))
    return shares, tuple(engines)


def _divided(spans: Sequence[CallSpan]) -> list[float]:
    """The share of each call in the time of one engine: at any instant, the calls that are there divide it evenly."""
    begins = np.asarray([span.begun_at for span in spans])
    ends = np.maximum(begins, [span.ended_at for span in spans])
    instants = np.concatenate([begins, ends])
    order = np.argsort(instants, kind="stable")
    instants = instants[order]
    there = np.cumsum(np.concatenate([np.ones(len(begins)), -np.ones(len(ends))])[order])[:-1]
    pieces = np.divide(np.diff(instants), there, out=np.zeros_like(there), where=there > 0)
    until = np.concatenate([[0.0], np.cumsum(pieces)])
    shares: list[float] = (until[np.searchsorted(instants, ends)] - until[np.searchsorted(instants, begins)]).tolist()
    return shares


def _savings(
    prediction: Explanation, actual: Mapping[str, StageActual], tallies: Sequence[Tally], shared: _Shared
) -> Iterator[Saving]:
    """In the order in which they came about; each counts what those before it left."""
    yield _dropped(stage for stage in prediction.stages if stage.note.startswith("dropped"))
    merged = {stage: actual[stage.note.removeprefix(_MERGED)] for stage in prediction.stages if _is_merged(stage)}
    yield _merged(merged)
    taken = [tally for tally in tallies if tally.how is How.SHARED]
    yield _taken("merge across rows", [(tally, shared.foretold(tally)) for tally in taken])
    yield _taken("equal work met at run time", [(tally, tally.nodes - shared.foretold(tally)) for tally in taken])
    yield _taken("result cache", [(tally, tally.nodes) for tally in tallies if tally.how is How.RECALLED])


_MERGED = "merged into "


def _is_merged(stage: StageForecast) -> bool:
    return stage.note.startswith(_MERGED)


def _dropped(stages: Iterable[StageForecast]) -> Saving:
    """Nobody knows what they would have taken: the least that was predicted."""
    gone = list(stages)
    return Saving(
        "drop unused stages",
        sum(stage.calls.low for stage in gone if stage.asks_model),
        sum(stage.calls.low for stage in gone if stage.kind == "tool"),
        sum(stage.prompt_tokens.low for stage in gone),
        0.0,
        "estimated",
    )


def _merged(stages: Mapping[StageForecast, StageActual]) -> Saving:
    """As often as they would have run, each time with what the stage that took over took on average."""
    calls = tools = prompt = output = 0.0
    for stage, heir in stages.items():
        if stage.asks_model and heir.calls:
            calls += stage.calls.low
            prompt += stage.calls.low * heir.prompt_tokens / heir.calls
            output += stage.calls.low * heir.output_tokens / heir.calls
        elif stage.kind == "tool":
            tools += stage.calls.low
    return Saving("merge within the plan", calls, tools, prompt, output, "measured")


def _taken(by: str, tallies: Sequence[tuple[Tally, int]]) -> Saving:
    """So many of the nodes of each tally, each with what one of them saved on average."""
    shares = [(tally, nodes / tally.nodes) for tally, nodes in tallies if tally.nodes]
    return Saving(
        by,
        sum(share * tally.calls for tally, share in shares),
        sum(share * tally.tools for tally, share in shares),
        sum(share * tally.prompt_tokens for tally, share in shares),
        sum(share * tally.output_tokens for tally, share in shares),
        "measured",
    )
