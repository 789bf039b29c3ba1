"""What a second of each engine is worth to the others: the dual prices of working off the mix of calls that comes.

Engines are unlike in more than speed: one reads prompts quickly, another has much KV. A linear program shares the
stages of the mix out over engines so that all are done soonest; its prices say how much sooner that would be with a
second more of an engine. A call costs on an engine what it takes there, times the price: where that is least it
belongs, by comparative advantage, however long the lines are now.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.placement.linear import LinearProgram

#: Of the mean price: an engine that the mix has no use for is not free, or the first odd call would flood it.
LEAST_PRICE = 0.05


@dataclass(frozen=True, slots=True)
class MixedStage:
    """`calls` of it come, and each takes `load_s[kind]` seconds of an engine of a kind."""

    calls: float
    load_s: Sequence[float]


def prices_of(engines: Sequence[int], stages: Sequence[MixedStage]) -> tuple[float, ...]:
    """The price of a second of one engine of each kind, where there are `engines[kind]`; a mean engine's is 1.

    Solved in a millisecond for a dozen stages on a handful of kinds. The same mix gives the same prices.
    """
    if len(engines) == 1 or not stages:
        return (1.0,) * len(engines)
    program = LinearProgram()
    makespan_s = program.add_variable(cost=1.0)
    whole = sum(stage.calls * min(stage.load_s) for stage in stages) / sum(engines)
    shares = [[program.add_variable() for _ in engines] for _ in stages]
    for kind, count in enumerate(engines):
        used = {
            share[kind]: -stage.calls * stage.load_s[kind] / whole for share, stage in zip(shares, stages, strict=True)
        }
        program.add_row({makespan_s: float(count), **used}, 0.0)
    for share in shares:
        program.add_row(dict.fromkeys(share, 1.0), 1.0, 1.0)
    duals = [max(0.0, float(price)) for price in program.solve().prices[: len(engines)]]
    mean = sum(count * price for count, price in zip(engines, duals, strict=True)) / sum(engines)
    return tuple(max(LEAST_PRICE, price / mean) for price in duals)
