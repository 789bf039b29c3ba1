"""At the door: what is told of the wait, who is turned away, and that who comes back when told is taken."""

from dataclasses import replace
from heapq import heapify, heappop, heappush
from itertools import accumulate
from pickle import dumps

from hypothesis import given
from hypothesis import strategies as st

from executor.core.pace import Pace
from executor.policy.entrance import PRUDENCE, Ask, Entrance, OnLate, Outlook
from executor.policy.fairness import Account, TenantShare
from executor.slo import SloClass

ANN, EVE = (Account(name, SloClass.STANDARD) for name in ("ann", "eve"))
IDLE = Outlook({}, {}, rate=2.0)
ASK = Ask(ANN, engine_s=1.0, took_s=3.0)


def test_on_an_idle_fleet_a_program_lasts_as_long_as_it_does() -> None:
    verdict = Entrance().ask(ASK, IDLE, 0.0)
    assert (verdict.taken, verdict.done_s, verdict.late_s) == (True, 3.0, 0.0)


def test_a_tenant_waits_for_its_own_work_and_for_as_much_of_each_other() -> None:
    assert Outlook({ANN: 10.0}, {}, 2.0).wait_s(ANN, 10.0) == 5.0
    assert Outlook({ANN: 10.0, EVE: 1000.0}, {}, 2.0).wait_s(ANN, 10.0) == 10.0
    assert Outlook({ANN: 10.0, EVE: 4.0}, {}, 2.0).wait_s(ANN, 10.0) == 7.0
    twice = Outlook({ANN: 10.0, EVE: 1000.0}, {}, 2.0, {"ann": TenantShare(weight=2)})
    assert twice.wait_s(ANN, 10.0) == 7.5


def test_before_urgent_work_comes_only_what_is_as_urgent_and_before_background_work_everything() -> None:
    urgent, idle = Account("ann", SloClass.INTERACTIVE), Account("ann", SloClass.BACKGROUND)
    outlook = Outlook({urgent: 4.0, ANN: 10.0, EVE: 6.0}, {}, 2.0)
    assert outlook.before_s(urgent) == 4.0
    assert outlook.before_s(idle) == 14.0
    assert outlook.wait_s(idle, outlook.before_s(idle)) == 10.0


def test_a_program_that_cannot_meet_its_deadline_is_taken_all_the_same_turned_away_or_made_less_urgent() -> None:
    busy = Outlook({ANN: 20.0}, {}, 2.0)
    due = replace(ASK, deadline_s=8.0)
    late = Entrance().ask(due, busy, 0.0)
    assert (late.taken, late.done_s, late.late_s) == (True, 13.0, 5.0)
    turned_away = Entrance().ask(replace(due, on_late=OnLate.REJECT), busy, 0.0)
    assert (turned_away.taken, turned_away.retry_after_s) == (False, 5.0)
    lower = Entrance().ask(replace(due, on_late=OnLate.DEGRADE), busy, 0.0)
    assert (lower.taken, lower.slo) == (True, SloClass.BATCH)


def test_who_could_not_be_in_time_on_an_idle_fleet_is_not_told_to_come_back() -> None:
    verdict = Entrance().ask(replace(ASK, deadline_s=2.0, on_late=OnLate.REJECT), IDLE, 0.0)
    assert (verdict.taken, verdict.retry_after_s) == (False, None)


def test_over_its_quota_a_tenant_is_told_when_there_will_be_room() -> None:
    full = Outlook({ANN: 10.0}, {"ann": 10}, 2.0, {"ann": TenantShare(queued=10)})
    verdict = Entrance().ask(ASK, full, 0.0)
    assert (verdict.taken, verdict.over_quota) == (False, True)
    assert verdict.retry_after_s == 1.0  # nobody is told to come back sooner
    assert Entrance().ask(replace(ASK, account=EVE), full, 0.0).taken


def test_room_is_kept_for_who_was_told_to_come_back() -> None:
    entrance, shares = Entrance(), {"ann": TenantShare(queued=4)}
    full = Outlook({ANN: 4.0}, {"ann": 4}, 1.0, shares)
    first = entrance.ask(replace(ASK, who="first"), full, 0.0)
    second = entrance.ask(replace(ASK, who="second"), full, 0.0)
    assert (first.retry_after_s, second.retry_after_s) == (PRUDENCE, 2 * PRUDENCE)
    one_left = Outlook({ANN: 3.0}, {"ann": 3}, 1.0, shares)
    assert not entrance.ask(replace(ASK, who="third"), one_left, PRUDENCE).taken
    assert entrance.ask(replace(ASK, who="first"), one_left, PRUDENCE).taken


def test_who_does_not_come_back_is_not_waited_for_for_ever() -> None:
    entrance, shares = Entrance(), {"ann": TenantShare(queued=4)}
    assert not entrance.ask(replace(ASK, who="gone"), Outlook({ANN: 4.0}, {"ann": 4}, 1.0, shares), 0.0).taken
    one_left = Outlook({ANN: 3.0}, {"ann": 3}, 1.0, shares)
    assert entrance.ask(replace(ASK, who="other"), one_left, 60.0).taken


def test_who_asks_again_and_again_is_not_put_off_further_each_time() -> None:
    entrance = Entrance(most_promised=10)
    full = Outlook({ANN: 4.0}, {"ann": 4}, 1.0, {"ann": TenantShare(queued=4)})
    told_s = [entrance.ask(ASK, full, 0.0).retry_after_s for _ in range(30)]
    assert told_s[9] < told_s[10] == told_s[-1], "room is kept for a bounded number"


def test_who_asks_before_its_time_keeps_its_turn() -> None:
    entrance, shares = Entrance(), {"ann": TenantShare(queued=4)}
    first, second, third = (replace(ASK, who=who) for who in ("first", "second", "third"))
    full, one_left = (Outlook({ANN: float(left)}, {"ann": left}, 1.0, shares) for left in (4, 3))
    told_s = [entrance.ask(one, full, 0.0).retry_after_s for one in (first, second, third)]
    assert told_s == [PRUDENCE, 2 * PRUDENCE, 2 * PRUDENCE + PRUDENCE]
    assert entrance.ask(first, full, 0.1).retry_after_s == PRUDENCE - 0.1
    assert entrance.ask(second, full, 0.2).retry_after_s == 2 * PRUDENCE - 0.2
    assert entrance.ask(first, full, 0.5).retry_after_s == 1.0, "nobody is told to come back sooner"
    assert [entrance.ask(one, one_left, at).taken for one, at in zip((first, second), told_s, strict=False)] == [
        True
    ] * 2


def test_who_would_be_late_and_asks_before_its_time_keeps_its_turn_and_does_not_go_before_others() -> None:
    entrance, slow = Entrance(), Outlook({ANN: 40.0}, {}, 2.0)
    first, second = (replace(DUE, who=who) for who in ("first", "second"))
    assert entrance.ask(first, slow, 0.0).retry_after_s == 3.0
    assert entrance.ask(second, slow, 0.0).retry_after_s == 3.0 + PRUDENCE / 2
    assert entrance.ask(first, slow, 1.0).retry_after_s == 2.0
    early = entrance.ask(second, Outlook({ANN: 30.0}, {}, 2.0), 1.5)
    assert (early.taken, early.retry_after_s) == (False, 1.5 + PRUDENCE / 2)
    for one, at in ((first, 3.0), (second, 3.0 + PRUDENCE / 2)):
        assert entrance.ask(one, Outlook({ANN: 34.0}, {}, 2.0), at).taken


def test_of_tenants_that_never_ask_again_nothing_is_kept() -> None:
    entrance, full = Entrance(), Outlook({}, {}, 1.0, others=TenantShare(queued=0))
    bare = len(dumps(entrance))
    for number in range(500):
        assert not entrance.ask(replace(ASK, account=Account(f"{number % 100}", ANN.slo)), full, 0.0).taken
    assert len(dumps(entrance)) > 10 * bare
    for _ in range(100):
        assert entrance.ask(ASK, IDLE, 1000.0).taken
    assert len(dumps(entrance)) == bare


def test_predictions_are_corrected_by_how_they_came_out() -> None:
    entrance = Entrance()
    for number in range(30):
        entrance.taken(str(number), entrance.ask(ASK, IDLE, 0.0), 10.0)
        entrance.ended(str(number), 16.0)
    assert abs(entrance.ask(ASK, IDLE, 0.0).done_s - 6.0) < 0.1


def test_the_pace_is_what_was_seen_while_work_waited() -> None:
    pace = Pace()
    for second in range(100):
        pace.gave(1.5, float(second), waiting=True)
    assert abs(pace.rate(4.0) - 1.5) < 0.05
    for second in range(100, 1000, 100):
        pace.gave(1.5, float(second), waiting=False)
    assert abs(pace.rate(4.0) - 1.5) < 0.05


def test_before_anything_was_seen_the_pace_is_what_is_believed() -> None:
    assert Pace().rate(4.0) == 4.0


def test_what_engines_work_on_already_is_not_waited_for() -> None:
    half_begun = Outlook({ANN: 10.0}, {}, 2.0, begun_s={ANN: 4.0})
    assert half_begun.before_s(ANN) == 6.0
    assert Entrance().ask(ASK, half_begun, 0.0).done_s == 6.0


DUE = replace(ASK, deadline_s=20.0, on_late=OnLate.REJECT)
BUSY = Outlook({ANN: 36.0}, {}, 2.0)


def test_who_comes_anew_is_taken_before_those_who_were_told_to_come_back_while_these_are_in_time_all_the_same() -> None:
    entrance = Entrance()
    told = entrance.ask(replace(DUE, who="told"), BUSY, 0.0)
    assert (told.taken, told.retry_after_s) == (False, 1.0)
    assert entrance.ask(DUE, IDLE, 0.5).taken
    assert entrance.ask(replace(DUE, who="told"), IDLE, 1.0).taken


def test_before_those_who_were_told_to_come_back_nobody_waits_for_long() -> None:
    entrance, busier = Entrance(), Outlook({ANN: 18.0}, {}, 2.0)
    assert Entrance().ask(DUE, busier, 0.0).taken, "nobody was told to come back"
    assert not entrance.ask(replace(DUE, who="told"), BUSY, 0.0).taken
    refused = entrance.ask(DUE, busier, 0.5)
    assert (refused.taken, refused.late_s) == (False, 0.0)
    assert refused.retry_after_s == 0.5 + PRUDENCE / 2  # behind the other


def test_a_long_program_does_not_pass_one_that_would_be_late_for_it() -> None:
    entrance, soon = Entrance(), replace(DUE, deadline_s=10.0, who="soon")
    assert not entrance.ask(soon, BUSY, 0.0).taken
    long = replace(DUE, engine_s=60.0)
    assert not entrance.ask(replace(long, deadline_s=8.0), IDLE, 0.5).taken
    assert entrance.ask(replace(long, deadline_s=100.0), IDLE, 0.5).taken, "with a later deadline it goes behind"


def test_nothing_is_learnt_of_a_wait_at_a_pace_that_was_not_seen() -> None:
    entrance, unseen = Entrance(), replace(BUSY, seen=False)
    entrance.taken("waits", entrance.ask(ASK, unseen, 0.0), 0.0)
    entrance.ended("waits", 100.0)
    assert entrance.foresight.usual == 1.0
    entrance.taken("waits for nobody", entrance.ask(ASK, replace(IDLE, seen=False), 0.0), 0.0)
    entrance.ended("waits for nobody", 6.0)
    assert entrance.foresight.usual == 2.0


def test_a_workflow_that_costs_nothing_is_no_trouble() -> None:
    entrance, free = Entrance(), Ask(ANN, 0.0, 0.0, deadline_s=20.0, on_late=OnLate.REJECT)
    assert not entrance.ask(DUE, BUSY, 0.0).taken
    verdict = entrance.ask(free, IDLE, 0.5)
    entrance.taken("free", verdict, 0.5)
    entrance.ended("free", 0.6)
    assert verdict.taken


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=150), st.sampled_from((8.0, 20.0, 60.0)))
def test_where_predictions_are_right_words_are_kept_nobody_is_late_and_the_fleet_is_not_left_idle(
    apart_s: list[float], deadline_s: float
) -> None:
    """A fleet that does one program after the other, the earliest deadline first."""
    entrance, rate = Entrance(), 0.5
    ask = replace(DUE, deadline_s=deadline_s, took_s=1 / rate)
    arrivals = [(at, f"{number}") for number, at in enumerate(accumulate(apart_s))]
    heapify(arrivals)
    told, free_at_s = set[str](), 0.0
    while arrivals:
        now_s, who = heappop(arrivals)
        backlog_s = max(0.0, (free_at_s - now_s) * rate)
        outlook = Outlook({ANN: backlog_s}, {}, rate)
        verdict = entrance.ask(replace(ask, who=who), outlook, now_s)
        assert verdict.taken or who not in told, "a word was not kept"
        if verdict.taken:
            free_at_s = max(free_at_s, now_s) + 1 / rate
            assert free_at_s <= now_s + deadline_s + 1e-6
        else:
            told.add(who)
            assert backlog_s > 0, "refused by an idle fleet"
            assert verdict.retry_after_s is not None
            heappush(arrivals, (now_s + verdict.retry_after_s, who))


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.sampled_from((0.2, 0.5, 0.9, 1.0))), min_size=1, max_size=60),
    st.sampled_from((8.0, 20.0, 60.0)),
)
def test_words_are_kept_where_some_ask_before_their_time_and_to_no_other_time_than_first_told(
    clients: list[tuple[float, float]], deadline_s: float
) -> None:
    """Each asks once after that part of the time it was told, and then when it was told to."""
    entrance, rate = Entrance(), 0.5
    ask = replace(DUE, deadline_s=deadline_s, took_s=1 / rate)
    arrivals = [(at, f"{number}") for number, at in enumerate(accumulate(apart for apart, _ in clients))]
    heapify(arrivals)
    due_s, free_at_s = dict[str, float](), 0.0
    while arrivals:
        now_s, who = heappop(arrivals)
        outlook = Outlook({ANN: max(0.0, (free_at_s - now_s) * rate)}, {}, rate)
        verdict = entrance.ask(replace(ask, who=who), outlook, now_s)
        assert verdict.taken or now_s < due_s.get(who, now_s + 1), "a word was not kept"
        if verdict.taken:
            free_at_s = max(free_at_s, now_s) + 1 / rate
            assert free_at_s <= now_s + deadline_s + 1e-6
            continue
        assert verdict.retry_after_s is not None
        if who not in due_s:
            due_s[who] = now_s + verdict.retry_after_s
            heappush(arrivals, (now_s + clients[int(who)][1] * verdict.retry_after_s, who))
        else:
            assert abs(verdict.retry_after_s - max(1.0, due_s[who] - now_s)) < 1e-6
            heappush(arrivals, (due_s[who] if due_s[who] - now_s >= 1.0 else now_s + 1.0, who))


def test_a_place_that_will_be_free_again_is_not_kept_for_who_comes_later() -> None:
    entrance, shares = Entrance(), {"ann": TenantShare(queued=4)}
    full = Outlook({ANN: 4.0}, {"ann": 4}, 1.0, shares)
    told_s = [entrance.ask(replace(ASK, who=str(number)), full, 0.0).retry_after_s for number in range(10)]
    assert entrance.ask(ASK, Outlook({ANN: 2.0}, {"ann": 2}, 1.0, shares), 0.5).taken
    for number, at_s in enumerate(told_s):
        assert entrance.ask(replace(ASK, who=str(number)), Outlook({ANN: 3.0}, {"ann": 3}, 1.0, shares), at_s).taken
