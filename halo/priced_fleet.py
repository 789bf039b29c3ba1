"""Engines to predict for: those that are named, with their prices, or the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from executor.engines.port import EngineSpec
from halo.batch.engines import any_named, named_engines
from halo.prices import priced, read_prices, reference_engine
from planner.timing import PricedEngine


@dataclass(frozen=True, slots=True)
class Fleet:
    """Engines to predict for, and in words where they come from."""

    engines: Sequence[PricedEngine]
    origin: str = ""


def named_or_reference(
    urls: Sequence[str], models: Sequence[str], fleet: Path | None, environment: Mapping[str, str]
) -> Fleet:
    """The engines that are named, in the arguments or in the environment; else the reference.

    Raises `EnginesUnnamed`, `FleetInvalid` or `PricesInvalid`.
    """
    prices = read_prices(environment)
    if any_named(urls, models, fleet, environment):
        return Fleet(priced(named_engines(urls, models, fleet, environment), prices))
    return engines_or_reference((), prices)


def engines_or_reference(engines: Sequence[EngineSpec], prices: Mapping[str, float], origin: str = "") -> Fleet:
    """The reference stands in where there are no engines."""
    if engines:
        return Fleet(priced(engines, prices), origin)
    return Fleet([reference_engine(prices)], "the reference, for no engine is named")
