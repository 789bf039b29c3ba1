"""What a call takes beside those inside, told of engines as they are."""

from dataclasses import dataclass, replace

import pytest

from executor.core.fleet import Fleet
from executor.core.joining import joining
from executor.engines.model.profiles import PROFILES
from executor.engines.port import EngineSpec
from executor.policy.routing import Choice, Offer
from kvstore.prefix_index import BlockName
from planner.ir.ids import EngineId

QUICK, ROOMY = EngineId("quick"), EngineId("roomy")
_A100 = PROFILES["A100"]
#: The second takes twice as long for everything, and has eight times the room: a call is a smaller share of it.
_ROOMY = replace(_A100, weights_s=2 * _A100.weights_s, token_s=2 * _A100.token_s, kv_tokens=160_000)
FLEET = (
    EngineSpec(QUICK, "scripted", ("small",), profile=replace(_A100, kv_tokens=20_000), kv_tokens=20_000),
    EngineSpec(ROOMY, "scripted", ("small",), profile=_ROOMY, kv_tokens=160_000),
)
#: Nobody measured these.
BY_KIND = tuple(
    EngineSpec(engine, "scripted", ("small",), gpu=gpu, kv_tokens=tokens)
    for engine, gpu, tokens in ((QUICK, "A100-80", 20_000), (ROOMY, "A6000", 160_000))
)
ANSWER = 500


@dataclass(slots=True, eq=False)
class Call:
    prompt_tokens: int = 1_000
    output_tokens: int = ANSWER
    prefix: tuple[BlockName, ...] = ()
    own_kv_tokens: float = 0.0
    engine: EngineId | None = None
    load_s: float = 0.0
    sent_at: float = 0.0
    beside: int = 0
    model: str = "small"
    suspect: bool = False


def offers(fleet: Fleet[Call], call: Call, waits_s: float = 0.0) -> dict[EngineId, Offer]:
    shares = fleet.shares(call, fleet.serving("small"), ANSWER, 1.0)
    return {share.view.spec.id: joining(fleet, call, share, ANSWER, waits_s) for share in shares}


def filled(fleet: Fleet[Call], engine: EngineId, calls: int) -> Fleet[Call]:
    for _ in range(calls):
        (share,) = fleet.shares(Call(), [fleet.views[engine]], ANSWER, 1.0)
        fleet.enter(Call(), Choice(engine, share.load_s, ""), 0.0)
    return fleet


@pytest.mark.parametrize("engines", [FLEET, BY_KIND], ids=["measured", "by kind"])
def test_a_call_is_done_first_where_steps_are_short_though_it_is_a_smaller_share_of_a_roomy_engine(
    engines: tuple[EngineSpec, ...],
) -> None:
    fleet, call = Fleet[Call](engines, 3), Call()
    shares = {share.view.spec.id: share for share in fleet.shares(call, fleet.serving("small"), ANSWER, 1.0)}
    found = offers(fleet, call)
    assert shares[ROOMY].load_s < shares[QUICK].load_s
    assert found[QUICK].cost_s < found[ROOMY].cost_s


def test_on_an_idle_engine_nobody_else_loses_anything() -> None:
    found = offers(Fleet[Call](FLEET, 3), Call())[QUICK]
    assert found.cost_s == found.done_s


def test_the_more_are_inside_the_later_it_is_done_and_the_more_others_lose() -> None:
    found = [offers(filled(Fleet(FLEET, 3), QUICK, calls), Call())[QUICK] for calls in range(8)]
    assert [one.done_s for one in found] == sorted(one.done_s for one in found)
    lost_s = [one.cost_s - one.done_s for one in found]
    assert lost_s == sorted(lost_s)


def test_once_enough_are_inside_the_next_goes_to_the_slower_engine() -> None:
    found = offers(filled(Fleet([replace(FLEET[0], kv_tokens=60_000), FLEET[1]], 3), QUICK, 36), Call())
    assert found[ROOMY].cost_s < found[QUICK].cost_s


def test_an_engine_whose_calls_last_longer_than_predicted_costs_as_much_more() -> None:
    fleet = Fleet[Call](FLEET, 3)
    usual = offers(fleet, Call())[QUICK]
    slow = replace(usual, view=replace(usual.view, slowness=2.0))
    assert slow.cost_s == pytest.approx(2 * usual.cost_s)


def test_where_its_program_waits_for_longer_only_others_count() -> None:
    fleet = filled(Fleet(FLEET, 3), QUICK, 1)
    slowest_s = max(offer.done_s for offer in offers(fleet, Call()).values())
    found = offers(fleet, Call(), waits_s=2 * slowest_s)
    assert found[ROOMY].cost_s == 2 * slowest_s < found[QUICK].cost_s
    assert found[ROOMY].done_s == offers(fleet, Call())[ROOMY].done_s


def test_what_its_program_waits_for_is_no_longer_on_a_slow_engine() -> None:
    fleet = Fleet[Call](FLEET, 3)
    (share,) = fleet.shares(Call(), [replace(fleet.views[QUICK], slowness=2.0)], ANSWER, 1.0)
    assert joining(fleet, Call(), share, ANSWER, waits_s=1_000.0).cost_s == pytest.approx(1_000.0)
