"""The model of an engine: which calls share its steps, what its KV holds, and how long it all takes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.engines.model.batch import Batch
from executor.engines.model.block_pool import BlockPool, block_names
from executor.engines.model.engine import EngineModel
from executor.engines.model.line import ByKey, by_priority
from executor.engines.model.profiles import PROFILES, profile_for
from executor.engines.port import Usage
from planner.cost.profile import Profile

#: One second a step, and nothing else costs time: arithmetic one can do in the head.
EVEN = Profile(
    gpu="even",
    source="made up for tests",
    calibrated=False,
    weights_s=0.0,
    token_s=0.0,
    blend=1.0,
    kv_read_s=0.0,
    attend_s=0.0,
    kv_tokens=64,
    overhead_s=1.0,
    block_tokens=4,
    step_tokens=8,
)
#: Small enough for calls to be preempted, with every part of a step's time in it.
SMALL = replace(EVEN, weights_s=0.01, token_s=0.001, blend=1.5, kv_read_s=1e-5, attend_s=1e-6, overhead_s=0.002)


def drain(model):
    """Everything the engine finishes from now on, as a simulation would collect it."""
    finished = []
    while (at := model.next_at()) is not None:
        finished += model.advance(at)
        model.check()
    return finished


def ends(finished):
    return [(done.id, done.at) for done in finished]


def test_a_call_reads_its_prompt_in_chunks_and_then_writes_a_token_a_step():
    model = EngineModel(EVEN)
    model.submit("a", 20, 3, at=10.0)
    (done,) = drain(model)
    # 8 + 8 + 4 prompt tokens; the third step also writes the first token.
    assert (done.at, done.queued_s, done.prefill_s, done.decode_s) == (15.0, 0.0, 3.0, 2.0)
    assert done.usage == Usage(20, 3, 0)


def test_calls_of_one_instant_share_a_step_and_a_later_one_waits_for_the_next():
    model = EngineModel(EVEN)
    model.submit("a", 4, 5, at=0.0)
    model.submit("b", 4, 5, at=0.0)
    assert model.advance(1.0) == []
    assert model.next_at() == 5.0  # nothing can happen before, unless a call comes
    model.submit("c", 4, 1, at=1.5)
    assert model.next_at() == 2.0
    assert ends(drain(model)) == [("c", 3.0), ("a", 5.0), ("b", 5.0)]


def test_a_call_that_comes_as_a_step_ends_is_in_the_next_one():
    model = EngineModel(EVEN)
    model.submit("a", 4, 5, at=0.0)
    assert model.advance(1.0) == []
    assert model.next_at() == 5.0
    model.submit("b", 4, 1, at=2.0)
    assert ends(drain(model)) == [("b", 3.0), ("a", 5.0)]


def test_decoding_goes_on_while_others_read_their_prompts():
    model = EngineModel(EVEN)
    model.submit("writes", 1, 4, at=0.0)
    model.submit("reads", 7 + 7 + 7, 1, at=0.0)
    assert ends(drain(model)) == [("reads", 3.0), ("writes", 4.0)]


def test_no_more_calls_run_than_allowed_and_the_first_in_line_is_next():
    model = EngineModel(EVEN, max_running=1)
    for name in "abc":
        model.submit(name, 1, 2, at=0.0)
    assert model.advance(1.0) == []
    assert (model.running, model.waiting) == (1, 2)
    finished = drain(model)
    assert ends(finished) == [("a", 2.0), ("b", 4.0), ("c", 6.0)]
    assert [done.queued_s for done in finished] == [0.0, 2.0, 4.0]


def test_a_prefix_that_is_still_there_is_not_read_again():
    names = block_names("x" * 20, 4)
    model = EngineModel(EVEN)
    model.submit("first", 20, 1, at=0.0, names=names)
    model.submit("second", 20, 1, at=100.0, names=names)
    first, second = drain(model)
    assert (first.prefill_s, first.usage.cached_tokens) == (3.0, 0)
    # All five blocks are there, but the last token's outcome must be computed: so four blocks are hit.
    assert (second.prefill_s, second.usage.cached_tokens) == (1.0, 16)


def test_a_prompt_is_taken_in_once_whatever_of_it_is_cached():
    names = block_names("x" * 20, 4)
    model = EngineModel(replace(EVEN, intake_token_s=0.5))
    model.submit("first", 20, 3, at=0.0, names=names)
    model.submit("second", 20, 3, at=100.0, names=names)
    first, second = drain(model)
    assert (first.prefill_s, first.decode_s) == (10.0 + 3.0, 2.0)
    assert (second.prefill_s, second.decode_s, second.usage.cached_tokens) == (10.0 + 1.0, 2.0, 16)


def test_the_answer_is_part_of_the_next_turns_prefix():
    model = EngineModel(EVEN)
    text = "question answer.next question"
    model.submit("turn 1", 8, 9, at=0.0, names=block_names(text[:17], 1)[3::4])
    model.submit("turn 2", 24, 1, at=50.0, names=block_names(text, 1)[3::4])
    assert [done.usage.cached_tokens for done in drain(model)] == [0, 16]


def test_calls_at_once_with_one_prefix_read_it_once():
    names = block_names("x" * 8, 4)
    model = EngineModel(EVEN)
    model.submit("a", 9, 1, at=0.0, names=names)
    model.submit("b", 9, 1, at=0.0, names=names)
    assert [done.usage.cached_tokens for done in drain(model)] == [0, 8]


def test_a_prefix_is_forgotten_when_others_need_the_room():
    names = block_names("x" * 40, 4)
    model = EngineModel(EVEN)
    model.submit("first", 40, 1, at=0.0, names=names)
    model.submit("large", 60, 1, at=100.0)
    model.submit("again", 40, 1, at=200.0, names=names)
    # 16 blocks in all: `large` takes 15 of them, and the tail of the prefix goes first.
    assert [done.usage.cached_tokens for done in drain(model)] == [0, 0, 4]


def test_when_the_kv_runs_out_the_call_admitted_last_starts_again():
    model = EngineModel(EVEN)
    model.submit("a", 4, 40, at=0.0)
    model.submit("b", 4, 40, at=0.0)
    first, second = drain(model)
    assert (first.id, first.preemptions, first.at) == ("a", 0, 40.0)
    assert second.id == "b"
    assert second.preemptions > 0
    assert second.at > 40.0


def test_a_call_that_does_not_fit_waits_for_room():
    model = EngineModel(EVEN)
    model.submit("large", 61, 3, at=0.0)
    model.submit("next", 8, 1, at=0.0)
    large, following = drain(model)
    assert (large.id, following.id, following.queued_s) == ("large", "next", large.at)


def test_a_prompt_is_begun_only_where_all_of_it_fits():
    """vLLM's `scheduler_reserve_full_isl`: its first chunk alone would fit at once."""
    model = EngineModel(EVEN)
    model.submit("writes", 8, 20, at=0.0)
    model.submit("long", 60, 1, at=0.0)
    writes, long = drain(model)
    assert (writes.id, long.id, long.queued_s) == ("writes", "long", writes.at)


def test_with_priorities_the_urgent_go_first_and_the_least_urgent_gives_way():
    def played(urgent):
        model = EngineModel(EVEN, batch=Batch(EVEN, 2, ByKey(by_priority)))
        model.submit("a", 4, 40, at=0.0, priority=2)
        model.submit("b", 4, 40, at=0.0, priority=1)
        model.submit("c", 4, 1, at=0.0, priority=urgent)
        return {done.id: done for done in drain(model)}

    late, soon = played(3), played(0)
    assert late["c"].queued_s > 0
    assert soon["c"].queued_s == 0
    assert (late["a"].preemptions > 0, late["b"].preemptions) == (True, 0)


def test_a_cancelled_call_gives_its_room_to_the_next():
    model = EngineModel(EVEN, max_running=1)
    model.submit("a", 1, 30, at=0.0)
    model.submit("b", 1, 1, at=0.0)
    assert model.advance(1.0) == []
    assert model.next_at() == 30.0
    assert model.cancel("a", at=4.5)
    assert not model.cancel("a", at=4.5)
    model.check()  # nothing runs, so no block is in use
    assert ends(drain(model)) == [("b", 6.0)]


def test_an_empty_engine_has_nothing_ahead():
    model = EngineModel(EVEN)
    assert model.next_at() is None
    assert model.advance(7.0) == []
    model.submit("a", 1, 1, at=7.0)
    assert model.next_at() == 8.0
    assert model.cancel("a", at=7.0)
    assert model.next_at() == 8.0  # the step is under way
    assert model.advance(8.0) == []
    assert model.next_at() is None


def test_a_driver_that_comes_late_learns_when_calls_ended():
    model = EngineModel(EVEN)
    model.submit("a", 1, 1, at=0.0)
    model.submit("b", 1, 2, at=0.0)
    assert ends(model.advance(60.0)) == [("a", 1.0), ("b", 2.0)]


calls = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.003, 0.02, 0.5]),  # pause before it
        st.integers(1, 40),  # prompt
        st.integers(1, 24),  # answer
        st.integers(0, 2),  # which prefix it shares
        st.sampled_from([None, None, None, 0.001, 0.05]),  # cancelled after
    ),
    min_size=1,
    max_size=25,
)


def play(drawn, profile=SMALL, named=True, **options):
    """Submissions, cancellations and ends in the order of their times."""
    model, at, events = EngineModel(profile, 4, **options), 0.0, []
    for number, (pause, prompt, answer, prefix, cancel_after) in enumerate(drawn):
        at += pause
        events.append((at, number, "submit", prompt, answer, prefix))
        if cancel_after is not None:
            events.append((at + cancel_after, number, "cancel", 0, 0, 0))
    events.sort(key=lambda event: event[:2])
    finished, cancelled = [], set()
    for at, number, what, prompt, answer, prefix in events:
        while (due := model.next_at()) is not None and due <= at:
            finished += model.advance(due)
            model.check()
        if what == "submit":
            text = f"{prefix}" * prompt + chr(0x4E00 + number) * answer
            model.submit(number, prompt, answer, at, block_names(text, 4) if named else ())
        elif model.cancel(number, at):
            cancelled.add(number)
        model.check()
        assert (model.next_at() is None) == (
            model.running + model.waiting == 0 and what == "submit"
        ) or what == "cancel"
    return finished + drain(model), cancelled, model


@settings(deadline=None, max_examples=200)
@given(calls)
def test_every_call_ends_exactly_once_and_the_books_balance(drawn):
    finished, cancelled, model = play(drawn)
    assert sorted([done.id for done in finished] + sorted(cancelled)) == list(range(len(drawn)))
    assert [done.at for done in finished] == sorted(done.at for done in finished)
    model.check()  # nothing runs, so no block is in use
    for done in finished:
        _, prompt, answer, _, _ = drawn[done.id]
        assert (done.usage.prompt_tokens, done.usage.output_tokens) == (prompt, answer)
        assert 0 <= done.usage.cached_tokens < prompt
        assert min(done.queued_s, done.decode_s) >= 0
        assert done.prefill_s > 0


@settings(deadline=None, max_examples=200)
@given(calls, st.booleans())
def test_whole_stretches_give_what_single_steps_give(drawn, roomy):
    """Where room is scarce without names: which idle blocks give way first may differ, and so what is hit later."""
    profile = replace(SMALL, kv_tokens=4096) if roomy else SMALL
    whole, cancelled, _ = play(drawn, profile, named=roomy)
    single, cancelled_too, _ = play(drawn, profile, named=roomy, whole_stretches=False)
    assert cancelled == cancelled_too
    assert [done.id for done in whole] == [done.id for done in single]
    assert [done.at for done in whole] == pytest.approx([done.at for done in single])
    assert [(done.usage, done.preemptions) for done in whole] == [(done.usage, done.preemptions) for done in single]


@settings(deadline=None)
@given(calls)
def test_the_same_calls_give_the_same_run(drawn):
    assert play(drawn)[0] == play(drawn)[0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=30))
def test_the_pool_never_holds_more_than_it_has(steps):
    """Prefixes of one text come and go; every block is free, in use, or idle."""
    pool, held, names = BlockPool(6), [], block_names("abcdef", 1)
    for action, count in steps:
        if action and held:
            pool.release(*held.pop(0))
        elif count <= pool.available:
            hits = pool.hits(names, count)
            if count - hits > pool.available - pool.idle_among(names[:hits]):
                continue
            pool.share(names[:hits])
            pool.take(count - hits)
            shared = list(names[:hits]) + [name for name in names[hits:count] if pool.publish(name)]
            held.append((shared, count - len(shared)))
        pool.check()


def test_equal_beginnings_have_equal_names_and_nothing_else_has():
    one, other = block_names("abcdefgh", 2), block_names("abcdXXgh", 2)
    assert len(one) == 4
    assert one[:2] == other[:2]
    assert not set(one[2:]) & set(other)
    assert block_names("abc", 4) == ()


def test_a_larger_step_takes_longer_and_a_fuller_one_is_better_used():
    for profile in PROFILES.values():
        times = [profile.matrix_s(tokens) for tokens in (1, 16, 256, 2048)]
        assert times == sorted(times)
        assert profile.matrix_s(64) < 64 * profile.matrix_s(1) / 8
        assert profile.kv_blocks * profile.block_tokens > 8192
    assert profile_for("a GPU nobody has heard of") is PROFILES["A100"]


@pytest.mark.parametrize("whole_stretches", [True, False])
def test_an_engine_that_was_idle_takes_longer_to_begin(whole_stretches):
    model = EngineModel(replace(SMALL, wake_s=0.5), whole_stretches=whole_stretches)
    awake = EngineModel(SMALL, whole_stretches=whole_stretches)

    def seconds(engine, number, at):
        engine.submit(number, 10, 20, at=at)
        return drain(engine)[-1].at - at

    once = seconds(awake, 0, 0.0)
    assert seconds(model, 0, 0.0) == pytest.approx(once + 0.5), "nobody knows what an engine did before"
    assert seconds(model, 1, once + 0.5) == pytest.approx(once), "it just ended"
    assert seconds(model, 2, 100.0) == pytest.approx(once + 0.5)
    assert seconds(model, 3, 100.0 + once + 0.5 + 0.015) == pytest.approx(once + 0.25), "idle for half as long"


def test_work_that_comes_while_an_engine_works_wakes_nobody():
    model = EngineModel(replace(EVEN, wake_s=0.5))
    model.submit("a", 4, 5, at=0.0)
    model.submit("b", 4, 2, at=0.5)
    assert ends(drain(model)) == [("b", 3.5), ("a", 5.5)]


def test_a_crowd_is_slower_for_each_and_faster_for_all():
    def seconds(calls):
        model = EngineModel(PROFILES["A100"])
        for number in range(calls):
            model.submit(number, 500, 100, at=0.0)
        return drain(model)[-1].at

    assert seconds(1) < seconds(8) < 2 * seconds(1)


def test_the_profile_of_the_cpu_engine_gives_back_what_was_measured():
    profile = PROFILES["cpu"]
    prompt = EngineModel(profile)
    prompt.submit("long prompt", 8192, 1, at=0.0)
    assert drain(prompt)[0].at + profile.round_trip_s == pytest.approx(1.048, rel=0.05)
    answers = EngineModel(profile)
    for number in range(16):
        answers.submit(number, 48, 64, at=0.0)
    assert drain(answers)[-1].at + profile.round_trip_s == pytest.approx(0.257, rel=0.15)
    # One call alone: 1.6 ms a step over a few hundred tokens, 2.8 ms over 5,800.
    decoding = [profile.step_s(1, 1, 0, context, 0.0) for context in (300, 5_800)]
    assert decoding[1] - decoding[0] == pytest.approx(1.2e-3, rel=0.15)
