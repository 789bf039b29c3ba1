"""Halo's scheduler on vLLM's own, under a virtual clock: what it does for programs, and to nobody else."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="run with `make test-virtual`: it needs .venv-engine's Python", exc_type=ImportError)

from vllm.version import __version__

from halo_vllm import compat
from halo_vllm.settings import BadSettings
from halo_vllm.virtual_time.clients import Clairvoyant, Named, NamedWithTools, Prioritised, Silent
from halo_vllm.virtual_time.engine import HALO_SCHEDULER, STOCK_SCHEDULER, Call, EngineShape, VirtualEngine
from halo_vllm.virtual_time.programs import Program, Replay, Turn
from halo_vllm.virtual_time.replay import replay
from halo_vllm.virtual_time.traces import LONG_TOOLS, SHORT_TOOLS, Load, programs_of

PIN = {"order": "youngest", "keep": "pin", "admission": False, "share": 1.0}


def ours(kv_blocks: int = 768, **halo: Any) -> EngineShape:
    return EngineShape(scheduler=HALO_SCHEDULER, kv_blocks=kv_blocks, halo=halo)


def run(shape: EngineShape, client: Silent, *, rate: float = 1.5, seed: int = 11, **changes: Any) -> Replay:
    return replay(programs_of(Load(programs=24, programs_per_s=rate, **changes), random.Random(seed)), shape, client)


def free_blocks(engine: VirtualEngine) -> int:
    return int(engine.scheduler.kv_cache_manager.block_pool.get_num_free_blocks())


def until_idle(engine: VirtualEngine) -> None:
    while engine.busy:
        engine.step()


def ask(engine: VirtualEngine, call_id: str, tokens: int, hints: Mapping[str, Any], text: int = 0) -> None:
    engine.ask(Call(call_id, tuple(text + at for at in range(tokens)), 4, hints=hints))


def test_programs_finish_sooner_than_on_stock_vllm_in_whatever_order() -> None:
    stock = run(EngineShape(), Silent())
    ordered = run(EngineShape(policy="priority"), Prioritised())
    held = run(ours(), NamedWithTools())
    assert held.mean_s < 0.5 * stock.mean_s
    assert held.mean_s < 0.7 * ordered.mean_s
    assert held.prefilled_tokens < 0.5 * stock.prefilled_tokens


def test_without_any_hint_most_of_the_gain_stays() -> None:
    stock, named, inferred = run(EngineShape(), Silent()), run(ours(), Named()), run(ours(), Silent())
    assert stock.mean_s - inferred.mean_s > 0.8 * (stock.mean_s - named.mean_s)


@pytest.mark.parametrize("rule", ["fixed", "paper", "blind", "halo"])
@pytest.mark.parametrize("tools", [SHORT_TOOLS, LONG_TOOLS])
def test_every_rule_brings_every_program_to_its_end(rule: str, tools: Any) -> None:
    shape = ours(rule=rule, **PIN) if rule in ("fixed", "paper") else ours(rule=rule)
    assert len(run(shape, NamedWithTools(), tools=tools).programs) == 24
    assert len(run(ours(rule="oracle"), Clairvoyant(), tools=tools).programs) == 24


def test_steps_scheduled_ahead_gain_as_much() -> None:
    """As on a GPU: what a step answers is known when the next one is scheduled already."""
    programs = programs_of(Load(programs=24, programs_per_s=1.5), random.Random(11))
    shape = replace(ours(), ahead=True)
    ahead, stock = (
        replay(programs, shape, NamedWithTools()),
        replay(programs, replace(shape, scheduler=STOCK_SCHEDULER), Silent()),
    )
    assert ahead.mean_s < 0.5 * stock.mean_s


def test_with_room_for_all_it_is_as_fast_as_vllm() -> None:
    stock = run(EngineShape(kv_blocks=8192), Silent())
    assert run(ours(8192), NamedWithTools()).mean_s == pytest.approx(stock.mean_s, rel=0.001)


def test_calls_that_are_no_programs_get_stock_vllm_exactly() -> None:
    """Calls that nobody goes on from: same steps, same evictions, same times."""
    load = Load(programs=60, programs_per_s=4.0, turns=(1, 1))
    programs = programs_of(load, random.Random(3))
    assert replay(programs, ours(), Silent()).programs == replay(programs, EngineShape(), Silent()).programs


def test_a_program_that_tells_nothing_is_known_though_its_client_writes_the_answers_otherwise() -> None:
    """Calls that stood alone before it are no part of it; it has ended among them."""
    engine = VirtualEngine(ours())
    for name, text in (("chat/0", 10_000), ("a/0", 0), ("chat/1", 20_000)):
        ask(engine, name, 650, {}, text=text)
        until_idle(engine)
    assert engine.scheduler._programs.asleep
    engine.ask(Call("a/1", (*range(650), *range(700, 720)), 4))
    until_idle(engine)
    stats = engine.scheduler.halo_stats()
    assert (stats["programs"], stats["warm_resumes"]) == (1, 1)


def test_kept_blocks_are_free_to_whoever_needs_them() -> None:
    engine = VirtualEngine(ours(kv_blocks=64))
    empty = free_blocks(engine)
    ask(engine, "a/0", 1000, {"halo_program": "a"})
    until_idle(engine)
    assert free_blocks(engine) == empty
    assert engine.scheduler.halo_stats()["retained_share"] == pytest.approx(31 / 64)
    ask(engine, "chat", 1900, {}, text=10_000)
    until_idle(engine)
    assert engine.scheduler.halo_stats()["pressure_evictions"] == 28


def beside_a_long_answer() -> VirtualEngine:
    """`a` waits with 31 of 63 blocks, a long answer has a third, and a prompt is here that would take some of a's."""
    engine = VirtualEngine(ours(kv_blocks=64, admission=False))
    ask(engine, "a/0", 1000, {"halo_program": "a", "halo_eta_s": 1.9})
    until_idle(engine)
    engine.ask(Call("long", tuple(range(10_000, 10_640)), 200, hints={"halo_program": "long"}))
    engine.step()
    ask(engine, "late", 640, {"halo_program": "late"}, text=20_000)
    engine.step()
    return engine


def test_who_would_start_waits_for_a_program_that_is_soon_back() -> None:
    engine = beside_a_long_answer()
    ask(engine, "a/1", 1004, {"halo_program": "a", "halo_last": 1})
    until_idle(engine)
    stats = engine.scheduler.halo_stats()
    assert (stats["warm_resumes"], stats["pressure_evictions"]) == (1, 0)


def test_who_would_start_takes_the_room_once_it_has_waited_as_long_as_that_is_worth() -> None:
    engine = beside_a_long_answer()
    assert engine.scheduler.halo_stats()["pressure_evictions"] == 0
    engine.now_s += 2.0
    engine.step()
    assert engine.scheduler.halo_stats()["pressure_evictions"] > 0
    until_idle(engine)


def test_kept_blocks_outlast_ordinary_ones_and_expire() -> None:
    engine = VirtualEngine(ours(kv_blocks=64))
    ask(engine, "a/0", 640, {"halo_program": "a"})
    until_idle(engine)
    for number in range(6):
        ask(engine, f"chat/{number}", 640, {}, text=1000 * (number + 1))
        until_idle(engine)
    assert engine.scheduler.halo_stats()["pressure_evictions"] == 0
    engine.now_s += 60.0
    ask(engine, "chat/late", 32, {}, text=50_000)
    until_idle(engine)
    stats = engine.scheduler.halo_stats()
    assert (stats["expiries"], stats["retained_share"]) == (1, 0)


def test_the_last_step_and_let_go_free_at_once() -> None:
    engine = VirtualEngine(ours())
    ask(engine, "a/0", 320, {"halo_program": "a", "halo_last": 1})
    ask(engine, "b/0", 320, {"halo_program": "b"}, text=1000)
    ask(engine, "c/0", 320, {"halo_program": "c"}, text=2000)
    until_idle(engine)
    assert engine.scheduler.halo_stats()["retained_share"] == pytest.approx(20 / 768)
    engine.hint({"program": "b", "event": "let_go"})
    engine.hint({"program": "c", "event": "last_step"})
    assert engine.scheduler.halo_stats()["retained_share"] == 0


def test_a_branch_that_was_left_is_kept_no_longer() -> None:
    engine = VirtualEngine(ours())
    ask(engine, "a/0", 640, {"halo_program": "a"})
    until_idle(engine)
    engine.ask(Call("a/1", (*range(320), *range(5000, 5064)), 4, hints={"halo_program": "a"}))
    until_idle(engine)
    stats = engine.scheduler.halo_stats()
    assert (stats["retained_share"], stats["demotions"]) == (pytest.approx(12 / 768), 10)
    first = engine.scheduler.kv_cache_manager.block_pool.get_new_blocks(10)
    assert all(block.block_id in range(11, 21) for block in first)


def test_a_prefix_that_two_programs_keep_goes_with_the_second() -> None:
    engine = VirtualEngine(ours())
    for name in ("a", "b"):
        engine.ask(Call(f"{name}/0", (*range(320), *(ord(name),) * 320), 4, hints={"halo_program": name}))
        until_idle(engine)
    assert engine.scheduler.halo_stats()["retained_share"] == pytest.approx(30 / 768)
    engine.hint({"program": "a", "event": "let_go"})
    assert engine.scheduler.halo_stats()["retained_share"] == pytest.approx(20 / 768)


def test_reset_and_abort_leave_nothing_behind() -> None:
    engine = VirtualEngine(ours())
    empty = free_blocks(engine)
    ask(engine, "a/0", 640, {"halo_program": "a"})
    until_idle(engine)
    assert engine.scheduler.reset_prefix_cache()
    assert engine.scheduler.halo_stats()["retained_share"] == 0
    ask(engine, "a/1", 640, {"halo_program": "a"})
    engine.step()
    engine.abort("a/1")
    assert engine.step() is None
    assert free_blocks(engine) == empty
    assert engine.scheduler.halo_stats()["retained_share"] == 0


def test_preempted_programs_come_to_their_end() -> None:
    """Long answers outgrow the KV while they are written."""
    programs = [Program(f"p{n}", 0.1 * n, (Turn(400, 600, 0.5), Turn(100, 300))) for n in range(8)]
    shape = EngineShape(scheduler=HALO_SCHEDULER, kv_blocks=96)
    result = replay(programs, shape, Named())
    assert len(result.programs) == 8
    assert dict(result.counters)["preemptions"] > 0


def test_tools_that_never_return_and_programs_that_never_end_hold_up_nobody() -> None:
    engine = VirtualEngine(ours(kv_blocks=128))
    for number in range(40):
        ask(engine, f"gone/{number}", 1000, {"halo_program": f"gone-{number}"}, text=5000 * number)
        for _ in range(2000):
            if engine.step() is None:
                engine.now_s += 0.01
            if not engine.busy:
                break
        assert not engine.busy


def test_a_tenant_cannot_touch_another_s_program() -> None:
    engine = VirtualEngine(ours())
    engine.ask(Call("a/0", tuple(range(320)), 4, cache_salt="one", hints={"halo_program": "a"}))
    until_idle(engine)
    engine.hint({"program": "a", "event": "let_go", "cache_salt": "two"})
    assert engine.scheduler.halo_stats()["retained_share"] > 0
    engine.hint({"program": "a", "event": "let_go", "cache_salt": "one"})
    assert engine.scheduler.halo_stats()["retained_share"] == 0


def test_an_unknown_vllm_gets_stock_behaviour() -> None:
    scheduler = VirtualEngine(EngineShape()).scheduler
    assert compat.problems(scheduler) == []
    assert compat.problems(scheduler, version="0.99.0") == ["vLLM 0.99.0 is not between 0.24 and 0.33"]
    assert compat.problems(scheduler, version="0.32.1.dev3+gabc") == []


def test_what_this_vllm_lacks_is_told() -> None:
    """0.24 and what came soon after it; all that the other tests promise holds there too."""
    version = tuple(map(int, __version__.split(".")[:2]))
    assert len(compat.lacks()) == 2 or version > compat.OLDEST
    assert not compat.lacks() or version < (0, 28)


def test_wrong_settings_are_all_told_at_once() -> None:
    with pytest.raises(BadSettings, match=r"'ttl' is no setting.*admission='no' should be a bool.*rule='best'"):
        VirtualEngine(ours(ttl=3, admission="no", rule="best"))
