"""How long to hold: the rule against brute force, and what it is asked to do where the paper's rule does worse."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo_vllm.policy.forecast import Expected, Unknown, best_ttl_s, hold_until_age_s, index, paper_ttl_s, returns
from halo_vllm.policy.survival import Survival, slowest, survival

PAUSES = st.lists(st.integers(1, 40).map(lambda tenths: tenths / 10), min_size=1, max_size=12)
SEEN = st.lists(st.tuples(st.integers(1, 40).map(lambda tenths: tenths / 10), st.booleans()), min_size=1, max_size=12)
WORTHS = st.floats(0.05, 20)


def learnt(pauses: list[float]) -> Survival:
    return survival((pause, True) for pause in pauses)


def gain(pauses: list[float], ttl_s: float, worth_s: float) -> float:
    """What holding for `ttl_s` saves, summed over the pauses one by one."""
    return sum(worth_s * (pause <= ttl_s) - min(pause, ttl_s) for pause in pauses) / len(pauses)


@given(PAUSES, WORTHS)
def test_no_other_time_to_live_saves_more(pauses: list[float], worth_s: float) -> None:
    ttl_s = best_ttl_s(learnt(pauses), worth_s)
    others = [0.0, *pauses, *(tenths / 10 for tenths in range(60))]
    assert gain(pauses, ttl_s, worth_s) >= max(gain(pauses, other, worth_s) for other in others) - 1e-9


@given(PAUSES, WORTHS, st.floats(0, 5))
def test_the_age_of_a_pause_is_taken_into_account(pauses: list[float], worth_s: float, age_s: float) -> None:
    left = [pause - age_s for pause in pauses if pause > age_s]
    more_s = best_ttl_s(learnt(pauses), worth_s, age_s) - age_s
    best = max((gain(left, other, worth_s) for other in [0.0, *left]), default=0.0) if left else 0.0
    assert (gain(left, more_s, worth_s) if left else more_s) == pytest.approx(best, abs=1e-9)


@given(SEEN, WORTHS)
def test_held_exactly_while_the_index_is_above_one_over_the_worth(
    pauses: list[tuple[float, bool]], worth_s: float
) -> None:
    law = survival(pauses)
    ttl_s = best_ttl_s(law, worth_s)
    for age_s in (tenth / 20 for tenth in range(0, 90)):
        above = law.index(age_s) * worth_s
        if age_s < ttl_s:
            assert above >= 1 - 1e-6
        if above > 1 + 1e-6:
            assert best_ttl_s(law, worth_s, age_s) > age_s


@given(SEEN, st.floats(0, 5))
def test_the_index_is_the_best_ratio_over_all_times(pauses: list[tuple[float, bool]], age_s: float) -> None:
    law = survival(pauses)
    back, held = law.returned_by(age_s), law.held_until(age_s)
    ratios = [
        (law.returned_by(time) - back) / max(law.held_until(time) - held, 1e-3) for time in law.times_s if time > age_s
    ]
    assert law.index(age_s) == pytest.approx(max(ratios, default=0.0))


@given(PAUSES, st.floats(0, 6))
def test_seconds_held_are_the_mean_of_the_shorter_of_pause_and_ttl(pauses: list[float], ttl_s: float) -> None:
    assert learnt(pauses).held_until(ttl_s) == pytest.approx(sum(min(p, ttl_s) for p in pauses) / len(pauses))


@given(SEEN, WORTHS, WORTHS)
def test_what_is_worth_more_is_held_no_shorter(pauses: list[tuple[float, bool]], one: float, other: float) -> None:
    law = survival(pauses)
    assert best_ttl_s(law, min(one, other)) <= best_ttl_s(law, max(one, other)) + 1e-9


@given(st.integers(1, 40), WORTHS)
def test_where_all_are_back_at_one_time_the_rule_is_the_papers(tenths: int, worth_s: float) -> None:
    law = learnt([tenths / 10] * 5)
    assert best_ttl_s(law, worth_s) == paper_ttl_s(law, worth_s)


@given(PAUSES, WORTHS)
def test_never_shorter_than_the_papers_which_charges_more(pauses: list[float], worth_s: float) -> None:
    assert best_ttl_s(learnt(pauses), worth_s) >= paper_ttl_s(learnt(pauses), worth_s) - 1e-9


def test_a_tool_with_two_modes_is_held_for_the_slower_one() -> None:
    pauses = learnt([1.0] * 8 + [6.0] * 2)
    assert best_ttl_s(pauses, 8.0) == 6.0
    assert paper_ttl_s(pauses, 8.0) == 1.0
    assert hold_until_age_s(pauses, 1.5, 8.0) == 6.0


def test_a_thin_far_tail_is_not_waited_for() -> None:
    pauses = learnt([0.5] * 96 + [300.0] * 4)
    assert best_ttl_s(pauses, 3.0) == 0.5
    assert hold_until_age_s(pauses, 1.0, 3.0) == 1.0
    assert hold_until_age_s(pauses, 299.0, 3.0) == 300.0


def test_pauses_not_over_count_as_long_as_they_have_lasted() -> None:
    law = survival([(1.0, True), (2.0, False), (3.0, True), (4.0, False)])
    assert law.times_s == (1.0, 3.0)
    assert law.returned == pytest.approx((0.25, 0.625))
    assert law.held_until(3.0) == pytest.approx(1.0 + 2 * 0.75)
    assert law.index(3.5) == 0.0


def test_nothing_ever_came_back() -> None:
    law = survival([(5.0, False)] * 10)
    assert law.index(0.0) == 0.0
    assert best_ttl_s(law, 100.0) == 0.0


@given(PAUSES, PAUSES, st.floats(0, 5))
def test_tools_side_by_side_are_done_when_the_slowest_is(one: list[float], other: list[float], age_s: float) -> None:
    both = slowest([learnt(one), learnt(other)])
    pairs = [max(a, b) for a in one for b in other]
    assert both.returned_by(age_s) == pytest.approx(sum(pair <= age_s for pair in pairs) / len(pairs))


def test_without_knowledge_a_pause_is_held_for_as_long_as_it_is_worth() -> None:
    assert hold_until_age_s(Unknown(), 0.0, 2.5) == 2.5
    assert hold_until_age_s(Unknown(), 3.0, 2.5) == 3.0
    assert index(Unknown(), 2.0) * 2.5 > 1 > index(Unknown(), 3.0) * 2.5


def test_a_pause_said_to_be_long_is_held_only_near_its_end() -> None:
    assert hold_until_age_s(Expected(10.0), 0.0, 2.5) == 0.0
    assert hold_until_age_s(Expected(10.0), 8.0, 2.5) == 12.5
    assert hold_until_age_s(Expected(10.0), 13.0, 2.5) == 13.0
    assert index(Expected(1.0), 1.0) < inf


def test_the_older_a_pause_that_has_not_ended_the_less_likely_its_program_is_back() -> None:
    """Three of four are back within a second, the fourth never."""
    law = survival([(0.5, True), (0.8, True), (1.0, True), (60.0, False)])
    assert [returns(law, age_s, 2.0) for age_s in (0.0, 0.6, 0.9, 1.5)] == pytest.approx([3 / 4, 2 / 3, 1 / 2, 0.0])
    assert returns(law, 0.9, 0.5) == 0.0
    assert returns(Unknown(), 5.0, 6.0) == 1.0
