"""Who is let in, who gives way: a law for each, and random programs that must all end."""

import random
from collections.abc import Sequence
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo_vllm.policy.admission import Candidate, Limits, Room, Why, admissions
from halo_vllm.policy.give_back import Caps, Give, Holding, Order, least_rank_first, may_take, over_caps, youngest_first
from halo_vllm.policy.ledger import Ledger, common
from halo_vllm.policy.worth import Worth

LIMITS = Limits()

HOLDINGS = st.lists(
    st.builds(
        Holding,
        program=st.just(""),
        blocks=st.integers(0, 50),
        rank=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        sequence=st.just(0),
        tenant=st.sampled_from(["a", "b", "c"]),
        turn_waiting=st.booleans(),
    ),
    max_size=12,
).map(lambda holdings: [replace(h, program=f"p{n}", sequence=n) for n, h in enumerate(holdings)])


def verdicts(room: Room, *candidates: Candidate, limits: Limits = LIMITS) -> dict[str, Why]:
    return {verdict.program: verdict.why for verdict in admissions(candidates, room, limits)}


def test_programs_enter_in_their_order_while_they_and_what_all_will_grow_to_fit() -> None:
    room = Room(capacity_blocks=100, owned_blocks=50, growth_blocks=10)
    told = verdicts(room, Candidate("b", 2, 16, 5), Candidate("a", 1, 15, 5), Candidate("c", 3, 1))
    assert told == {"a": Why.FITS, "b": Why.FULL, "c": Why.FITS}


def test_an_idle_engine_takes_the_first_whatever_it_needs_but_only_one() -> None:
    room = Room(capacity_blocks=100, owned_blocks=100, idle_s=0.0)
    assert verdicts(room, Candidate("a", 1, 500), Candidate("b", 2, 1)) == {"a": Why.IDLE, "b": Why.FULL}


def test_one_that_was_passed_often_enough_is_next() -> None:
    room = Room(capacity_blocks=100, owned_blocks=90)
    told = verdicts(room, Candidate("a", 1, 20, bypassed=LIMITS.most_bypassed), Candidate("b", 2, 1))
    assert told == {"a": Why.FULL, "b": Why.BEHIND}


def test_each_that_goes_before_counts() -> None:
    room = Room(capacity_blocks=100, owned_blocks=90)
    told = admissions(
        [Candidate("a", 1, 20, bypassed=6), *(Candidate(f"b{n}", 2 + n, 1) for n in range(4))], room, LIMITS
    )
    assert [(v.program, v.admitted, v.bypassed) for v in told] == [
        ("a", False, 8),
        ("b0", True, 0),
        ("b1", True, 0),
        ("b2", False, 0),
        ("b3", False, 0),
    ]


def test_who_waited_too_long_enters_though_it_does_not_fit_but_not_all_at_once() -> None:
    waiting = [Candidate("a", 1, 60, waited_s=301.0), Candidate("b", 2, 60, waited_s=400.0)]
    full = Room(capacity_blocks=100, owned_blocks=100)
    assert verdicts(full, *waiting) == {"a": Why.FULL, "b": Why.AGED}
    assert verdicts(replace(full, since_forced_s=9.0), *waiting) == {"a": Why.FULL, "b": Why.FULL}


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_every_random_program_ends_and_none_waits_longer_than_is_written(seed: int, most_bypassed: int) -> None:
    """Programs of random sizes and pauses, some of which never return, on KV smaller than some of them."""
    limits = Limits(patience_s=40.0, spacing_s=5.0, most_bypassed=most_bypassed)
    world = World(random.Random(seed), limits)
    world.run()
    assert not world.waiting
    assert world.ended == set(world.sizes)


class World:
    """One call runs a second; an active program is running, pausing, or its tool never returns. A program that never
    returns is let go after a while, as retention lets it go."""

    def __init__(self, rng: random.Random, limits: Limits) -> None:
        self.rng, self.limits = rng, limits
        self.sizes = {f"p{n}": rng.randint(1, 120) for n in range(rng.randint(1, 15))}
        self.order = {program: n for n, program in enumerate(self.sizes)}
        self.arrives = {program: rng.randint(0, 30) for program in self.sizes}
        self.waiting: dict[str, tuple[float, int, int]] = {}  # since, bypassed, others waiting then
        self.busy_until: dict[str, float] = {}
        self.pause_until: dict[str, float] = {}
        self.ended: set[str] = set()
        self.forced_s = -inf

    def run(self) -> None:
        for now in range(2_000):
            self._arrive(now)
            self._progress(now)
            self._admit(now)
            if len(self.ended) == len(self.sizes):
                return

    def _arrive(self, now: int) -> None:
        for program, at in self.arrives.items():
            if at == now:
                self.waiting[program] = (now, 0, len(self.waiting))

    def _progress(self, now: int) -> None:
        for program, until in sorted(self.busy_until.items()):
            if until <= now:
                del self.busy_until[program]
                self.pause_until[program] = now + self.rng.choice([0, 1, 5, 20])
        for program, until in sorted(self.pause_until.items()):
            if until <= now:
                del self.pause_until[program]
                if self.rng.random() < 0.5:
                    self.ended.add(program)
                else:
                    self.busy_until[program] = now + 1

    def _admit(self, now: int) -> None:
        active = [*self.busy_until, *self.pause_until]
        idle_s = None if self.busy_until else 0.0
        room = Room(100, sum(self.sizes[p] for p in active), 2 * len(active), idle_s, now - self.forced_s)
        candidates = [
            Candidate(program, self.order[program], self.sizes[program], 2, now - since, bypassed)
            for program, (since, bypassed, _) in self.waiting.items()
        ]
        for verdict in admissions(candidates, room, self.limits):
            since, _, others = self.waiting[verdict.program]
            assert now - since <= self.limits.patience_s + (others + 1) * self.limits.spacing_s
            if verdict.admitted:
                del self.waiting[verdict.program]
                self.busy_until[verdict.program] = now + 1
                self.forced_s = now if verdict.why is Why.AGED else self.forced_s
            else:
                assert verdict.bypassed <= self.limits.most_bypassed + len(candidates)
                self.waiting[verdict.program] = (since, verdict.bypassed, others)


def give_back(holdings: Sequence[Holding], blocks: int, order: Order = least_rank_first) -> tuple[Give, ...]:
    """So many blocks less may be held than are, by one tenant."""
    alone = [replace(holding, tenant="") for holding in holdings]
    may_be_held = max(0, sum(holding.blocks for holding in alone) - blocks)
    return over_caps(alone, may_be_held, Caps(share=1.0, tenant_share=1.0), order)


@given(HOLDINGS, st.integers(0, 400))
def test_what_is_wanted_comes_free_or_all_there_is_and_none_gives_more_than_it_holds(
    holdings: list[Holding], blocks: int
) -> None:
    gives = give_back(holdings, blocks)
    held = {holding.program: holding.blocks for holding in holdings}
    assert sum(give.blocks for give in gives) == min(blocks, sum(held.values()))
    assert all(0 < give.blocks <= held[give.program] for give in gives)


@given(HOLDINGS, st.integers(0, 400))
def test_no_program_gives_while_one_that_is_worth_less_keeps_anything(holdings: list[Holding], blocks: int) -> None:
    gives = {give.program: give.blocks for give in give_back(holdings, blocks)}
    for less in holdings:
        for more in holdings:
            worth_less = (less.turn_waiting, less.rank, -less.sequence) < (more.turn_waiting, more.rank, -more.sequence)
            if worth_less and gives.get(less.program, 0) < less.blocks:
                assert more.program not in gives


def test_a_program_whose_turn_waits_gives_only_when_all_others_have() -> None:
    waits = Holding("waits", 10, rank=0.0, sequence=9, turn_waiting=True)
    young, old = (Holding(name, 10, rank=1.0, sequence=n) for n, name in [(8, "young"), (7, "old")])
    assert give_back([waits, old, young], 12) == (Give("young", 10), Give("old", 2))
    assert give_back([waits, old, young], 25)[-1] == Give("waits", 5)
    assert give_back([waits, old, young], 5, youngest_first) == (Give("waits", 5),)


@given(HOLDINGS, st.integers(0, 200), st.floats(0, 1), st.floats(0, 1))
def test_caps_hold_for_all_and_for_each_tenant(
    holdings: list[Holding], capacity: int, share: float, tenant_share: float
) -> None:
    gives = over_caps(holdings, capacity, Caps(share, tenant_share))
    assert len({give.program for give in gives}) == len(gives)
    left = {holding.program: holding.blocks for holding in holdings}
    for give in gives:
        left[give.program] -= give.blocks
    assert min(left.values(), default=0) >= 0
    assert sum(left.values()) <= capacity * share
    tenants = {holding.tenant for holding in holdings}
    for tenant in tenants if len(tenants) > 1 else ():
        assert sum(left[h.program] for h in holdings if h.tenant == tenant) <= capacity * tenant_share


def test_within_the_caps_nobody_gives() -> None:
    assert over_caps([Holding("a", 50, 1.0, 1)], 100, Caps(0.5, 0.1)) == ()


CHAINS = st.lists(
    st.tuples(st.sampled_from(["p", "q", "r"]), st.lists(st.integers(0, 1), max_size=6), st.integers(0, 3)),
    max_size=20,
)


@given(CHAINS)
def test_each_block_is_counted_once_whoever_shares_it(steps: list[tuple[str, list[int], int]]) -> None:
    ledger = Ledger()
    chains: dict[str, list[tuple[int, ...]]] = {}
    for program, path, how in steps:
        chain = [tuple(path[: end + 1]) for end in range(len(path))]
        if how == 0:
            ledger.release(program)
            chains.pop(program, None)
        elif how == 1:
            ledger.give(program, 2)
            chains[program] = chains.get(program, [])[:-2]
        else:
            ledger.own(program, chain)
            chains[program] = chain
        assert ledger.owned_blocks == len({block for held in chains.values() for block in held})
        assert ledger.missing_blocks(chain) == len(set(chain) - {b for held in chains.values() for b in held})
        for name, held in chains.items():
            others = {block for other, blocks in chains.items() if other != name for block in blocks}
            assert ledger.own_blocks(name) == len(set(held) - others)


@pytest.mark.parametrize(("one", "other", "same"), [("abc", "abd", 2), ("", "a", 0), ("ab", "ab", 2), ("b", "a", 0)])
def test_two_chains_are_alike_up_to_where_they_part(one: str, other: str, same: int) -> None:
    chains = [[text[: end + 1] for end in range(len(text))] for text in (one, other)]
    assert common(*chains) == same


@given(st.floats(0.001, 100.0), st.floats(0.0, 100.0))
def test_nobody_waits_for_room_longer_than_what_it_would_take_is_prefilled_again(
    prefill_s: float, queued_s: float
) -> None:
    taken = Worth(prefill_s, queued_s, 10.0, 10.0)
    assert may_take(prefill_s, taken)
    assert not may_take(prefill_s * 0.99, taken)
