"""Which engines are quiet for tenants that ask for little, and when others may bring prompts there."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from executor.core.quieting import Quiet
from executor.engines.port import EngineSpec
from executor.policy.fairness import Account, FairShares, TenantShare
from executor.policy.quiet import FULL, LEAST_PART, OTHERS_SHARE, UNREAD_S, Standing, Unread, quiet_parts
from executor.policy.routing import EngineView
from executor.slo import SloClass
from planner.ir.ids import EngineId

FOUR = [Standing(EngineId(f"e{number}"), 16, 0, 0.0) for number in range(4)]


def test_where_nobody_calm_has_calls_every_engine_is_for_all() -> None:
    assert quiet_parts(FOUR, calls=0, share=0.5) == {}


def test_as_many_engines_are_quiet_as_the_calls_fill_by_half_and_no_more_than_the_share() -> None:
    assert len(quiet_parts(FOUR, calls=8, share=0.5)) == 1
    assert len(quiet_parts(FOUR, calls=9, share=0.5)) == 2
    assert quiet_parts(FOUR, calls=60, share=0.5) == {EngineId("e0"): LEAST_PART, EngineId("e1"): LEAST_PART}


def test_what_is_less_than_an_engine_is_a_part_of_ones_time() -> None:
    assert quiet_parts(FOUR[:1], calls=3, share=0.25) == {EngineId("e0"): 0.75}
    assert quiet_parts(FOUR[:3], calls=60, share=0.5) == {EngineId("e0"): LEAST_PART, EngineId("e1"): 0.5}


def test_engines_stay_quiet_rather_than_others_then_come_those_that_have_most_calls_of_the_calm() -> None:
    quiet, full, idle = EngineId("quiet"), EngineId("full"), EngineId("idle")
    engines = [Standing(idle, 8, 0, 0.0), Standing(full, 8, 5, 9.0), Standing(quiet, 8, 1, 9.0, quiet=True)]
    assert list(quiet_parts(engines, calls=4, share=1.0)) == [quiet]
    assert list(quiet_parts(engines, calls=8, share=1.0)) == [quiet, full]


def test_a_long_prompt_is_followed_by_the_next_when_it_was_worked_off_at_the_part() -> None:
    unread = Unread(part=0.1)
    unread.brought(0.5, now_s=10.0)
    assert not unread.open(14.9)
    assert unread.open(15.0)


def test_where_nobody_calm_is_inside_only_what_would_delay_one_that_comes_must_wait() -> None:
    unread = Unread()
    unread.brought(UNREAD_S, now_s=0.0)
    assert unread.open(0.0)
    unread.brought(0.5, now_s=0.0)
    assert not unread.open(0.4)
    assert unread.open(0.5)


def test_what_was_brought_at_one_part_is_worked_off_at_the_other_once_that_changes() -> None:
    unread = Unread(part=0.1)
    unread.brought(1.0, now_s=0.0)
    unread.goes_on(1.0, now_s=2.0)
    assert unread.opens_s() == 2.0 + 0.8 - UNREAD_S


_standings = st.lists(
    st.builds(
        Standing,
        st.integers(0, 30).map(lambda number: EngineId(f"e{number}")),
        st.integers(1, 64),
        st.integers(0, 64),
        st.floats(0.0, 100.0),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda one: one.engine,
)


@given(_standings, st.integers(0, 500), st.floats(0.0, 1.0))
def test_others_keep_all_that_they_are_entitled_to(engines: list[Standing], calls: int, share: float) -> None:
    parts = quiet_parts(engines, calls, share)
    assert all(LEAST_PART <= part <= 1.0 for part in parts.values())
    assert len(engines) - len(parts) + sum(parts.values()) >= (1 - share) * len(engines) - 1e-6


@given(_standings, st.integers(0, 500), st.floats(0.0, 1.0))
def test_no_engine_is_quiet_that_the_calls_of_the_calm_do_not_need(
    engines: list[Standing], calls: int, share: float
) -> None:
    places = {one.engine: one.places for one in engines}
    chosen = list(quiet_parts(engines, calls, share))
    assert not chosen or FULL * sum(places[engine] for engine in chosen[:-1]) < calls


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 3.0), st.floats(LEAST_PART, 1.0)), max_size=40))
def test_every_prompt_comes_in_the_end_and_no_more_is_read_than_the_part_allows(
    steps: list[tuple[float, float, float]],
) -> None:
    """Nobody starves: who waits until it opens finds it open, after no longer than what is unread takes."""
    unread, now_s, brought_s, allowed_s, last_s = Unread(), 0.0, 0.0, 0.0, 0.0
    for after_s, prefill_s, part in steps:
        unread.goes_on(part, now_s)
        begin_s, now_s = now_s, max(now_s + after_s, unread.opens_s())
        allowed_s += part * (now_s - begin_s)
        assert unread.open(now_s)
        assert brought_s <= allowed_s + UNREAD_S + last_s + 1e-6
        unread.brought(prefill_s, now_s)
        brought_s, last_s = brought_s + prefill_s, max(last_s, prefill_s)


ANN, EVE = Account("ann", SloClass.STANDARD), Account("eve", SloClass.STANDARD)
VIEWS = [EngineView(EngineSpec(one.engine, "scripted", ("m",), max_running=16)) for one in FOUR]
FIRST = VIEWS[0].spec.id
POOL, ALONE = "m", "sql"  # the second is the first engine alone


def beside_a_flood() -> Quiet:
    """Ann has a call in the first engine; eve has had calls waiting for three looks."""
    quiet = Quiet(FairShares())
    quiet.sent(ANN, FIRST, 0.1, 0.0)
    for now_s in (0.0, 1.0, 2.0):
        quiet.look({POOL: VIEWS, ALONE: VIEWS[:1]}, [EVE], now_s)
    return quiet


def open_to(quiet: Quiet, account: Account, now_s: float) -> list[EngineId]:
    return [view.spec.id for view in quiet.open_to(account, POOL, VIEWS, now_s)]


def test_prompts_of_who_has_a_backlog_come_one_after_the_other_to_the_engine_of_who_asks_for_little() -> None:
    quiet = beside_a_flood()
    assert FIRST in open_to(quiet, EVE, 2.0)
    quiet.sent(EVE, FIRST, 0.5, 2.0)
    assert open_to(quiet, EVE, 2.0) == [view.spec.id for view in VIEWS[1:]]
    assert quiet.opens_s() == 2.0 + 0.5 / LEAST_PART
    assert FIRST in open_to(quiet, EVE, 7.0)


def test_who_asks_for_little_is_kept_from_nothing_and_goes_to_quiet_engines_first() -> None:
    quiet = beside_a_flood()
    quiet.sent(EVE, FIRST, 0.5, 2.0)
    assert len(open_to(quiet, ANN, 2.0)) == 4
    engines = [view.spec.id for view in VIEWS]
    assert quiet.kept_to(ANN, engines) == [FIRST]
    assert quiet.kept_to(ANN, engines[1:]) == engines[1:]
    assert quiet.kept_to(EVE, engines) == engines


def test_once_its_call_is_answered_the_engine_is_for_others_but_for_what_would_delay_its_next() -> None:
    quiet = beside_a_flood()
    quiet.left(ANN, FIRST, 2.0)
    for _ in range(2):
        assert FIRST in open_to(quiet, EVE, 2.0)
        quiet.sent(EVE, FIRST, UNREAD_S, 2.0)
    assert FIRST not in open_to(quiet, EVE, 2.0)
    assert quiet.opens_s() == 2.0 + UNREAD_S


def test_others_leave_places_and_kv_in_a_quiet_engine_for_a_call_that_may_come() -> None:
    quiet = beside_a_flood()
    views = [replace(view, running=12) for view in VIEWS]
    assert [view.spec.id for view in quiet.open_to(EVE, POOL, views, 2.0)] == [view.spec.id for view in VIEWS[1:]]
    assert len(quiet.open_to(ANN, POOL, views, 2.0)) == 4
    assert [quiet.kv_share(EVE, POOL, view.spec.id) for view in VIEWS] == [OTHERS_SHARE, 1.0, 1.0, 1.0]
    assert [quiet.kv_share(ANN, POOL, view.spec.id) for view in VIEWS] == [1.0] * 4


def test_where_every_engine_is_quiet_others_have_all_places_that_are_free() -> None:
    quiet = Quiet(FairShares())
    quiet.sent(ANN, FIRST, 0.1, 0.0)
    for now_s in (0.0, 1.0, 2.0):
        quiet.look({POOL: VIEWS[:1]}, [EVE], now_s)
    assert quiet.kept_to(ANN, [FIRST]) == [FIRST]
    assert quiet.open_to(EVE, POOL, [replace(VIEWS[0], running=15)], 2.0)
    assert quiet.kv_share(EVE, POOL, FIRST) == 1.0


def test_who_may_go_to_no_other_engine_has_all_places_and_kv_of_a_quiet_one() -> None:
    quiet, full = beside_a_flood(), [replace(VIEWS[0], running=15)]
    assert not quiet.open_to(EVE, POOL, full, 2.0)
    assert quiet.open_to(EVE, ALONE, full, 2.0)
    assert quiet.keeps_room(EVE, POOL)
    assert not quiet.keeps_room(EVE, ALONE)
    assert quiet.kv_share(EVE, ALONE, FIRST) == 1.0


def test_asked_of_one_engine_it_is_as_open_as_asked_of_all() -> None:
    quiet = beside_a_flood()
    for running in (11, 12, 15):
        views = [replace(view, running=running) for view in VIEWS]
        one_by_one = [view for view in views if quiet.is_open(EVE, POOL, view, 2.0)]
        assert quiet.open_to(EVE, POOL, views, 2.0) == one_by_one == views[0 if running < 12 else 1 :]


def test_engines_are_as_before_a_minute_after_the_last_call() -> None:
    quiet = beside_a_flood()
    quiet.left(ANN, FIRST, 2.0)
    quiet.sent(EVE, FIRST, 10.0, 2.0)
    quiet.look({POOL: VIEWS}, [EVE], 70.0)
    assert len(open_to(quiet, EVE, 70.0)) == 4


def test_where_all_have_a_backlog_turns_are_all_that_counts() -> None:
    quiet = beside_a_flood()
    for now_s in (3.0, 4.0):
        quiet.look({POOL: VIEWS}, [ANN, EVE], now_s)
    quiet.sent(EVE, FIRST, 10.0, 4.0)
    assert len(open_to(quiet, EVE, 4.0)) == len(open_to(quiet, ANN, 4.0)) == 4


def test_a_tenant_alone_is_kept_from_no_engine_and_to_none() -> None:
    quiet, idle = Quiet(FairShares()), Account("ann", SloClass.BACKGROUND)
    quiet.sent(ANN, FIRST, 0.1, 0.0)
    for now_s in (0.0, 1.0):
        quiet.look({POOL: VIEWS}, [idle], now_s)
    quiet.sent(idle, FIRST, 10.0, 1.0)
    assert len(open_to(quiet, idle, 1.0)) == 4
    assert quiet.kv_share(idle, POOL, FIRST) == 1.0
    assert quiet.kept_to(ANN, [view.spec.id for view in VIEWS]) == [view.spec.id for view in VIEWS]


def test_background_work_of_others_never_makes_an_engine_quiet_and_is_kept_from_those_that_are() -> None:
    quiet, idle = beside_a_flood(), Account("eve", SloClass.BACKGROUND)
    quiet.sent(idle, FIRST, 0.5, 2.0)
    assert FIRST not in open_to(quiet, idle, 2.0)


def test_a_tenant_of_more_weight_has_more_quiet_engines_and_one_of_less_a_part_of_one() -> None:
    for weight, quiet_engines in ((3.0, 3), (0.1, 1)):
        quiet = Quiet(FairShares({"ann": TenantShare(weight)}))
        for _ in range(30):
            quiet.sent(ANN, FIRST, 0.1, 0.0)
        for now_s in (0.0, 1.0, 2.0):
            quiet.look({POOL: VIEWS}, [EVE], now_s)
        assert len(quiet.kept_to(ANN, [view.spec.id for view in VIEWS])) == quiet_engines
