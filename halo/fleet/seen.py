"""What engines were asked lately, model by model: the workload that signals are of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from executor.engines.port import EngineSpec
from executor.store.told import Served
from halo.fleet.engines import engines_of_fleet
from planner.fleet.kinds import EngineKind
from planner.fleet.workload import CallClass, Workload

_Place = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class SeenModel:
    """A model, the engines that serve it to everybody, or to `tenants` for whom they are kept, and its mean call;
    without calls there is no `workload`."""

    model: str
    engines: Mapping[EngineKind, int]
    calls_per_s: float = 0.0
    workload: Workload | None = None
    tenants: tuple[str, ...] = ()

    @property
    def prefill_per_s(self) -> float:
        return sum(self.calls_per_s * call.prefill_tokens for call in self._calls)

    @property
    def decode_per_s(self) -> float:
        return sum(self.calls_per_s * call.output_tokens for call in self._calls)

    @property
    def _calls(self) -> Sequence[CallClass]:
        return () if self.workload is None else self.workload.calls


def seen_models(
    specs: Sequence[EngineSpec], served: Iterable[Served], window_s: float, prices: Mapping[str, float]
) -> list[SeenModel]:
    """By the models that engines name, in order, and by whom they are kept for. An engine that serves several models
    counts for its first."""
    sums: dict[_Place, Served] = {}
    places = {spec.id: _place(spec) for spec in specs if spec.models}
    for one in served:
        place = places.get(one.engine)
        if place is not None and one.calls:
            sums[place] = sums[place] + one if place in sums else one
    return [_seen(place, specs, sums.get(place), window_s, prices) for place in dict.fromkeys(places.values())]


def _place(spec: EngineSpec) -> _Place:
    return spec.models[0], spec.tenants


def _seen(
    place: _Place, specs: Sequence[EngineSpec], summed: Served | None, window_s: float, prices: Mapping[str, float]
) -> SeenModel:
    model, tenants = place
    serving = [replace(spec, tenants=()) for spec in specs if spec.models and _place(spec) == place]
    call = CallClass("mean", model, 1.0, 1.0) if summed is None else _mean(model, summed)
    engines = engines_of_fleet(Workload(1.0, (call,)), serving, prices)
    if summed is None:
        return SeenModel(model, engines, tenants=tenants)
    rate = summed.calls / window_s
    return SeenModel(model, engines, rate, Workload(rate, (call,), f"as seen in {window_s:g} s"), tenants)


def _mean(model: str, summed: Served) -> CallClass:
    prompt = max(1.0, summed.prompt_tokens / summed.calls)
    cached = min(prompt, summed.cached_tokens / summed.calls)
    return CallClass("mean", model, prompt, max(1.0, summed.output_tokens / summed.calls), 1.0, cached)
