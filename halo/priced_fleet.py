"""Engines to predict for: those that are named and that a tenant may use, with their prices, or the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from executor.engines.port import EngineSpec
from executor.store.jobs import DEFAULT_TENANT
from halo.batch.engines import any_named, named_engines
from halo.batch.fitness import unserved
from halo.prices import priced, read_prices, reference_engine
from planner.timing import PricedEngine


@dataclass(frozen=True, slots=True)
class Fleet:
    """Engines to predict for, and in words where they come from."""

    engines: Sequence[PricedEngine]
    origin: str = ""


def named_or_reference(
    urls: Sequence[str],
    models: Sequence[str],
    fleet: Path | None,
    environment: Mapping[str, str],
    tenant: str = DEFAULT_TENANT,
) -> Fleet:
    """The engines that are named, in the arguments or in the environment; else the reference.

    Raises `EnginesUnnamed`, `FleetInvalid` or `PricesInvalid`.
    """
    named = named_engines(urls, models, fleet, environment) if any_named(urls, models, fleet, environment) else ()
    return fleet_for(tenant, named, read_prices(environment))


def fleet_for(tenant: str, engines: Sequence[EngineSpec], prices: Mapping[str, float]) -> Fleet:
    """Of the engines those that the tenant may use; where there are none at all, the reference."""
    if engines:
        return Fleet(priced(open_to(engines, tenant), prices), kept_from(engines, tenant))
    return engines_or_reference((), prices)


def engines_or_reference(engines: Sequence[EngineSpec], prices: Mapping[str, float], origin: str = "") -> Fleet:
    """The reference stands in where there are no engines."""
    if engines:
        return Fleet(priced(engines, prices), origin)
    return Fleet([reference_engine(prices)], "the reference, for no engine is named")


def open_to(engines: Sequence[EngineSpec], tenant: str) -> list[EngineSpec]:
    """Those that take the tenant's calls."""
    return [spec for spec in engines if spec.serves_tenant(tenant)]


def kept_from(engines: Sequence[EngineSpec], tenant: str) -> str:
    """In words, those that do not."""
    kept = [spec.id for spec in engines if not spec.serves_tenant(tenant)]
    return f"without {', '.join(kept)}, kept for other tenants than {tenant!r}" if kept else ""


def unforeseeable(models: Sequence[str], engines: Sequence[EngineSpec], tenant: str) -> list[str]:
    """Why no engine serves a model to the tenant, and what can be done. An engine that names no model serves all; where
    none is named, the reference does."""
    believed = [replace(spec, models=spec.models or tuple(models)) for spec in engines]
    return list(unserved(models, believed, tenant).values()) if believed else []
