"""Migration: a program's next turn leaves the engine with its KV where that gains more than coming back would cost."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.core.tiers import BUS_SHARE, LOOK_UP_S, Tiers, kv_bytes_per_token
from executor.door.commands import Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived
from executor.engines.port import EngineSpec, Usage
from executor.events import EngineDraining, EngineLost, EngineResumed
from executor.policy.migration import unless_it_stays, worth_leaving_for
from executor.policy.patience import Wait, go_or_wait
from executor.policy.routing import Choice, EngineView, Offer
from planner.cost.gpus import A100_80
from planner.ir.ids import EngineId, ProgramId

HOME, AWAY = EngineId("home"), EngineId("away")


def spec(name: EngineId, tier: str = "host") -> EngineSpec:
    return EngineSpec(name, "vllm", ("Llama-3-8B",), gpu="A100", kv_tier=tier, kv_tier_gib=1.0)


def offer(
    engine: EngineId, before_s: float, load_s: float, warm: int, tier: int = 0, slowness: float = 1.0, kv: bool = True
) -> Offer:
    view = EngineView(spec(engine), load_s=before_s, slowness=slowness)
    return Offer(view, load_s, 4000, warm, kv, load_s, tier)


def at_home(before_s: float, slowness: float = 1.0) -> Offer:
    return offer(HOME, before_s, 0.5, 3900, slowness=slowness)


def away(before_s: float, load_s: float = 0.7) -> Offer:
    return offer(AWAY, before_s, load_s, 0, 3900)


def goes(offers: Sequence[Offer]) -> EngineId:
    """Where the call ends up, with room or without."""
    return go_or_wait(offers, {}).engine


def test_a_program_stays_where_its_kv_is() -> None:
    assert goes([at_home(0.0), away(0.0)]) == HOME


def test_it_leaves_an_engine_that_is_busy_for_longer_than_a_move_takes() -> None:
    assert goes([at_home(3.0), away(0.0)]) == AWAY


def test_it_stays_where_the_gain_would_not_pay_for_coming_back() -> None:
    """Away it would be done 0.1 s sooner, and the move costs 0.2 s."""
    assert goes([at_home(0.3), away(0.0)]) == HOME
    assert goes([at_home(0.41), away(0.0)]) == AWAY


def test_it_leaves_an_engine_that_slows() -> None:
    assert goes([at_home(0.2), away(0.0)]) == HOME
    assert goes([at_home(0.2, slowness=4.0), away(0.0)]) == AWAY


def test_it_leaves_an_engine_that_is_too_full_or_gone() -> None:
    full = offer(HOME, 0.0, 0.5, 3900, kv=False)
    assert [one.view.spec.id for one in unless_it_stays([full, away(0.0)])] == [AWAY]
    assert goes([away(0.0)]) == AWAY


def test_away_from_an_engine_that_takes_nothing_it_loads_only_where_that_is_quicker_than_reading_anew() -> None:
    """Home drains, so it offers nothing; another engine has no tier and would read the prompt in 2 s."""
    reads = offer(EngineId("reads"), 0.0, 2.0, 32)
    assert goes([away(0.0, load_s=0.7), reads]) == AWAY
    assert goes([away(0.0, load_s=3.0), reads]) == EngineId("reads")


def test_without_a_tier_all_offers_stand() -> None:
    offers = [at_home(0.0), offer(AWAY, 0.0, 2.0, 0)]
    assert unless_it_stays(offers) is offers


def test_what_waits_for_home_counts_as_work_before_it() -> None:
    choice = go_or_wait([at_home(0.0), away(0.0)], {HOME: 5.0})
    assert isinstance(choice, Choice)
    assert choice.engine == AWAY
    assert "3,900 from the tier" in choice.reason
    assert isinstance(go_or_wait([at_home(0.0), away(0.0)], {HOME: 0.1}), Wait)


@given(st.floats(0, 20), st.floats(0, 20), st.floats(0, 2))
def test_two_moves_in_a_row_need_loads_that_changed(home_s: float, away_s: float, moving_s: float) -> None:
    """Never to and fro: whoever has moved would not move back while loads are what they were."""
    there = offer(AWAY, away_s, 0.5 + moving_s, 0, 3900)
    if goes([at_home(home_s), there]) == AWAY:
        back = [offer(HOME, home_s, 0.5 + moving_s, 0, 3900), offer(AWAY, away_s, 0.5, 3900)]
        assert goes(back) == AWAY


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 3)), min_size=2, max_size=6))
def test_a_move_gains_what_it_costs_once_more(loads: list[tuple[float, float]]) -> None:
    first, *others = loads
    home = offer(EngineId("e0"), first[0], 0.01, 3900)
    offers = [home, *(offer(EngineId(f"e{n}"), s, cost, 0, 3900) for n, (s, cost) in enumerate(others, start=1))]
    done_s = {one.view.spec.id: one.done_s for one in offers}
    kept = worth_leaving_for(offers, done_s)
    assert home in kept
    assert all(one.done_s + (one.load_s - home.load_s) <= home.done_s for one in kept if one is not home)


# What the tier holds


def test_engines_of_one_tier_find_each_others_blocks() -> None:
    tiers = Tiers([spec(HOME), spec(AWAY), spec(EngineId("alone"), "other host"), spec(EngineId("none"), "")])
    tiers.keep(HOME, (1, 2, 3))
    assert [tiers.match(engine, (1, 2, 3, 4)) for engine in (HOME, AWAY)] == [3, 3]
    assert [tiers.match(EngineId(name), (1, 2, 3)) for name in ("alone", "none")] == [0, 0]
    tiers.keep(EngineId("none"), (7,))
    assert not Tiers([spec(EngineId("none"), "")])


def test_a_tier_forgets_what_it_has_no_room_for() -> None:
    tiers = Tiers([spec(HOME)])
    room = int(2**30 / kv_bytes_per_token(spec(HOME)) / 32)
    tiers.keep(HOME, tuple(range(room)))
    tiers.keep(HOME, tuple(range(room, 2 * room)))
    assert tiers.match(HOME, tuple(range(room))) == 0
    assert tiers.match(HOME, tuple(range(room, 2 * room))) == room


def test_loading_takes_as_long_as_was_measured_or_half_of_the_bus() -> None:
    tiers = Tiers([spec(HOME)])
    bytes_per_s = BUS_SHARE * A100_80.host_gb_per_s * 1e9
    assert tiers.load_s(HOME, 1000) == pytest.approx(LOOK_UP_S + 1000 * kv_bytes_per_token(spec(HOME)) / bytes_per_s)
    assert tiers.load_s(HOME, 0) == 0.0


# Through the door


class Story:
    """Calls of programs through a door to two engines, with a tier or without."""

    def __init__(self, tier: str) -> None:
        self.core = DoorCore([spec(HOME, tier), spec(AWAY, tier)])
        self.now, self.calls = 1000.0, 0

    def arrives(self, program: str, blocks: range) -> Send:
        self.now, self.calls = self.now + 0.001, self.calls + 1
        named, tokens = ProgramId(f"team/{program}"), 32 * len(blocks)
        event = CallArrived(
            self.now, self.calls, "team", "Llama-3-8B", named, named, None, tuple(blocks), tokens, answer_tokens=200
        )
        (sent,) = [command for command in self.core.handle(event) if isinstance(command, Send)]
        return sent

    def answered(self, sent: Send, prompt_tokens: int, slower: float = 1.0) -> None:
        self.now += 3.35 * slower  # as predicted where engines are as fast as believed
        self.core.handle(CallAnswered(self.now, sent.call, Usage(prompt_tokens, 200)))


@pytest.mark.parametrize(("tier", "engine"), [("host", HOME), ("", AWAY)])
def test_a_long_program_leaves_a_busier_engine_only_where_its_kv_can_be_loaded(tier: str, engine: EngineId) -> None:
    """Reading its 8,000 tokens anew would take 0.7 s; loading them takes a tenth of that."""
    story = Story(tier)
    first = story.arrives("ada", range(250))
    assert first.engine == AWAY  # of equals the one whose name comes first
    story.answered(first, 8000)
    assert story.arrives("bob", range(1000, 1150)).engine == AWAY
    again = story.arrives("ada", range(260))
    assert again.engine == engine
    assert ("from the tier" in again.reason) == bool(tier)


def test_programs_leave_a_draining_engine_and_load_their_kv_elsewhere() -> None:
    story = Story("host")
    first = story.arrives("ada", range(250))
    story.answered(first, 8000)
    story.core.handle(EngineDraining(story.now, first.engine))
    again = story.arrives("ada", range(260))
    assert (again.engine, "8,000 from the tier" in again.reason) == (HOME, True)
    story.answered(again, 8320)
    story.core.handle(EngineResumed(story.now, first.engine))
    assert story.arrives("ada", range(270)).engine == HOME  # where its KV is now


def test_programs_leave_an_engine_whose_answers_take_ever_longer() -> None:
    story = Story("host")
    first = story.arrives("ada", range(250))
    story.answered(first, 8000)
    engines = [first.engine]
    for turn in range(1, 12):
        sent = story.arrives("ada", range(250 + 4 * turn))
        engines.append(sent.engine)
        story.answered(sent, 8000 + 128 * turn, slower=6.0 if sent.engine == first.engine else 1.0)
    assert engines[1] == first.engine
    assert engines[-1] != first.engine
    assert engines == sorted(engines, key=lambda engine: engine != first.engine)  # and nobody comes back


def test_programs_leave_an_engine_that_is_lost_and_load_their_kv_elsewhere() -> None:
    story = Story("host")
    first = story.arrives("ada", range(250))
    story.answered(first, 8000)
    story.core.handle(EngineLost(story.now, first.engine, "gone"))
    again = story.arrives("ada", range(260))
    assert (again.engine, "8,000 from the tier" in again.reason) == (HOME, True)
