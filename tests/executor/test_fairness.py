"""Tenants share engines' time by their weights, whatever each of them asks for."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from executor.policy.fairness import QUANTUM_S, Account, FairShares, TenantShare
from executor.slo import SloClass

ANN, BOB, EVE = (Account(name, SloClass.STANDARD) for name in ("ann", "bob", "eve"))


def _give(shares: FairShares, account: Account, engine_s: float) -> None:
    shares.charge(account, engine_s)
    shares.settle(account, engine_s, engine_s)


def serve(shares: FairShares, seconds: dict[Account, float], calls: int) -> Counter[Account]:
    """All of them always wait, with calls as long as `seconds` says; what each was given."""
    given: Counter[Account] = Counter()
    for _ in range(calls):
        account = shares.order(list(seconds))[0][0]
        _give(shares, account, seconds[account])
        given[account] += seconds[account]  # type: ignore[assignment]
    return given


def test_a_tenant_alone_is_not_held_back() -> None:
    shares = FairShares()
    for _ in range(100):
        assert shares.order([ANN]) == [[ANN]]
        _give(shares, ANN, 5.0)


def test_long_calls_do_not_get_a_tenant_more() -> None:
    given = serve(FairShares(), {ANN: 0.1, BOB: 3.0}, 2000)
    assert abs(given[ANN] - given[BOB]) <= QUANTUM_S + 3.0


def test_a_tenant_of_twice_the_weight_gets_twice_as_much() -> None:
    given = serve(FairShares({"bob": TenantShare(weight=2)}), {ANN: 0.5, BOB: 0.5}, 3000)
    assert abs(given[BOB] / given[ANN] - 2) < 0.02


def test_time_that_was_not_used_is_not_saved_up() -> None:
    shares = FairShares()
    serve(shares, {ANN: 1.0}, 1000)
    given = serve(shares, {ANN: 1.0, BOB: 1.0}, 100)
    assert abs(given[ANN] - given[BOB]) <= 3 * QUANTUM_S + 1.0


def test_a_turn_lasts_until_a_quantum_ahead_so_that_prompts_with_one_beginning_stay_together() -> None:
    shares = FairShares(quantum_s=2.0)
    assert shares.order([ANN, BOB]) == [[ANN], [BOB]]
    shares.charge(ANN, 2.0)
    assert shares.order([ANN, BOB]) == [[ANN], [BOB]]
    shares.charge(ANN, 0.1)
    assert shares.order([ANN, BOB]) == [[BOB], [ANN]]
    shares.charge(BOB, 1.0)
    assert shares.order([ANN, BOB]) == [[BOB], [ANN]]


def test_a_turn_ends_where_somebody_else_has_more_urgent_work() -> None:
    shares, asks = FairShares(), Account("bob", SloClass.INTERACTIVE)
    assert shares.order([ANN, BOB]) == [[ANN], [BOB]]
    assert shares.order([ANN, BOB, asks]) == [[BOB, asks], [ANN]]


def test_who_has_had_least_goes_first_among_the_others() -> None:
    shares = FairShares()
    shares.order([ANN, BOB, EVE])
    shares.charge(ANN, 9.0)
    shares.charge(BOB, 6.0)
    assert shares.order([ANN, BOB, EVE]) == [[EVE], [BOB], [ANN]]


def test_interactive_calls_may_lead_by_more_and_not_for_ever() -> None:
    shares, asks = FairShares(lead_s=10.0), Account("ann", SloClass.INTERACTIVE)
    shares.order([asks, BOB])
    shares.charge(asks, 10.0)
    assert shares.order([asks, BOB]) == [[asks], [BOB]]
    shares.charge(asks, 0.1)
    assert shares.order([asks, BOB]) == [[BOB], [asks]]


def test_background_work_is_last_and_costs_its_tenant_nothing() -> None:
    shares, idle = FairShares(), Account("ann", SloClass.BACKGROUND)
    assert shares.order([idle, BOB]) == [[BOB], [idle]]
    shares.charge(idle, 1000.0)
    shares.charge(BOB, 2.0)
    assert shares.order([ANN, BOB]) == [[ANN], [BOB]]


def test_what_a_guess_was_too_high_by_is_given_back() -> None:
    shares = FairShares()
    shares.order([ANN, BOB])
    shares.charge(ANN, 5.0)
    _give(shares, BOB, 3.0)
    assert shares.order([ANN, BOB])[0] == [BOB]
    shares.settle(ANN, 5.0, 1.0)
    assert shares.order([ANN, BOB])[0] == [ANN]


def test_a_tenant_that_was_alone_owes_nothing_to_one_that_comes() -> None:
    shares = FairShares()
    serve(shares, {ANN: 1.0}, 500)
    given = serve(shares, {ANN: 1.0, BOB: 1.0}, 100)
    assert abs(given[ANN] - given[BOB]) <= 3 * QUANTUM_S + 1.0


def test_a_tenant_that_asked_for_little_all_the_time_may_have_so_much_at_once() -> None:
    shares = FairShares(credit_s=15.0)
    shares.order([ANN, BOB])
    shares.charge(BOB, 0.1)  # it stays in an engine
    serve(shares, {ANN: 1.0}, 500)
    given = serve(shares, {ANN: 1.0, BOB: 1.0}, 100)
    assert 10 <= given[BOB] - given[ANN] <= 15.0 + 2 * QUANTUM_S


@settings(deadline=None)
@given(
    weights=st.lists(st.floats(0.5, 4.0), min_size=2, max_size=4),
    lengths=st.lists(st.lists(st.floats(0.01, 3.0), min_size=1, max_size=5), min_size=4, max_size=4),
    picks=st.lists(st.integers(0, 10), min_size=50, max_size=200),
)
def test_those_that_wait_all_the_time_never_grow_further_apart_than_promised(
    weights: list[float], lengths: list[list[float]], picks: list[int]
) -> None:
    """A quantum, and the longest call, over the weights."""
    accounts = [Account(str(number), SloClass.STANDARD) for number in range(len(weights))]
    shares = FairShares({account.tenant: TenantShare(weights[int(account.tenant)]) for account in accounts})
    given_s = dict.fromkeys(accounts, 0.0)
    longest_s = {account: max(lengths[int(account.tenant)]) / weights[int(account.tenant)] for account in accounts}
    for turn, pick in enumerate(picks):
        first = shares.order(accounts)[0]
        account = first[pick % len(first)]
        calls_s = lengths[int(account.tenant)]
        call_s = calls_s[turn % len(calls_s)]
        _give(shares, account, call_s)
        given_s[account] += call_s / weights[int(account.tenant)]
        spread_s = max(given_s.values()) - min(given_s.values())
        assert spread_s <= shares.quantum_s + max(longest_s.values()) + 1e-6


_ACCOUNTS = [Account(f"{number}", slo) for number in range(24) for slo in (SloClass.STANDARD, SloClass.BACKGROUND)]
_steps = st.tuples(
    st.lists(st.sampled_from(_ACCOUNTS), min_size=1, max_size=4, unique=True),
    st.sampled_from(["small", "large"]),
    st.floats(0.1, 30.0),
    st.booleans(),
)


@settings(deadline=None)
@given(st.lists(_steps, max_size=120))
def test_to_be_forgotten_gains_nobody_anything(
    steps: list[tuple[list[Account], str, float, bool]],
) -> None:
    """Beside shares that forget nobody, the same calls of the same tenants leave nobody with less to its name."""
    forgetful, exact = FairShares(most_kept=6), FairShares()
    inside: list[tuple[Account, float]] = []
    for waiting, queue, call_s, answered in steps:
        for shares in (forgetful, exact):
            shares.order(waiting, queue)
            shares.charge(waiting[0], call_s)
        inside.append((waiting[0], call_s))
        if answered:
            account, guess_s = inside.pop(0)
            for shares in (forgetful, exact):
                shares.settle(account, guess_s, guess_s / 2)
        assert all(forgetful.had_s(one) >= exact.had_s(one) - 1e-6 for one in waiting)


@given(st.integers(1, 8))
def test_of_many_tenants_a_bounded_number_is_known(kept: int) -> None:
    shares = FairShares(most_kept=kept)
    for number in range(200):
        shares.order([Account(f"{number}", SloClass.STANDARD), ANN])
        _give(shares, Account(f"{number}", SloClass.STANDARD), 100.0)
        assert shares.known <= kept + 2
