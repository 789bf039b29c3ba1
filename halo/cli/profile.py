"""`halo engines profile`: how fast an engine is, measured in a minute or two."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halo.cli.console import print_json, print_table, say
from halo.cli.options import AsJson, EngineUrls, Fleet, Models
from planner.ir.values import Json

if TYPE_CHECKING:
    from executor.engines.model.fit import Checked, ProfileFit
    from executor.engines.model.trials import TrialRun
    from executor.engines.port import EngineHealth, EngineSpec
    from executor.errors import NotMeasured
    from planner.cost.profile import Profile

#: Of fitting and of the round that was begun within the budget, the two minutes have room beside it.
BUDGET_S = 75.0
_STEP_TOKENS = (2048, 8192)
_Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.toml", help="Where the profile goes.", show_default=False)
]
_Gpu = Annotated[str | None, typer.Option("--gpu", help="The kind of GPU, for the file.", show_default=False)]
_Id = Annotated[str | None, typer.Option("--id", help="Which engine of the fleet file.", show_default=False)]
_Budget = Annotated[float, typer.Option("--seconds", min=1, max=1800, help="How long to measure.")]
_MaxRunning = Annotated[int, typer.Option("--max-running", min=1, help="Calls at once, at most.")]


def profile(
    engine: EngineUrls = None,
    model: Models = None,
    fleet: Fleet = None,
    engine_id: _Id = None,
    gpu: _Gpu = None,
    max_running: _MaxRunning = 64,
    seconds: _Budget = BUDGET_S,
    out: _Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast an engine is, with calls of its own, and write a profile for the fleet file.

    Prompts of many lengths are read, answers written beside each other, prefixes asked for again. The engine should
    have nothing else to do. Some calls are held out: they tell how far off the profile is.
    """
    from halo.event_loop import run_async

    spec = _one_engine(engine, model, fleet, engine_id)
    measured = run_async(measure(replace(spec, gpu=gpu or spec.gpu), max_running, seconds))
    if out is not None:
        from executor.engines.profile_file import write_profile

        write_profile(out, measured.fit.profile)
        say(f'{out}: name it in the fleet file with profile = "{out.name}"')
    if as_json:
        print_json(measured.as_json())
        return
    columns = ("trial", "runs", "measured", "predicted", "off", "held out")
    print_table(columns, map(_cells, measured.fit.trials))
    for line in measured.lines():
        say(line)


@dataclass(frozen=True, slots=True)
class Measured:
    """A fit, and how long it took to come to it."""

    spec: "EngineSpec"
    fit: "ProfileFit"
    seconds: float

    def lines(self) -> Sequence[str]:
        found, fit = self.fit.profile, self.fit
        held_out = "" if fit.held_out_error is None else f", {fit.held_out_error:.1%} off on those held out"
        return (
            f"{len(fit.trials)} trials in {self.seconds:.0f} s: {fit.error:.1%} off on those fitted on{held_out}",
            f"a step {1e3 * (found.overhead_s + found.weights_s):.2f} ms, a prompt token {1e6 * found.token_s:.1f} us, "
            f"a call {1e3 * found.call_s:.2f} ms in the engine and {1e3 * found.round_trip_s:.2f} ms outside it, "
            f"{found.chars_per_token:.2f} characters a token",
        )

    def as_json(self) -> Json:
        from dataclasses import asdict

        return {
            "engine": self.spec.id,
            "profile": asdict(self.fit.profile),
            "error": self.fit.error,
            "held_out_error": self.fit.held_out_error,
            "seconds": round(self.seconds, 1),
            "trials": [
                {
                    "name": one.trial.name,
                    "held_out": one.trial.held_out,
                    "runs": one.runs,
                    "measured_s": one.measured_s,
                    "predicted_s": one.predicted_s,
                    "error": one.error,
                }
                for one in self.fit.trials
            ],
        }


async def measure(spec: "EngineSpec", max_running: int, budget_s: float) -> Measured:
    """Raises `NotMeasured` when the engine does not answer, or answers with a failure."""
    from executor.engines.model.fit import fit_profile
    from executor.engines.open import open_engine

    began, engine = time.monotonic(), open_engine(spec)
    try:
        health = await engine.probe()
    finally:
        await engine.close()
    if not health.ready or not (spec.models or health.models):
        raise _not_measured(spec, health.detail or "it serves no model", "start it, or name another")
    spec = replace(spec, models=spec.models or health.models, context_tokens=_context(spec, health))
    runs = await _run(spec, max_running, budget_s)
    fit = fit_profile(_starts(spec, health), runs, max_running, _source(spec, health, len(runs)))
    return Measured(spec, fit, time.monotonic() - began)


async def _run(spec: "EngineSpec", max_running: int, budget_s: float) -> "Sequence[TrialRun]":
    from random import Random

    from executor.clock import WallClock
    from executor.engines.model.trials import trials_for
    from executor.engines.open import open_engine
    from executor.engines.port import EngineFailed
    from executor.engines.profiling import Measuring, run_trials

    engine = open_engine(spec)
    try:
        measuring = Measuring(engine, spec.models[0], WallClock(), Random(time.time_ns()), spec.kind == "vllm")
        return await run_trials(measuring, trials_for(spec.context_tokens, max_running), budget_s)
    except EngineFailed as failed:
        raise _not_measured(spec, str(failed), "see its log; `halo engines probe` asks how it is") from None
    finally:
        await engine.close()


def _not_measured(spec: "EngineSpec", what: str, fix: str) -> "NotMeasured":
    from executor.errors import NotMeasured
    from planner.errors import Problem

    return NotMeasured([Problem(f"engine {spec.id!r}", what, fix)])


def _one_engine(urls: list[str] | None, models: list[str] | None, fleet: Path | None, name: str | None) -> "EngineSpec":
    from halo.batch.engines import named_engines

    specs = named_engines(urls or (), models or (), fleet, os.environ)
    found = [spec for spec in specs if name in (None, spec.id)]
    if len(found) != 1:
        known = ", ".join(spec.id for spec in specs)
        raise typer.BadParameter(f"measure one engine at a time: choose with --id one of {known}", param_hint="--id")
    return found[0]


def _context(spec: "EngineSpec", health: "EngineHealth") -> int:
    return health.context_tokens or spec.context_tokens


def _starts(spec: "EngineSpec", health: "EngineHealth") -> "Sequence[Profile]":
    """What no trial tells, tried: chunks of vLLM's two usual sizes, and prompts that are read whole."""
    from executor.engines.model.profiles import profile_of

    known = profile_of(replace(spec, kv_tokens=health.kv_tokens or spec.kv_tokens))
    whole = replace(known, chunked=False, step_tokens=max(spec.context_tokens, 2048))
    return (*(replace(known, chunked=True, step_tokens=tokens) for tokens in _STEP_TOKENS), whole)


def _source(spec: "EngineSpec", health: "EngineHealth", runs: int) -> str:
    version = f" {health.version}" if health.version else ""
    return f"`halo engines profile`: {runs} runs on {spec.models[0]} ({spec.kind}{version})"


def _cells(one: "Checked") -> Sequence[str]:
    measured, predicted = f"{1e3 * one.measured_s:,.1f} ms", f"{1e3 * one.predicted_s:,.1f} ms"
    return (
        one.trial.name,
        str(one.runs),
        measured,
        predicted,
        f"{one.error:+.1%}",
        "yes" if one.trial.held_out else "",
    )
