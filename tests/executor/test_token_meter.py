"""What engines served lately, second by second."""

from executor.drivers.token_meter import REMEMBERED_S, TokenMeter
from executor.engines.port import Usage
from executor.store.told import Served
from planner.ir.ids import EngineId

A, B = EngineId("a"), EngineId("b")


def test_tokens_are_summed_by_engine_from_a_second_on() -> None:
    meter = TokenMeter()
    meter.note(10.2, B, Usage(100, 10, 50))
    meter.note(10.9, B, Usage(100, 10, 50))
    meter.note(12.0, A, Usage(1, 2, 0))
    assert meter.since(10.5) == [Served(A, 1, 1, 2, 0), Served(B, 2, 200, 20, 100)]
    assert meter.since(11.0) == [Served(A, 1, 1, 2, 0)]
    assert meter.since(13.0) == []


def test_an_hour_is_remembered() -> None:
    meter = TokenMeter()
    for second in range(2 * REMEMBERED_S):
        meter.note(float(second), A, Usage(1, 1, 0))
    assert meter.since(0.0) == [Served(A, REMEMBERED_S, REMEMBERED_S, REMEMBERED_S, 0)]
