"""What engines were asked lately, model by model: the workload that signals are of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from executor.engines.port import EngineSpec
from executor.store.told import Served
from halo.fleet.engines import engines_of_fleet
from planner.fleet.kinds import EngineKind
from planner.fleet.workload import CallClass, Workload


@dataclass(frozen=True, slots=True)
class SeenModel:
    """A model, the engines that serve it, and its mean call; without calls there is no `workload`."""

    model: str
    engines: Mapping[EngineKind, int]
    calls_per_s: float = 0.0
    workload: Workload | None = None

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
    """By the models that engines name, in order. An engine that serves several counts for its first."""
    sums: dict[str, Served] = {}
    models = {spec.id: spec.models[0] for spec in specs if spec.models}
    for one in served:
        model = models.get(one.engine)
        if model is not None and one.calls:
            sums[model] = sums[model] + one if model in sums else one
    return [_seen(model, specs, sums.get(model), window_s, prices) for model in dict.fromkeys(models.values())]


def _seen(
    model: str, specs: Sequence[EngineSpec], summed: Served | None, window_s: float, prices: Mapping[str, float]
) -> SeenModel:
    serving = [spec for spec in specs if spec.models and spec.models[0] == model]
    call = CallClass("mean", model, 1.0, 1.0) if summed is None else _mean(model, summed)
    engines = engines_of_fleet(Workload(1.0, (call,)), serving, prices)
    if summed is None:
        return SeenModel(model, engines)
    rate = summed.calls / window_s
    return SeenModel(model, engines, rate, Workload(rate, (call,), f"as seen in {window_s:g} s"))


def _mean(model: str, summed: Served) -> CallClass:
    prompt = max(1.0, summed.prompt_tokens / summed.calls)
    cached = min(prompt, summed.cached_tokens / summed.calls)
    return CallClass("mean", model, prompt, max(1.0, summed.output_tokens / summed.calls), 1.0, cached)
