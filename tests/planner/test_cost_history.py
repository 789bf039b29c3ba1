"""What is expected of a stage: a prior that observations wear down."""

from hypothesis import given
from hypothesis import strategies as st

from planner.cost.history import NO_HISTORY, Seen, history_of, stage_of
from planner.cost.quantiles import PRIOR_OBSERVATIONS, Quantiles, length_prior, tool_prior

lengths = st.lists(st.floats(1, 512), max_size=40)


def test_without_history_the_prior_is_told():
    assert NO_HISTORY.output_tokens("draft", 256) == length_prior(256)
    assert NO_HISTORY.tool_seconds("run_sql", 30.0) == tool_prior(30.0)


def test_observations_wear_the_prior_down():
    few = history_of([Seen("draft", '""', 0.1, 50, 10)] * 4)
    assert few.output_tokens("draft", 256) == Quantiles(10, 10, 256)
    many = history_of([Seen("draft", '""', 0.1, 50, 10)] * 40)
    assert many.output_tokens("draft", 256) == Quantiles(10, 10, 10)


def test_a_round_is_known_by_itself_and_an_unseen_one_by_its_stage():
    seen = history_of([Seen("revise#0/fix", '""', 0.1, 0, 10)] * 40 + [Seen("revise#1/fix", '""', 0.1, 0, 90)] * 40)
    assert seen.output_tokens("revise#1/fix", 256).p50 == 90
    assert seen.output_tokens("revise#0/fix", 256).p50 == 10
    unseen = seen.output_tokens("revise#7/fix", 256)
    assert (unseen.p10, unseen.p90) == (10, 90)
    assert stage_of("draft[3]/revise#2/fix") == "draft[]/revise#/fix"
    items = history_of([Seen("draft[0]/write", '""', 0.1, 0, 5), Seen("draft[1]/write", '""', 0.1, 0, 7)])
    assert [one.output_tokens for one in items.of("draft[9]/write")] == [5, 7]


@given(lengths, st.floats(1, 512))
def test_what_is_learnt_stays_within_what_was_seen_and_what_may_be(seen, most):
    prior = length_prior(512)
    learnt = Quantiles.learnt(prior, seen, most)
    assert learnt.p10 <= learnt.p50 <= learnt.p90 <= most
    assert learnt.p90 <= max([prior.p90, *seen])
    assert learnt.p10 >= min([prior.p10, *seen, most])


@given(st.floats(1, 500), st.integers(0, 200))
def test_the_prior_is_outweighed_in_the_end(length, more):
    seen = [length] * (int(9 * PRIOR_OBSERVATIONS) + 1 + more)
    assert Quantiles.learnt(length_prior(512), seen) == Quantiles.exactly(length)


@given(st.floats(0, 1), st.floats(0, 1))
def test_quantiles_between_the_points_rise(one, other):
    low, high = sorted((one, other))
    assert tool_prior(30.0).at(low) <= tool_prior(30.0).at(high)
