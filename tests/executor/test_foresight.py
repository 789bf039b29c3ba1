"""What is learnt from how predictions come out."""

from random import Random
from statistics import fmean

from hypothesis import given
from hypothesis import strategies as st

from executor.policy.foresight import FURTHEST, MOST_SEEN, Foresight


def test_before_anything_ended_predictions_are_believed() -> None:
    foresight = Foresight()
    assert (foresight.usual, foresight.at_most_s(10.0, 3.0), foresight.at_least_s(10.0, 3.0)) == (1.0, 10.0, 10.0)


def test_nearly_all_programs_are_done_when_nearly_all_should_be() -> None:
    foresight, random = Foresight(), Random(1)
    kept = [_one(foresight, random.choice((4.0, 30.0, 200.0)), random) for _ in range(4000)]
    assert 0.9 < fmean(kept[MOST_SEEN:]) < 0.99


def test_of_long_waits_predictions_are_less_far_off_in_proportion() -> None:
    foresight, random = Foresight(), Random(2)
    for _ in range(MOST_SEEN):
        _one(foresight, 4.0, random)
    assert foresight.at_most_s(400.0, 4.0) / 400.0 - 1 < (foresight.at_most_s(4.0, 4.0) / 4.0 - 1) / 5


def test_what_was_long_ago_is_forgotten() -> None:
    foresight = Foresight()
    for ratio in (3.0, 1.0):
        for _ in range(MOST_SEEN):
            foresight.learn(10.0, 10.0, 4.0, 10.0 * ratio)
    assert (foresight.usual, foresight.late, foresight.early) == (1.0, 0.0, 0.0)


@given(st.lists(st.tuples(*[st.floats(1e-6, 1e6)] * 4), max_size=300))
def test_whatever_happens_it_stays_within_bounds(seen: list[tuple[float, float, float, float]]) -> None:
    foresight = Foresight()
    for predicted_s, told_s, took_s, lasted_s in seen:
        foresight.learn(predicted_s, told_s, took_s, lasted_s)
    assert 1 / FURTHEST <= foresight.usual <= FURTHEST
    assert foresight.at_least_s(10.0, 3.0) <= 10.0 <= foresight.at_most_s(10.0, 3.0)


def _one(foresight: Foresight, wait_s: float, random: Random) -> bool:
    """Whether a program was done as soon as nearly all should be: many before it, of a second or so each."""
    lasted_s = sum(random.uniform(0.2, 1.8) for _ in range(round(wait_s)))
    told_s = wait_s * foresight.usual
    in_time = lasted_s <= foresight.at_most_s(told_s, 4.0)
    foresight.learn(wait_s, told_s, 4.0, lasted_s)
    return in_time
