"""A decision takes no longer in a larger fleet: of many engines, a few are looked at."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec
from executor.policy.sampling import DRAWN, MANY, looked_at
from executor.slo import SloClass
from planner.ir.ids import EngineId
from tests.executor.test_giving_way import House

ENGINE = EngineSpec(EngineId("e"), "scripted", ("small",), gpu="A100-80", max_running=4, kv_tokens=40_000)


def fleet(engines: int) -> list[EngineSpec]:
    return [replace(ENGINE, id=EngineId(f"e{number:03}")) for number in range(engines)]


@given(st.integers(1, 400), st.text(max_size=20), st.integers(0, 399))
def test_few_are_looked_at_the_same_for_the_same_call_and_those_that_must_be(
    engines: int, call: str, must: int
) -> None:
    ids = [EngineId(f"e{number}") for number in range(engines)]
    found = looked_at(ids, call, [EngineId(f"e{must}")])
    assert found == looked_at(ids, call, [EngineId(f"e{must}")])
    assert len(found) == len(set(found)) <= max(MANY, DRAWN + 1)
    assert set(found) <= set(ids)
    assert must >= engines or ids[must] in found


def test_different_calls_look_at_different_engines() -> None:
    ids = [EngineId(f"e{number}") for number in range(256)]
    seen = {engine for call in range(300) for engine in looked_at(ids, f"call {call}")}
    assert len(seen) > 250


@pytest.mark.parametrize("slo", [SloClass.INTERACTIVE, SloClass.BATCH])
def test_in_a_large_fleet_no_engine_with_room_is_left_while_calls_wait(slo: SloClass) -> None:
    house = House(*fleet(60)).submit("job", slo, rows=260)
    assert len(house.sent) == 240
    assert max(len(call.offers) for call in house.sent) <= MANY + 1  # and one of its kind
    assert house.end_all().ended == ["job"]


def test_the_core_can_be_asked_for_all_engines_however_many() -> None:
    assert len(Scheduler(fleet(256)).engines_up) == 256
