"""An engine is believed what its calls show."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cost.correction import FURTHEST, Correction

seconds = st.floats(1e-4, 1e4)


def learnt(*calls: tuple[float, float]) -> Correction:
    correction = Correction()
    for predicted_s, actual_s in calls:
        correction = correction.after(predicted_s, actual_s)
    return correction


def test_an_engine_that_is_always_half_as_fast_is_believed_so_and_the_error_goes():
    first = learnt((1.0, 2.0))
    assert first.factor == pytest.approx(2.0)
    assert first.error == pytest.approx(0.5)
    many = learnt(*[(1.0, 2.0)] * 100)
    assert many.factor == pytest.approx(2.0)
    assert many.error < 0.01
    assert many.calls == 100


def test_what_changes_is_followed():
    changed = learnt(*[(1.0, 1.0)] * 50, *[(1.0, 3.0)] * 100)
    assert changed.factor == pytest.approx(3.0, rel=0.02)


@given(st.lists(st.tuples(seconds, seconds), max_size=30))
def test_no_call_moves_the_factor_out_of_its_bounds(calls):
    correction = learnt(*calls)
    assert correction.factor * 1.000001 >= 1 / FURTHEST
    assert correction.factor <= FURTHEST * 1.000001
    assert 0 <= correction.error < inf
