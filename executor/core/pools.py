"""Which engines may take a call, by its model and its tenant: calls that the same ones may take wait together."""

from collections.abc import Iterator, Mapping, Sequence

from executor.engines.port import EngineSpec
from planner.ir.ids import EngineId

_Place = tuple[tuple[EngineId, str], ...]

#: No pool has this name: whoever asks for a model may name it as pools are named.
_NONE = "\0"


class Pools:
    """A pool: the engines that serve a model to a tenant. Calls to an adapter wait with those to the model that it is
    of, where the same engines serve both."""

    def __init__(self, engines: Sequence[EngineSpec]) -> None:
        self._tenants = frozenset(tenant for spec in engines for tenant in spec.tenants)
        self._of: dict[tuple[str, str], str] = {}
        self.engines: dict[str, tuple[EngineId, ...]] = {}
        self.models: dict[str, list[str]] = {}
        names: dict[_Place, str] = {}
        for model, tenant in _asked(engines, self._tenants):
            serving = [spec for spec in engines if spec.serves(model, tenant)]
            place = tuple((spec.id, spec.base_of(model)) for spec in serving)
            if place:
                name = self._of[model, tenant] = names.setdefault(place, _name(model, tenant))
                self.engines[name] = tuple(spec.id for spec in serving)
                self.models.setdefault(name, []).extend([model] if model not in self.models.get(name, ()) else [])

    def of(self, model: str, tenant: str) -> str:
        """The name of the pool; that of none where no engine serves the model to the tenant."""
        known = tenant if tenant in self._tenants else ""
        return self._of.get((model, known), _NONE)

    def sharing(self) -> list[list[str]]:
        """The pools in groups: those of a group have engines in common, if only by way of others of it."""
        groups: list[list[str]] = []
        for name in self.engines:
            touching = [group for group in groups if any(self._overlap(name, other) for other in group)]
            groups = [group for group in groups if group not in touching]
            groups.append([*(other for group in touching for other in group), name])
        return groups

    def _overlap(self, name: str, other: str) -> bool:
        return not set(self.engines[name]).isdisjoint(self.engines[other])

    def with_engine(self) -> Mapping[EngineId, list[str]]:
        """The pools that each engine is in."""
        found: dict[EngineId, list[str]] = {}
        for name, engines in self.engines.items():
            for engine in engines:
                found.setdefault(engine, []).append(name)
        return found


def _asked(engines: Sequence[EngineSpec], tenants: frozenset[str]) -> Iterator[tuple[str, str]]:
    models = list(dict.fromkeys(model for spec in engines for model in spec.served))
    yield from ((model, tenant) for tenant in ("", *sorted(tenants)) for model in models)


def _name(model: str, tenant: str) -> str:
    return f"{model}\0{tenant}" if tenant else model
