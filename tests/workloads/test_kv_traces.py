"""The ladder's traces: seeded, within the context of a small engine, and with the pauses their names promise."""

import pytest

from benchmarks.kv.distributions import own_distributions
from benchmarks.kv.programs import Program, Turn, closed_loop, new_token_ids, open_loop
from benchmarks.kv.traces import LONG_SHARE, TRACES, Scale, draw_programs

KNOWN = own_distributions()
SCALE = Scale()


@pytest.fixture(params=list(TRACES))
def trace(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def draw(trace: str, count: int = 60, seed: int = 3) -> tuple[Program, ...]:
    return draw_programs(trace, count, seed, KNOWN, SCALE)


def test_one_seed_gives_one_trace_and_more_programs_only_add_to_it(trace: str) -> None:
    assert draw(trace) == draw(trace)
    assert draw(trace, 20) == draw(trace)[:20]
    assert draw(trace) != draw(trace, seed=4)


def test_every_program_fits_the_context_and_ends_without_a_tool(trace: str) -> None:
    for program in draw(trace):
        assert program.final_tokens <= SCALE.context_tokens
        assert 0 <= program.shared_tokens < program.turns[0].new_tokens
        assert all(turn.new_tokens >= 1 and turn.output_tokens >= 1 and turn.pause_s >= 0 for turn in program.turns)
        assert (program.turns[-1].tool, program.turns[-1].pause_s) == (None, 0.0)


def test_names_are_those_of_programs_alone(trace: str) -> None:
    programs = draw(trace)
    assert len({program.id for program in programs}) == len(programs)


def test_forty_turns_are_forty_turns() -> None:
    assert {len(program.turns) for program in draw("forty-turns")} == {40}


def test_in_the_heavy_tail_one_call_in_twenty_five_takes_a_minute_and_no_tool_tells_all_of_them() -> None:
    calls = [turn for program in draw("heavy-tail", 400) for turn in program.turns if turn.tool]
    long = [turn for turn in calls if turn.pause_s > 60 * SCALE.pauses]
    assert len(long) / len(calls) == pytest.approx(LONG_SHARE, rel=0.25)
    foretold = sum(turn.tool == "task" for turn in long)
    assert 0.3 < foretold / len(long) < 0.7


def test_people_who_chat_tell_nothing_and_call_nothing() -> None:
    for program in draw("chat"):
        assert not program.hinted
        assert {turn.tool for turn in program.turns} == {None}


def test_pauses_compare_with_prefill_as_on_the_reference() -> None:
    scale = Scale(tokens=0.1, engine_prefill_tokens_per_s=5_000, reference_prefill_tokens_per_s=25_000)
    recorded_s, recorded_tokens = 3.0, 10_000
    on_reference = recorded_s / (recorded_tokens / 25_000)
    here = recorded_s * scale.pauses / (recorded_tokens * scale.tokens / 5_000)
    assert here == pytest.approx(on_reference)


def test_arrivals_at_twice_the_rate_are_the_same_twice_as_close() -> None:
    programs = draw("swe", 10)
    slow, fast = open_loop(programs, 1.0, seed=5).arrivals_s, open_loop(programs, 2.0, seed=5).arrivals_s
    assert slow is not None
    assert fast is not None
    assert slow[0] == 0.0
    assert [2 * at_s for at_s in fast] == pytest.approx(slow)


def test_a_closed_loop_has_no_more_at_once_than_there_are() -> None:
    assert closed_loop(draw("swe", 3), 8).at_once == 3


def test_tokens_are_shared_by_the_same_documents_and_salt_only() -> None:
    turn = Turn(new_tokens=50, output_tokens=4)
    one, other = (Program(name, (turn, turn), "manual", 30) for name in ("one", "other"))
    first = new_token_ids(one, 0, "salt")
    assert len(first) == 50
    assert first[:30] == new_token_ids(other, 0, "salt")[:30]
    assert first[30:] != new_token_ids(other, 0, "salt")[30:]
    assert first[:30] != new_token_ids(one, 0, "other salt")[:30]
    assert new_token_ids(one, 1, "salt") != new_token_ids(other, 1, "salt")
