"""One table of rules: what each holds, given what was seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo_vllm.policy.durations import ENOUGH, SETTLED_S, Durations
from halo_vllm.policy.forecast import Unknown
from halo_vllm.policy.meters import Mean, PrefillMeter, QueueingMeter
from halo_vllm.policy.retention import RULES, Learnt, Waiting
from halo_vllm.policy.survival import Survival
from halo_vllm.policy.tools import ToolKey, tool_key
from halo_vllm.policy.turns import Turns
from halo_vllm.policy.worth import MOST_TSTARS, PrefillCost, Worth, tstar_s, worth_of

TESTS, EDIT = ToolKey("bash", "pytest"), ToolKey("bash", "sed")
WORTH = Worth(prefill_s=0.5, queueing_s=0.5, break_even_s=3.0, tstar_s=2.5)


def seen(key: ToolKey, gaps: list[float]) -> Durations:
    durations = Durations()
    for number, gap_s in enumerate(gaps):
        durations.began(f"p{number}", [key], 1_000.0 * number)
        durations.returned(f"p{number}", 1_000.0 * number + gap_s)
    return durations


def test_tstar_is_the_time_to_fill_the_cache_and_the_pause_a_linear_prefill_breaks_even_at() -> None:
    prefill = PrefillCost(1 / 9_000)
    assert tstar_s(24_576, prefill) == pytest.approx(2.73, abs=0.01)
    for context in (100, 3_000, 20_000):
        assert worth_of(24_576, prefill, context, context).break_even_s == pytest.approx(tstar_s(24_576, prefill))


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1e-6), st.floats(-1, 1e6))
def test_no_pause_is_worth_more_than_two_tstars(context: int, own: int, quadratic: float, queueing_s: float) -> None:
    worth = worth_of(100_000, PrefillCost(1e-4, quadratic), context, own, queueing_s)
    assert 0 <= worth.break_even_s <= MOST_TSTARS * worth.tstar_s
    assert worth.saved_s >= 0


def test_late_tokens_of_a_long_context_are_worth_a_longer_pause() -> None:
    prefill = PrefillCost(1e-4, 1e-9)
    assert worth_of(50_000, prefill, 40_000, 1_000).break_even_s > worth_of(50_000, prefill, 1_000, 1_000).break_even_s


def test_nothing_is_known_of_a_tool_until_enough_calls_ended() -> None:
    assert isinstance(seen(TESTS, [1.0] * (ENOUGH - 1)).forecast([TESTS], 1e6), Unknown)
    assert isinstance(seen(TESTS, [1.0] * ENOUGH).forecast([TESTS], 1e6), Survival)


def test_a_class_not_seen_yet_is_taken_for_its_tool_and_a_tool_for_all() -> None:
    durations = seen(TESTS, [4.0] * ENOUGH)
    for key in (EDIT, ToolKey("fetch"), None):
        law = durations.forecast([key] if key else [], 1e6)
        assert isinstance(law, Survival)
        assert law.times_s == (4.0,)


def test_calls_that_still_run_make_the_tool_slower_than_those_that_ended_say() -> None:
    durations = seen(TESTS, [1.0] * 10)
    for number in range(10):
        durations.began(f"hanging {number}", [TESTS], 20_000.0)
    law = durations.forecast([TESTS], 20_000.0 + 2 * SETTLED_S)
    assert isinstance(law, Survival)
    assert law.returned_by(1e9) == pytest.approx(0.5)


def test_a_tool_named_late_counts_from_when_the_pause_began() -> None:
    durations = Durations()
    for number in range(ENOUGH):
        durations.began(f"p{number}", [], 100.0 * number)
        durations.named(f"p{number}", [TESTS])
        durations.returned(f"p{number}", 100.0 * number + 3.0)
    law = durations.forecast([TESTS], 1e6)
    assert isinstance(law, Survival)
    assert law.times_s == (3.0,)
    assert durations.ended_s("bash") == (3.0,) * ENOUGH


def test_several_tools_at_once_are_as_slow_as_the_slowest() -> None:
    durations = seen(TESTS, [4.0] * ENOUGH)
    for number in range(ENOUGH):
        durations.began(f"e{number}", [EDIT], 50_000.0 + number)
        durations.returned(f"e{number}", 50_000.5 + number)
    law = durations.forecast([TESTS, EDIT], 1e6)
    assert isinstance(law, Survival)
    assert law.returned_by(1.0) < 0.25
    assert law.returned_by(4.0) == pytest.approx(1.0)


def test_a_class_seen_little_is_drawn_towards_its_tool() -> None:
    durations = seen(TESTS, [4.0] * 50)
    for number in range(ENOUGH):
        durations.began(f"e{number}", [EDIT], 60_000.0 + number)
        durations.returned(f"e{number}", 60_000.5 + number)
    law = durations.forecast([EDIT], 1e6)
    assert isinstance(law, Survival)
    assert 0.5 < law.returned_by(1.0) < 0.7


def test_random_names_of_tools_take_bounded_room_and_no_knowledge_away() -> None:
    durations = Durations()
    for number in range(3_000):
        durations.began(f"p{number}", [ToolKey(f"tool {number}")], float(number))
        durations.returned(f"p{number}", number + 0.25)
    law = durations.forecast([ToolKey("another")], 1e6)
    assert isinstance(law, Survival)
    assert law.times_s == (0.25,)


def test_stock_holds_nothing_and_the_last_call_is_never_held_for() -> None:
    last = Waiting(since_s=10.0, own_blocks=5, tools=(TESTS,), last=True, gap_s=1.0)
    for rule in RULES.values():
        assert rule(last, Learnt(), WORTH, 10.0).until_s <= 10.0
    assert RULES["stock"](Waiting(10.0, 5, (TESTS,)), Learnt(), WORTH, 10.0).until_s <= 10.0


def test_the_released_code_holds_two_seconds_for_tools_quick_on_average() -> None:
    quick, slow = Learnt(seen(TESTS, [0.1] * 9 + [19.0])), Learnt(seen(TESTS, [0.1] * 9 + [20.0]))
    waiting = Waiting(since_s=10.0, own_blocks=5, tools=(TESTS,))
    assert RULES["fixed"](waiting, quick, WORTH, 10.0).until_s == 12.0
    assert RULES["fixed"](waiting, slow, WORTH, 10.0).until_s == 10.0
    assert RULES["fixed"](waiting, Learnt(), WORTH, 10.0).until_s == 12.0


def test_the_paper_waits_for_a_hundred_durations_and_takes_the_logarithm_until_then() -> None:
    """But two seconds where that is less: with a prefill below a second it would hold nothing."""
    waiting = Waiting(since_s=0.0, own_blocks=5, tools=(TESTS,))
    worth = Worth(prefill_s=3.0, queueing_s=5.0, break_even_s=8.0, tstar_s=8.0)
    assert RULES["paper"](waiting, Learnt(), worth, 0.0).until_s == pytest.approx(2.079, abs=0.001)
    assert RULES["paper"](waiting, Learnt(), Worth(0.3, 0.0, 2.7, 2.7), 0.0).until_s == 2.0
    learnt = Learnt(seen(TESTS, ([1.0] * 4 + [6.0]) * 24))
    assert RULES["paper"](waiting, learnt, worth, 0.0).until_s == 1.0
    assert RULES["halo"](waiting, learnt, worth, 0.0).until_s == 6.0


def test_turns_left_are_foretold_where_programs_are_alike() -> None:
    alike, heavy = Turns(), Turns()
    for _ in range(20):
        alike.ended(10)
    for calls in [1] * 90 + [2] * 9 + [200]:
        heavy.ended(calls)
    assert alike.eta() == pytest.approx(1.0)
    assert heavy.eta() > -1.0
    assert Turns().eta() == 1.0


def test_a_tool_never_seen_is_held_for_the_break_even_pause() -> None:
    retention = RULES["halo"](Waiting(10.0, 5, (TESTS,)), Learnt(), WORTH, 10.0)
    assert retention.until_s == 13.0
    assert retention == RULES["blind"](Waiting(10.0, 5, (TESTS,), eta_s=90.0), Learnt(), WORTH, 10.0)


def test_the_oracle_holds_what_comes_back_in_time() -> None:
    oracle = RULES["oracle"]
    assert oracle(Waiting(10.0, 5, gap_s=2.9), Learnt(), WORTH, 10.0).until_s >= 12.9
    assert oracle(Waiting(10.0, 5, gap_s=3.1), Learnt(), WORTH, 10.0).until_s == 10.0
    soon, late = (oracle(Waiting(10.0, 5, gap_s=gap_s), Learnt(), WORTH, 10.0).rank for gap_s in (1.0, 2.0))
    assert soon > late > 0


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e4))
def test_no_hint_holds_longer_than_two_break_even_pauses(eta_s: float, ttl_s: float, age_s: float) -> None:
    waiting = Waiting(0.0, 5, (TESTS,), eta_s=eta_s, ttl_s=ttl_s)
    retention = RULES["halo"](waiting, Learnt(), WORTH, age_s)
    assert retention.until_s <= max(age_s, 0.0) + 2 * WORTH.break_even_s
    assert retention.until_s <= ttl_s


def test_more_blocks_for_the_same_saving_go_first() -> None:
    small, large = (RULES["halo"](Waiting(0.0, blocks), Learnt(), WORTH, 1.0).rank for blocks in (10, 100))
    assert small == pytest.approx(10 * large)


def test_the_prefill_rate_is_the_slope_of_step_times() -> None:
    meter = PrefillMeter()
    for step in range(40):
        tokens = 0 if step % 3 else 512 + step
        meter.step(tokens, 0.004 + tokens * 1e-4)
    cost = meter.cost()
    assert cost is not None
    assert cost.s_per_token == pytest.approx(1e-4)
    assert PrefillMeter().cost() is None


def test_equal_steps_give_their_rate() -> None:
    meter = PrefillMeter()
    for _ in range(10):
        meter.step(2_000, 0.5)
    assert meter.cost() == PrefillCost(0.5 / 2_000)


def test_new_programs_show_what_a_miss_queues_for_though_every_turn_hits() -> None:
    meter = QueueingMeter()
    for _ in range(20):
        meter.admitted(0.1, warm=True)
        meter.admitted(2.1, warm=False)
    assert meter.miss_s() == pytest.approx(2.0)
    assert QueueingMeter().miss_s() == 0.0
    assert Mean().value(7.0) == 7.0


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("cd repo && timeout 60 python -m pytest -q", "pytest"),
        ("cd repo", "cd"),
        ("FOO=1 sudo timeout -k 5 30s make test", "make test"),
        ("git clone a b | head", "git clone"),
        ("sleep 30", "sleep 2^5"),
        ("python a/b.py --x", "python b.py"),
        ("/usr/bin/env python3 x.py", "python3 x.py"),
        ("echo 'never closed", "echo"),
        ("((", ""),
    ],
)
def test_a_shell_command_has_the_class_of_what_takes_long(command: str, kind: str) -> None:
    assert tool_key("Bash", command) == tool_key("bash", {"command": command}) == ToolKey("bash", kind)


@given(st.text(), st.one_of(st.none(), st.text(), st.integers(), st.dictionaries(st.text(), st.text())))
def test_any_call_has_a_key_of_bounded_length(tool: str, arguments: object) -> None:
    key = tool_key(tool, arguments)
    assert len(key.tool) <= 192
    assert len(key.arguments) <= 64
    assert len(tool_key("bash", arguments).arguments) <= 64


def test_a_fetch_has_its_host_for_a_class() -> None:
    assert tool_key("fetch_url", '{"url": "https://docs.example.org/a"}') == ToolKey("fetch_url", "docs.example.org")
    assert tool_key("fetch_url", '{"url": "http://[broken"}') == ToolKey("fetch_url")
