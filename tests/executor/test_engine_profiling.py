"""From calls of an engine to its profile: what is measured, what is fitted, and how wrong it may be."""

from dataclasses import replace
from random import Random

import pytest

from executor.clock import WallClock
from executor.engines.answers import Answer, FromFunction
from executor.engines.failures import failed
from executor.engines.model.fit import fit_profile
from executor.engines.model.profiles import profile_for
from executor.engines.model.trials import Ask, Trial, TrialRun, predicted_s, trials_for
from executor.engines.port import EngineSpec, FailureClass, Usage
from executor.engines.profiling import Measuring, run_trials
from executor.engines.scripted import Scripted
from planner.cost.profile import Profile
from planner.ir.ids import EngineId

EVEN = Profile(
    gpu="even",
    source="made up for tests",
    calibrated=False,
    weights_s=0.0,
    token_s=0.0,
    blend=1.0,
    kv_read_s=0.0,
    attend_s=0.0,
    kv_tokens=1024,
    overhead_s=1.0,
    block_tokens=4,
    step_tokens=8,
)
TRUE = replace(
    profile_for("cpu"),
    overhead_s=3e-3,
    token_s=40e-6,
    sequence_s=80e-6,
    call_s=1.5e-3,
    round_trip_s=6e-3,
    attend_s=30e-9,
    look_back_s=20e-9,
    kv_read_s=0.3e-6,
    wake_s=4e-3,
    step_tokens=8192,
    block_tokens=32,
)
MOST = 16


def run_of(trial: Trial, profile: Profile, seconds: float | None = None) -> TrialRun:
    """A trial as an engine of that profile would run it, with a tokenizer of 3 characters a token."""
    prefix = max((ask.shared_tokens for stream in trial.streams for ask in stream), default=0) // 32 * 32
    usages = tuple(
        tuple(Usage(ask.prompt_tokens, ask.output_tokens, prefix if n or i else 0) for i, ask in enumerate(stream))
        for n, stream in enumerate(trial.streams)
    )
    characters = tuple(tuple(3 * (ask.prompt_tokens - 10) for ask in stream) for stream in trial.streams)
    run = TrialRun(trial, usages, characters, 1.0)
    return replace(run, seconds=seconds or predicted_s(profile, run, MOST))


def plain_run(*streams: tuple[Usage, ...]) -> TrialRun:
    asks = tuple(tuple(Ask(usage.prompt_tokens, usage.output_tokens) for usage in stream) for stream in streams)
    return TrialRun(Trial("plain", asks), streams, (), 0.0)


def test_streams_run_beside_each_other_and_the_calls_of_one_after_each_other():
    two_after_each_other = plain_run((Usage(8, 2), Usage(8, 3)))
    assert predicted_s(EVEN, two_after_each_other, MOST) == 5.0
    beside = plain_run((Usage(4, 2), Usage(4, 3)), (Usage(4, 2), Usage(4, 3)))
    assert predicted_s(EVEN, beside, MOST) == 5.0
    assert predicted_s(replace(EVEN, round_trip_s=0.5), two_after_each_other, MOST) == 6.0
    assert predicted_s(replace(EVEN, call_s=0.25), beside, MOST) == 6.0


def test_a_prompt_that_is_not_read_in_chunks_waits_for_a_step_with_room():
    beside = plain_run((Usage(6, 1),), (Usage(6, 1),))
    assert predicted_s(replace(EVEN, token_s=1.0, overhead_s=0.0), beside, MOST) == 12.0
    chunked = EVEN.step_s(8, 2, 2, 0, 0.0)
    assert chunked == 1.0
    assert predicted_s(replace(EVEN, chunked=False), beside, MOST) == 2.0


def test_rests_between_calls_are_no_part_of_what_they_take_but_cool_the_engine():
    rested = TrialRun(Trial("rested", ((Ask(8, 2), Ask(8, 3, rest_s=10.0)),)), ((Usage(8, 2), Usage(8, 3)),), (), 0.0)
    assert predicted_s(EVEN, rested, MOST) == 5.0
    assert predicted_s(replace(EVEN, wake_s=0.25), rested, MOST) == 5.5


def test_the_fit_finds_an_engine_again_though_some_runs_were_slow():
    trials = trials_for(16_384, MOST)
    runs = [run_of(trial, TRUE) for trial in trials]
    slow = [replace(run, seconds=3 * run.seconds) for run in runs[::3]]
    fit = fit_profile(
        [replace(profile_for("cpu"), step_tokens=tokens) for tokens in (2048, 8192)], runs + runs + slow, MOST, "a test"
    )
    assert fit.error < 0.02
    assert fit.held_out_error is not None
    assert fit.held_out_error < 0.03
    assert fit.profile.calibrated
    assert fit.profile.kv_read_s == pytest.approx(TRUE.kv_read_s, rel=0.1)
    assert fit.profile.wake_s == pytest.approx(TRUE.wake_s, rel=0.1)
    assert (fit.profile.step_tokens, fit.profile.block_tokens) == (8192, 32)
    assert fit.profile.chars_per_token == pytest.approx(3.0, rel=0.02)
    assert fit.profile.template_tokens == pytest.approx(10, abs=2)
    assert {one.runs for one in fit.trials} == {2, 3}


async def test_trials_are_run_in_turns_and_no_prompt_twice():
    asked = []

    def answer(request):
        asked.append(request)
        return Answer("word " * 400)

    engine = Scripted(EngineSpec(EngineId("e"), "scripted", ("m",), context_tokens=16_384), FromFunction(answer))
    trials = trials_for(16_384, 4)
    runs = await run_trials(Measuring(engine, "m", WallClock(), Random(1), min_tokens=False), trials, budget_s=0.0)
    assert [run.trial for run in runs] == list(trials)
    assert len({str(request.messages) for request in asked}) == len(asked)
    for run in runs:
        for asks, usages in zip(run.trial.streams, run.streams, strict=True):
            for ask, usage in zip(asks, usages, strict=True):
                assert usage.prompt_tokens == pytest.approx(ask.prompt_tokens, rel=0.35, abs=12)
                assert usage.output_tokens == ask.output_tokens


async def test_a_connection_that_breaks_once_does_not_end_the_measuring():
    broken = iter([True])

    def answer(request):
        if "profile" in request.call_id and len(str(request.messages)) > 4000 and next(broken, False):
            raise failed(FailureClass.ENGINE_DIED, "engine_died", "the connection broke")
        return Answer("word " * 400)

    engine = Scripted(EngineSpec(EngineId("e"), "scripted", ("m",), context_tokens=16_384), FromFunction(answer))
    trials = trials_for(16_384, 4)
    runs = await run_trials(Measuring(engine, "m", WallClock(), Random(1), min_tokens=False), trials, budget_s=0.0)
    assert next(broken, None) is None
    assert [run.trial for run in runs] == list(trials)
