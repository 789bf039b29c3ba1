"""Questions of a fleet: laws of the queue, the cheapest mix against every mix, the knee, energy and signals."""

from dataclasses import replace
from itertools import product
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.cost.gpus import Gpu, gpu_named
from planner.cost.model import Replica
from planner.cost.profile import Profile
from planner.cost.shapes import LLAMA_3_8B
from planner.errors import FleetImpossible
from planner.fleet.capacity import Capacities, bounds_of_classes
from planner.fleet.energy import board_watts, mix_watts, unknown_boards
from planner.fleet.improve import fewest
from planner.fleet.kinds import EngineKind, kinds_of
from planner.fleet.knee import Knee, find_knee, one_more, point_of
from planner.fleet.mix import cheapest_mix
from planner.fleet.mix_values import Mix
from planner.fleet.occupancy import Occupancy
from planner.fleet.signals import signals
from planner.fleet.workload import CallClass, Slo, Workload

MODEL = "llama"
SHORT = CallClass("short", MODEL, 300, 100)
LONG = CallClass("long", MODEL, 6000, 300)
AGENT = CallClass("agent", MODEL, 6000, 100, per_program=4, cached_tokens=5000)
QUICK = Slo(token_s=0.05, first_token_s=2.0)


def gpu(name: str) -> Gpu:
    found = gpu_named(name)
    assert found
    return found


def kind(name: str, usd: float = 1.0, degree: int = 1) -> EngineKind:
    return EngineKind(name, MODEL, Replica(gpu(name), LLAMA_3_8B, degree), usd)


H100, L40S, A10 = kind("H100", 3.0), kind("L40S", 1.0), kind("A10", 0.75)

calls = st.builds(
    CallClass,
    st.sampled_from(("one", "other")),
    st.just(MODEL),
    st.sampled_from((200.0, 1000.0, 5000.0)),
    st.sampled_from((20.0, 100.0, 400.0)),
    st.sampled_from((0.5, 1.0, 3.0)),
)
slos = st.builds(
    Slo,
    st.sampled_from((None, 0.04, 0.1)),
    st.sampled_from((None, 1.0, 4.0)),
    st.sampled_from((None, 20.0)),
)
kinds = st.lists(st.sampled_from((H100, L40S, A10)), min_size=1, max_size=3, unique=True)


# The queue of one engine


@given(st.sampled_from((H100, L40S, A10)), calls, st.floats(0.05, 0.9), st.floats(1.01, 1.1))
def test_more_load_never_makes_calls_faster(engine: EngineKind, call: CallClass, load: float, more: float) -> None:
    most = Occupancy(engine, {call: 1.0}).most
    before, after = (Occupancy(engine, {call: most * part}) for part in (load, load * more))
    assert before.latency(call).call_s <= after.latency(call).call_s * (1 + 1e-9)
    assert before.busy <= after.busy + 1e-9
    assert before.running <= after.running + 1e-6


@given(calls, st.floats(0.05, 0.95))
def test_what_comes_is_worked_off(call: CallClass, load: float) -> None:
    used = Occupancy(H100, {call: load * Occupancy(H100, {call: 1.0}).most})
    worked_off = float(used.chances()[1:] @ used.service) + used.beyond() * used.most
    assert worked_off == pytest.approx(used.arrivals, rel=1e-6)


def test_an_engine_alone_takes_what_the_cost_model_says() -> None:
    alone = Occupancy(H100, {SHORT: 1e-6}).latency(SHORT)
    assert alone.first_token_s == pytest.approx(H100.prefill_s(SHORT))
    assert alone.token_s == pytest.approx(H100.step_s(1, 350), rel=1e-4)


def test_what_comes_beyond_the_most_has_no_latency() -> None:
    used = Occupancy(A10, {SHORT: 1000.0})
    assert (used.stable, used.latency(SHORT).call_s, used.busy) == (False, inf, 1.0)


def test_a_call_that_does_not_fit_into_the_kv_is_never_taken() -> None:
    huge = CallClass("huge", MODEL, 1e6, 10)
    assert Occupancy(A10, {huge: 1e-9}).most == 0
    with pytest.raises(FleetImpossible, match="huge: no kind of engine allowed keeps the bounds"):
        cheapest_mix(Workload(1, (huge,)), Slo(), [A10])


@given(st.sampled_from((H100, L40S)), calls, slos)
def test_a_capacity_keeps_its_bounds_and_a_little_more_does_not(engine: EngineKind, call: CallClass, slo: Slo) -> None:
    capacities = Capacities({call: slo}, slo.share)
    most = capacities.calls_per_s(engine, call)
    if most:
        assert capacities.keeps(engine, {call: most * 0.999})
        assert not capacities.keeps(engine, {call: most * 1.01})


def test_cached_tokens_make_room_for_more_calls() -> None:
    cold = replace(AGENT, cached_tokens=0)
    capacities = Capacities({AGENT: QUICK, cold: QUICK}, 0.95)
    assert capacities.calls_per_s(H100, AGENT) > 1.5 * capacities.calls_per_s(H100, cold)


def test_a_measured_profile_decides_over_the_gpu() -> None:
    profile = Profile("slow", "a test", True, 0.05, 1e-4, 2.0, 1e-7, 1e-9, kv_tokens=100_000)
    measured = replace(H100, name="as measured", profile=profile)
    assert measured.step_s(1, 100) > 5 * H100.step_s(1, 100)
    assert measured.prefill_s(LONG) == pytest.approx(
        profile.matrix_s(2048) * 2 + profile.matrix_s(6000 - 4096), rel=0.1
    )
    assert measured.kv_tokens == 100_000


# The cheapest mix


@settings(max_examples=25, deadline=None)
@given(st.lists(calls, min_size=1, max_size=2, unique=True), slos, kinds, st.floats(0.2, 8.0))
def test_the_plan_is_within_a_twentieth_of_every_mix(
    asked: list[CallClass], slo: Slo, engines: list[EngineKind], rate: float
) -> None:
    workload = Workload(rate, tuple(asked))
    capacities = Capacities(bounds_of_classes(workload, slo, engines), slo.share)
    least = min(_usd(workload, division, engines, capacities) for division in _divisions(engines, asked))
    if least == inf:
        with pytest.raises(FleetImpossible):
            cheapest_mix(workload, slo, engines)
    else:
        assert cheapest_mix(workload, slo, engines).usd_per_hour <= 1.05 * least


def _divisions(engines: list[EngineKind], asked: list[CallClass]) -> list[tuple[tuple[float, ...], ...]]:
    """Each class in halves among the kinds, in every way."""
    halves = [parts for parts in product((0, 0.5, 1), repeat=len(engines)) if sum(parts) == 1]
    return list(product(halves, repeat=len(asked)))


def _usd(
    workload: Workload, division: tuple[tuple[float, ...], ...], engines: list[EngineKind], capacities: Capacities
) -> float:
    usd = 0.0
    for place, engine in enumerate(engines):
        parts = {call: parts[place] for call, parts in zip(workload.calls, division, strict=True) if parts[place]}
        if any(capacities.calls_per_s(engine, call) == 0 for call in parts):
            return inf
        rates = {call: workload.rate(call) * part for call, part in parts.items()}
        usd += engine.usd_per_hour * fewest(engine, rates, capacities) if rates else 0.0
    return usd


@settings(max_examples=25, deadline=None)
@given(st.lists(calls, min_size=1, max_size=2, unique=True), slos, kinds, st.floats(0.2, 8.0))
def test_a_plan_does_all_that_is_asked_within_the_bounds(
    asked: list[CallClass], slo: Slo, engines: list[EngineKind], rate: float
) -> None:
    workload = Workload(rate, tuple(asked))
    try:
        mix = cheapest_mix(workload, slo, engines)
    except FleetImpossible:
        return
    for call in workload.calls:
        done = sum(of_kind.get(call, 0.0) for of_kind in mix.rates.values())
        assert done == pytest.approx(workload.rate(call), rel=1e-6)
    assert point_of(workload, slo, mix).kept


def test_limits_on_gpus_are_kept_or_told() -> None:
    workload = Workload(4, (SHORT, LONG))
    free = cheapest_mix(workload, QUICK, [H100, L40S])
    bound = cheapest_mix(workload, QUICK, [H100, L40S], {"H100": 1})
    assert sum(count for engine, count in bound.engines.items() if engine.gpu.name == "H100") <= 1
    assert bound.usd_per_hour >= free.usd_per_hour
    with pytest.raises(FleetImpossible, match="allow more GPUs"):
        cheapest_mix(workload, QUICK, [H100], {"H100": 1})


def test_a_model_without_an_engine_is_told() -> None:
    stranger = replace(SHORT, model="other")
    with pytest.raises(FleetImpossible, match="other: no GPU allowed has room"):
        cheapest_mix(Workload(1, (SHORT, stranger)), QUICK, [H100])


def test_the_same_question_has_the_same_answer() -> None:
    workload = Workload(5, (SHORT, LONG, AGENT))
    first, again = (cheapest_mix(workload, QUICK, [H100, L40S, A10]) for _ in range(2))
    assert first == again


def test_a_bound_on_programs_is_divided_among_their_calls() -> None:
    workload, slo = Workload(1, (SHORT, AGENT)), Slo(program_s=20.0)
    bounds = bounds_of_classes(workload, slo, [H100, L40S])
    parts = {call: bound.call_s or 0.0 for call, bound in bounds.items()}
    assert sum(call.turns * seconds for call, seconds in parts.items()) == pytest.approx(20.0)


def test_kinds_leave_out_engines_without_room_for_kv() -> None:
    found = list(kinds_of(MODEL, Replica(gpu("T4"), LLAMA_3_8B), {"T4": (gpu("T4"), 0.35)}))
    assert [one.name for one in found] == ["2 x T4", "4 x T4", "8 x T4"]
    assert found[0].usd_per_hour == 0.7


# Tenants that are kept apart, and adapters

ANNS = replace(SHORT, tenant="ann", apart=True)
FOR_ANN = [replace(one, tenants=("ann",)) for one in (H100, L40S, A10)]


def test_tenants_that_are_kept_apart_get_the_engines_that_each_alone_would() -> None:
    both, kinds = Workload(40, (SHORT, ANNS, LONG)), [H100, L40S, A10, *FOR_ANN]
    mix = cheapest_mix(both, QUICK, kinds)
    alone = [cheapest_mix(both.only(calls), QUICK, kinds) for calls in ([SHORT, LONG], [ANNS])]
    assert mix.usd_per_hour == pytest.approx(sum(one.usd_per_hour for one in alone))
    for one, rates in mix.rates.items():
        assert {call.tenant for call in rates} == ({"ann"} if one.tenants else {""})
    limited = cheapest_mix(both, QUICK, kinds, {"H100": 1})
    assert sum(count for one, count in limited.engines.items() if one.gpu.name == "H100") <= 1


def test_everybodys_engines_take_a_tenants_calls_that_are_not_kept_apart() -> None:
    ann, bob = replace(SHORT, tenant="ann"), replace(SHORT, tenant="bob")
    kept = {H100: 1, FOR_ANN[0]: 1}
    assert find_knee(Workload(1, (bob,)), QUICK, kept).rates.keys() == {H100}
    assert find_knee(Workload(1, (ann,)), QUICK, kept).rates.keys() == {H100, FOR_ANN[0]}
    assert find_knee(Workload(1, (ANNS,)), QUICK, kept).rates.keys() == {FOR_ANN[0]}


@pytest.mark.parametrize(
    ("call", "engines", "told"),
    [
        (replace(SHORT, tenant="bob"), FOR_ANN, "kept for other tenants than 'bob'; name 'bob' in `tenants`"),
        (ANNS, [H100], "no engine of the fleet is kept for the tenant 'ann'; name the tenant in `tenants`"),
        (replace(SHORT, model="gpt"), [H100], "no engine of the fleet serves it"),
    ],
)
def test_calls_that_nobody_may_take_are_told_with_the_fix(
    call: CallClass, engines: list[EngineKind], told: str
) -> None:
    for ask in (find_knee, signals):
        with pytest.raises(FleetImpossible, match=told):
            ask(Workload(1, (call,)), QUICK, dict.fromkeys(engines, 1))


def test_signals_are_apart_where_no_engine_is_in_common() -> None:
    ann = replace(SHORT, tenant="ann")
    shared = signals(Workload(2, (LONG, ann)), QUICK, {H100: 1, FOR_ANN[0]: 1})
    assert [(one.engines, one.tenants) for one in shared] == [(2, ())]
    everybodys, anns = signals(Workload(2, (LONG, ANNS)), QUICK, {H100: 1, FOR_ANN[0]: 1})
    assert [(one.engines, one.tenants) for one in (everybodys, anns)] == [(1, ()), (1, ("ann",))]
    assert (everybodys.decode_demanded, anns.decode_demanded) == (2 * 300, 2 * 100)


def test_an_adapters_calls_go_where_its_model_is_and_it_is_loaded() -> None:
    sql = replace(SHORT, name="sql", model="sql", adapter_of=MODEL)
    with_sql = replace(H100, adapters=("sql",))
    workload = Workload(1, (SHORT, sql))
    assert workload.models == (MODEL,)
    assert find_knee(workload, QUICK, {L40S: 1, with_sql: 1}).rates[with_sql].keys() >= {sql}
    (signal,) = signals(workload, QUICK, {L40S: 1, with_sql: 1})
    assert (signal.model, signal.engines) == (MODEL, 2)
    with pytest.raises(FleetImpossible, match="sql: no engine of the fleet serves it"):
        find_knee(workload, QUICK, {L40S: 1})


# The knee, one more engine, energy, signals


def test_bounds_hold_up_to_the_knee_and_no_further() -> None:
    knee = find_knee(Workload(1, (SHORT, LONG)), QUICK, {H100: 2, L40S: 1})
    kept = [point.programs_per_s for point in knee.curve if point.kept]
    left = [point.programs_per_s for point in knee.curve if not point.kept]
    assert max(kept) == pytest.approx(knee.programs_per_s)
    assert min(left) > knee.programs_per_s


def test_the_knee_does_not_depend_on_the_load_that_is_asked_for() -> None:
    one, ten = (find_knee(Workload(rate, (SHORT, LONG)), QUICK, {H100: 2}).programs_per_s for rate in (1, 10))
    assert one == pytest.approx(ten, rel=1e-3)


def test_classes_that_are_in_each_others_way_however_few_come_have_no_knee() -> None:
    """Beside prompts as long as these a short call takes more than its part of what a program may take."""
    short, huge = replace(SHORT, output_tokens=400), CallClass("huge", MODEL, 100_000, 400)
    few, slo = Workload(1, (short, huge)), Slo(program_s=18)
    assert find_knee(few, slo, {H100: 2}) == Knee(0.0, {}, ())
    with pytest.raises(FleetImpossible, match="in each other's way"):
        signals(few, slo, {H100: 2})


def test_one_more_engine_never_brings_less_and_the_cheapest_gain_is_first() -> None:
    found = one_more(Workload(1, (SHORT, LONG)), QUICK, {H100: 1}, [H100, L40S, A10])
    assert all(more.gained_per_s >= 0 for more in found)
    assert [more.usd_per_million for more in found] == sorted(more.usd_per_million for more in found)
    twice = next(more for more in found if more.kind == H100)
    assert twice.gained_per_s == pytest.approx(twice.programs_per_s / 2, rel=0.01)


def test_a_board_draws_least_when_it_waits_and_most_when_it_reads() -> None:
    h100 = gpu("H100")
    assert board_watts(h100, 0, 0, 0) == pytest.approx(119)
    assert board_watts(h100, 0, 1, 1) == pytest.approx(301)
    assert board_watts(h100, 0, 1, 128) == pytest.approx(602)
    assert board_watts(h100, 1, 0, 1) == 700


def test_a_program_takes_less_energy_on_a_fleet_that_is_full() -> None:
    knee = find_knee(Workload(1, (SHORT,)), QUICK, {H100: 1})
    within = [point.joules_per_program for point in knee.curve if point.kept]
    assert within == sorted(within, reverse=True)


def test_engines_that_do_nothing_draw_what_waiting_does() -> None:
    assert mix_watts(Mix({H100: 2}, {})) == pytest.approx(2 * 0.17 * 700)
    assert unknown_boards([kind("cpu"), H100]) == ("cpu",)


def test_signals_tell_what_is_asked_and_what_is_possible() -> None:
    (signal,) = signals(Workload(3, (SHORT, AGENT)), QUICK, {H100: 1})
    assert signal.prefill_demanded == pytest.approx(3 * (300 + 4 * 1000))
    assert signal.decode_demanded == pytest.approx(3 * (100 + 4 * 100))
    assert signal.prefill_possible / signal.prefill_demanded == pytest.approx(1 / signal.load)


@pytest.mark.parametrize(("load", "wanted"), [(0.2, 1), (0.75, 4), (0.87, 4), (1.0, 5), (3.0, 15)])
def test_engines_wanted_follow_the_load_outside_of_a_dead_band(load: float, wanted: int) -> None:
    knee = find_knee(Workload(1, (SHORT,)), QUICK, {H100: 4}, loads=()).programs_per_s
    (signal,) = signals(Workload(knee * load, (SHORT,)), QUICK, {H100: 4})
    assert (signal.engines, signal.engines_wanted) == (4, wanted)
