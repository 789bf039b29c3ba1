"""Migration in virtual time: programs leave engines that are busier or slower, and stay where all is even.

The engines' steps take as long as was measured on a CPU engine of one core with long contexts.
"""

from dataclasses import replace
from statistics import fmean

from benchmarks.scheduling.migration import make_load, places_of
from benchmarks.scheduling.migration_lab import Ran
from benchmarks.scheduling.migration_model import run_modelled
from executor.engines.model.profiles import profile_for
from executor.engines.port import EngineSpec
from executor.events import EngineDraining
from planner.cost.profile import Profile
from planner.ir.ids import EngineId

ENGINES = (EngineId("engine-0"), EngineId("engine-1"))
PROGRAMS, CONTEXT, TURNS = 6, 11_000, 8
#: KV for five programs, and for two.
ROOMY, TIGHT = 65_536, 28_672


def profile(slower: float = 1.0, kv_tokens: int = ROOMY) -> Profile:
    return replace(
        profile_for("cpu"),
        weights_s=0.0,
        blend=1.0,
        overhead_s=2.4e-3 * slower,
        sequence_s=0.12e-3 * slower,
        kv_read_s=0.47e-6 * slower,
        token_s=42e-6 * slower,
        attend_s=26e-9 * slower,
        look_back_s=26e-9 * slower,
        kv_tokens=kv_tokens,
        block_tokens=32,
        step_tokens=16_384,
        chunked=False,
        round_trip_s=0.0,
    )


def spec(engine: EngineId, tier: str, kv_tokens: int) -> EngineSpec:
    return EngineSpec(
        engine,
        "vllm",
        ("tiny-llama",),
        gpu="cpu",
        profile=profile(),
        context_tokens=16_352,
        kv_tokens=kv_tokens,
        kv_tier=tier,
        kv_tier_gib=2.0,
        kv_tier_gb_per_s=1.0,
    )


def run(load: str, arm: str, slower: float = 1.0, drained_s: float | None = None, kv_tokens: int = ROOMY) -> list[Ran]:
    """The first engine is so much slower than believed, and is drained after some seconds or not."""
    specs = [spec(engine, "" if arm == "unaware" else "host", kv_tokens) for engine in ENGINES]
    fleets = [[one] for one in specs] if arm in ("sticky", "foreseen") else [specs]
    places = places_of(arm, make_load(load, PROGRAMS, CONTEXT, TURNS, load), range(len(fleets)))
    drained = [] if drained_s is None else [EngineDraining(drained_s, ENGINES[0])]
    profiles = {ENGINES[0]: profile(slower, kv_tokens), ENGINES[1]: profile(kv_tokens=kv_tokens)}
    return run_modelled(places, fleets, profiles, drained)


def mean_s(ran: list[Ran]) -> float:
    return fmean(one.seconds for one in ran)


def test_sessions_that_share_an_engine_by_bad_luck_are_done_sooner_where_they_may_leave() -> None:
    sticky, migration, foreseen = (run("skewed", arm) for arm in ("sticky", "migration", "foreseen"))
    assert mean_s(sticky) >= 1.3 * mean_s(migration)
    assert mean_s(migration) <= 1.05 * mean_s(foreseen)


def test_programs_spread_anew_once_others_have_ended() -> None:
    sticky, migration = run("ending", "sticky"), run("ending", "migration")
    assert mean_s(sticky) >= 1.2 * mean_s(migration)
    assert sum(one.moves for one in migration) > 0


def test_where_all_is_even_moving_harms_nobody() -> None:
    assert mean_s(run("balanced", "sticky")) >= 0.98 * mean_s(run("balanced", "migration"))


def test_programs_leave_an_engine_that_is_too_full() -> None:
    """Of three long ones two fit."""
    sticky, migration = (run("skewed", arm, kv_tokens=TIGHT) for arm in ("sticky", "migration"))
    assert mean_s(sticky) >= 1.3 * mean_s(migration)


def test_where_both_are_too_full_moving_without_the_tier_would_read_contexts_over_and_over() -> None:
    sticky, unaware, migration = (run("balanced", arm, kv_tokens=TIGHT) for arm in ("sticky", "unaware", "migration"))
    assert mean_s(unaware) >= 1.3 * mean_s(migration)
    assert mean_s(sticky) >= 0.98 * mean_s(migration)


def test_programs_leave_an_engine_whose_pace_falls() -> None:
    """It is four times as slow as the other, which only its answers tell."""
    sticky, migration = run("balanced", "sticky", slower=4.0), run("balanced", "migration", slower=4.0)
    last = [one.engines[-1] for one in migration]
    assert mean_s(sticky) >= 1.3 * mean_s(migration)
    assert last.count(ENGINES[0]) <= 1
    assert sum(one.moves for one in migration) <= 2 * PROGRAMS


def test_programs_leave_a_draining_engine_and_take_their_kv_with_them() -> None:
    """Without the tier each of those that leave has its context read again."""
    drained_s = 10.0
    unaware, migration = (
        run("balanced", "unaware", drained_s=drained_s),
        run("balanced", "migration", drained_s=drained_s),
    )
    for one in migration:
        done_s = [sum(one.turns_s[: turn + 1]) for turn in range(TURNS)]
        later = [engine for engine, at_s in zip(one.engines, done_s, strict=True) if at_s > 2 * drained_s]
        assert set(later) == {ENGINES[1]}
    assert sum(one.cached_tokens for one in migration) - sum(one.cached_tokens for one in unaware) >= 2 * CONTEXT
    assert mean_s(migration) < mean_s(unaware)


def test_what_was_said_is_the_same_wherever_it_was_read() -> None:
    sticky, migration = run("ending", "sticky"), run("ending", "migration")
    assert [one.prompt_tokens for one in sticky] == [one.prompt_tokens for one in migration]
    assert all(one.cached_tokens < one.prompt_tokens for one in migration)
