"""vLLM's own scheduler under a virtual clock: what holds of any replay, and what stock vLLM does to agent programs."""

import random
from dataclasses import replace

import pytest

pytest.importorskip("vllm", reason="run with `make test-virtual`: it needs .venv-engine's Python", exc_type=ImportError)

from halo_vllm.virtual_time.clients import Prioritised, Silent
from halo_vllm.virtual_time.costs import Step, StepCosts
from halo_vllm.virtual_time.engine import Call, EngineShape, VirtualEngine
from halo_vllm.virtual_time.programs import Program, Replay, Turn
from halo_vllm.virtual_time.replay import replay
from halo_vllm.virtual_time.traces import Load, programs_of

AMPLE = EngineShape(kv_blocks=8192)
TIGHT = EngineShape(kv_blocks=768)
SILENT = Silent()


def stock(shape: EngineShape, rate: float, client: Silent = SILENT, programs: int = 24) -> Replay:
    load = Load(programs=programs, programs_per_s=rate)
    return replay(programs_of(load, random.Random(11)), shape, client)


def test_one_program_alone_takes_what_the_step_costs_say() -> None:
    costs = StepCosts()
    program = Program("p", 2.0, (Turn(640, 3, pause_s=1.5), Turn(64, 2)))
    [result] = replay([program], AMPLE, SILENT).programs
    first, second = result.turns
    assert (first.asked_s, first.cached_tokens, first.prefilled_tokens) == (2.0, 0, 640)
    assert first.ttft_s == pytest.approx(costs(Step(640, 0, 0)))
    assert first.done_s == pytest.approx(first.first_token_s + costs(Step(0, 1, 640)) + costs(Step(0, 1, 641)))
    assert second.asked_s == pytest.approx(first.done_s + 1.5)
    # 642 of 643 tokens have KV, of which whole blocks of 32 are found again.
    assert (second.prompt_tokens, second.cached_tokens, second.prefilled_tokens) == (707, 640, 67)
    assert result.completion_s == second.done_s - 2.0


def test_answers_are_with_their_client_a_round_trip_later() -> None:
    program = Program("p", 2.0, (Turn(640, 3, pause_s=1.5), Turn(64, 2)))
    [at_once], [later] = (replay([program], AMPLE, SILENT, round_trip_s=s).programs for s in (0.0, 0.25))
    assert later.turns[1].asked_s == pytest.approx(at_once.turns[1].asked_s + 0.25)
    assert later.completion_s == pytest.approx(at_once.completion_s + 0.5)


def test_in_a_closed_loop_a_program_arrives_when_another_is_done() -> None:
    programs = [Program(f"p{number}", 0.0, (Turn(64, 2),)) for number in range(3)]
    run = replay(programs, AMPLE, SILENT, at_once=2)
    first, second, third = run.programs
    assert (first.program.arrival_s, second.program.arrival_s) == (0.0, 0.0)
    assert third.program.arrival_s == first.turns[-1].done_s
    assert run.makespan_s == third.turns[-1].done_s


def test_the_same_seed_gives_the_same_run() -> None:
    assert stock(TIGHT, 1.5, programs=8) == stock(TIGHT, 1.5, programs=8)


def test_with_room_for_all_nothing_is_computed_twice() -> None:
    run = stock(AMPLE, 1.5)
    unique = sum(turn.prompt_tokens + turn.output_tokens for r in run.programs for turn in r.program.turns)
    assert run.prefilled_tokens < 1.1 * unique


def test_little_room_makes_stock_vllm_thrash_and_program_order_alone_is_not_enough() -> None:
    ample, stock_run = stock(AMPLE, 1.5), stock(TIGHT, 1.5)
    ordered = stock(replace(TIGHT, policy="priority"), 1.5, Prioritised())
    assert stock_run.cached_share < 0.15
    assert stock_run.mean_s > 3 * ample.mean_s
    assert 2 * ample.mean_s < ordered.mean_s < stock_run.mean_s


def test_prefilled_tokens_are_about_those_of_the_real_engine() -> None:
    """The CPU vLLM 0.32 prefilled 178 thousand to 218 thousand tokens for ten programs on 256 blocks."""
    load = Load(programs=10, programs_per_s=2.0)
    shape = EngineShape(kv_blocks=256, context_tokens=8160)
    prefilled = [replay(programs_of(load, random.Random(seed)), shape, SILENT).prefilled_tokens for seed in (31, 32)]
    assert sum(prefilled) / 2 == pytest.approx(197_700, rel=0.2)


def test_an_aborted_call_leaves_nothing_behind() -> None:
    engine = VirtualEngine(TIGHT)
    free = engine.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    engine.ask(Call("a", tuple(range(100)), 50))
    engine.step()
    engine.abort("a")
    assert engine.step() is None
    assert not engine.busy
    assert engine.scheduler.kv_cache_manager.block_pool.get_num_free_blocks() == free
