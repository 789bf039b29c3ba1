"""The KV that calls of an engine will take at most."""

from hypothesis import given
from hypothesis import strategies as st

from executor.policy.kv_peak import Holding, peak_tokens

holdings = st.lists(st.builds(Holding, st.integers(0, 1000), st.integers(0, 1000)), max_size=8)


def test_who_is_nearly_done_gives_back_before_the_others_have_grown() -> None:
    assert peak_tokens([Holding(900, 0), Holding(100, 500)]) == 1000
    assert peak_tokens([Holding(500, 500), Holding(500, 500)]) == 2000
    assert peak_tokens([]) == 0


@given(holdings)
def test_the_peak_is_between_what_is_held_now_and_what_all_would_hold_at_their_ends(calls: list[Holding]) -> None:
    assert sum(call.tokens for call in calls) <= peak_tokens(calls) <= sum(call.tokens + call.left for call in calls)


@given(holdings)
def test_the_peak_is_that_of_writing_token_by_token(calls: list[Holding]) -> None:
    steps = range(max((call.left for call in calls), default=0) + 1)
    at = [sum(call.tokens + step for call in calls if step <= call.left) for step in steps]
    assert peak_tokens(calls) == max(at, default=0)
