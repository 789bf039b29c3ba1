"""Text-to-SQL requests as programs: what is drawn, what the core finds out as it runs, and what engines may share."""

from pathlib import Path
from random import Random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scheduling.fleets import alone_s, base_s, fleet_named, path_s, profile_for, profiles_of
from benchmarks.scheduling.lengths import PUBLISHED_MEANS
from benchmarks.scheduling.program import calls_by_path, calls_of_known_plan, expected_lengths, known_plan, program_plan
from benchmarks.scheduling.programs import Asked
from benchmarks.scheduling.replay import Replayed, replay
from benchmarks.scheduling.requests import Call, Request, Step
from benchmarks.scheduling.reuse import Reuse, block_names, least_read
from benchmarks.scheduling.traces import Arriving, poisson, traces_in
from executor.core.scheduler import Scheduler
from executor.prompt_blocks import BLOCK_TOKENS
from planner.cost.gpus import gpu_named
from planner.cost.model import Replica, call_seconds, matrix_seconds
from planner.cost.shapes import LLAMA_3_70B
from planner.ir.check import check

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "hexgen_text2sql"
FLEET = fleet_named("hetero-1")


def draw(trace: str = "own natural", count: int = 30, seed: int = 3) -> list[Request]:
    return traces_in(None)[trace](count, Random(seed))


def run(arriving: list[Arriving], *, engines: int = 4, known: bool = False, reuse: Reuse = Reuse.NONE) -> Replayed:
    fleet = FLEET[:engines]
    core = Scheduler(fleet)
    replayed = replay(arriving, fleet, core, Asked(150.0, reuse, known))
    core.check_state()
    return replayed


@given(seed=st.integers(0, 1000), revised=st.booleans(), known=st.booleans())
@settings(max_examples=15, deadline=None)
def test_every_call_of_the_trace_is_made_once_whether_known_beforehand_or_found_out(
    seed: int, revised: bool, known: bool
) -> None:
    (request,) = draw("own revised" if revised else "own natural", 1, seed)
    done = run([Arriving(5.0, request)], known=known)
    calls = request.calls
    assert sum(done.work.calls_at.values()) == len(calls)
    assert done.work.prompt_tokens == sum(call.prompt_tokens for call in calls)
    assert done.work.output_tokens == sum(call.output_tokens for call in calls)


def test_a_request_alone_takes_its_stages_one_after_the_other() -> None:
    (request,) = draw(count=1)
    (ended,) = run([Arriving(5.0, request)], engines=1).ended
    profile = profiles_of(FLEET)[0]
    least_s = sum(max(alone_s(profile, call) for call in stage) for stage in request.stages)
    most_s = sum(alone_s(profile, call) for call in request.calls)
    assert least_s < ended.took_s < most_s
    assert ended.arrived_s == 5.0


def test_no_request_beats_its_longest_path() -> None:
    requests = draw(count=10)
    done = run(poisson(requests, 0.05, Random(1)))
    assert all(e.took_s > path_s(FLEET, request) - 1e-6 for e, request in zip(done.ended, requests, strict=True))


def test_one_seed_gives_one_run() -> None:
    arriving = poisson(draw(), 0.2, Random(7))
    assert run(arriving) == run(arriving)
    assert draw(seed=4) != draw()


def test_the_plans_are_sound_and_name_every_call() -> None:
    assert check(program_plan()) == ()
    for request in draw(count=10):
        assert check(known_plan(request)) == ()
        assert sorted(calls_by_path(request).values(), key=str) == sorted(request.calls, key=str)
        assert len(calls_of_known_plan(request)) == len(request.calls)
    assert len(expected_lengths()) == 4 + 1 + 2 + 1 + 3 + 1 + 1


def test_requests_of_our_own_are_as_long_as_those_published() -> None:
    calls = [call for request in draw(count=400) for call in request.calls]
    for step, prompt, answer in ((Step.CANDIDATE, 10_500, 590), (Step.RETRIEVER, 306, 7.5), (Step.EVALUATE, 925, 30)):
        of_step = [call for call in calls if call.step is step]
        assert mean(call.prompt_tokens for call in of_step) == pytest.approx(prompt, rel=0.1)
        assert mean(call.output_tokens for call in of_step) == pytest.approx(answer, rel=0.25)


def test_shared_templates_are_found_and_what_a_request_shares_with_itself_too() -> None:
    (request,) = draw("own revised", 1, seed=11)
    assert len(request.revisions) > 2
    cached = [run([Arriving(0.0, request)], engines=1, reuse=reuse).work.cached_tokens for reuse in Reuse]
    assert cached[0] == 0 < cached[1] < cached[2]
    read = least_read(Reuse.REQUEST, request).calls
    assert sum(call.prompt_tokens for call in request.calls) - cached[2] >= sum(call.prompt_tokens for call in read)


def test_requests_share_nothing_but_templates() -> None:
    (request,) = draw("own revised", 1, seed=11)
    call = request.revisions[0]
    one, other = (block_names(Reuse.REQUEST, number, call) for number in (0, 1))
    template = block_names(Reuse.TEMPLATE, 0, call)
    assert set(one) & set(other) == set(template)
    assert one[: len(template)] == template
    assert len(one) * BLOCK_TOKENS <= call.prompt_tokens


@pytest.mark.parametrize("kind", ["A100-40", "A6000", "L40S", "H100"])
def test_profiles_are_those_of_the_cost_model(kind: str) -> None:
    gpu = gpu_named(kind)
    assert gpu is not None
    replica, profile = Replica(gpu, LLAMA_3_70B, 4), profile_for(kind)
    for tokens in (1, 64, 2048):
        step_s = matrix_seconds(replica, tokens) + gpu.efficiency.step_s
        assert profile.matrix_s(tokens) == pytest.approx(step_s, rel=0.12)
    seconds = call_seconds(replica, 10_000, 680).p50
    assert alone_s(profile, Call(Step.CANDIDATE, 10_000, 680)) == pytest.approx(seconds, rel=0.05)


def test_the_published_calibration_has_the_published_base_of_deadlines() -> None:
    assert base_s(fleet_named("hetero-1", "published")) == pytest.approx(76.8, rel=0.02)
    assert set(PUBLISHED_MEANS) == set(Step)


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded requests are not here")
def test_recorded_requests_come_in_their_order_round_and_round() -> None:
    traces = traces_in(RECORDED)
    again = traces["trace1"](200, Random(0))
    length = next(i for i in range(1, 200) if again[i:] == again[:-i])
    assert again[0] == again[length]
    assert all(len(request.calls) >= 10 for request in traces["natural"](100, Random(0)))
