"""What a job will take of a fleet: seconds of engines, and money (DESIGN section 4)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.cost.gpus import gpu_named
from planner.cost.load import RUNNING, load_rates
from planner.cost.model import Replica, kv_tokens, replica_for
from planner.cost.profile import Profile
from planner.cost.rates import LoadRates
from planner.explanation import Explanation, Span, StageForecast

TIME_PRIORS = (
    "answers are an eighth to all of max_tokens long, where none was seen",
    f"engines run full, with up to {RUNNING} calls beside each other as far as their KV has room",
)
_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class PricedEngine:
    """An engine as far as time and money go. `models` maps the names workflows use to its own; none: it serves any.

    `tensor_parallel` GPUs hold one copy of a model; without it, as few as do. With a `profile`, it is as fast as that.
    `usd_per_hour` is for the whole engine; without it, it pays `usd_per_gpu_hour` for each GPU its model needs.
    `kv_room_tokens` is what its KV cache holds; 0 where that is not known, and it is worked out. `name` is for people.
    Of the names in `models`, `adapters` are LoRA adapters of the model beside them.
    """

    gpu: str
    models: Mapping[str, str]
    usd_per_gpu_hour: float
    usd_per_hour: float = 0.0
    tensor_parallel: int | None = None
    profile: Profile | None = None
    name: str = ""
    kv_room_tokens: int = 0
    adapters: tuple[str, ...] = ()

    def serves(self, model: str) -> bool:
        return not self.models or model in self.models

    def replica(self, model: str) -> Replica:
        return replica_for(self.gpu, self.models.get(model, model), self.tensor_parallel)

    def kv_tokens(self, model: str) -> int:
        if self.kv_room_tokens:
            return self.kv_room_tokens
        return self.profile.kv_tokens if self.profile is not None else kv_tokens(self.replica(model))

    def load_rates(self, model: str, running: float) -> LoadRates:
        """Those measured, where it was measured."""
        if self.profile is not None:
            return self.profile.load_rates(running)
        return load_rates(self.replica(model), running)

    def usd_per_s(self, degree: int) -> float:
        return (self.usd_per_hour or degree * self.usd_per_gpu_hour) / _HOUR_S


def with_times(explanation: Explanation, fleet: Sequence[PricedEngine], origin: str = "") -> Explanation:
    """`explanation` with the engine time and the money of each stage, from best to worst engine and case.

    Engine time is work: divided by the number of engines it is the least a run can last, and it does not tell how long
    one lasts whose stages wait for each other. Stages whose model nobody serves have no time. `origin` is told with the
    engines: where they come from.
    """
    stages = tuple(_timed(stage, fleet) for stage in explanation.stages)
    models = dict.fromkeys(stage.does for stage in stages if stage.asks_model)
    engines = dict.fromkeys(line for engine in fleet for line in _told(engine, models))
    told = (*engines, origin) if origin and engines else tuple(engines)
    return replace(explanation, stages=stages, assumptions=(*explanation.assumptions, *TIME_PRIORS), engines=told)


def _timed(stage: StageForecast, fleet: Sequence[PricedEngine]) -> StageForecast:
    serving = [engine for engine in fleet if engine.serves(stage.does)] if stage.asks_model else []
    if not serving:
        return stage
    replicas = [engine.replica(stage.does) for engine in serving]
    seconds = [_engine_seconds(stage, engine) for engine in serving]
    rates = [engine.usd_per_s(replica.degree) for engine, replica in zip(serving, replicas, strict=True)]
    usd = [span * Span(rate, rate) for span, rate in zip(seconds, rates, strict=True)]
    return replace(stage, engine_seconds=_around(seconds), usd=_around(usd))


def _around(spans: Sequence[Span]) -> Span:
    return Span(min(span.low for span in spans), max(span.high for span in spans))


def _engine_seconds(stage: StageForecast, engine: PricedEngine) -> Span:
    """At best, nothing that can be shared is read twice; at worst, everything is read."""
    unshared = max(0.0, stage.merged_tokens.low - stage.shared_tokens)
    least = _seconds(engine, stage, stage.distinct.low, unshared, stage.output_tokens.low)
    most = _seconds(engine, stage, stage.distinct.high, stage.merged_tokens.high, stage.output_tokens.high)
    return Span(min(least, most), most)


def _seconds(
    engine: PricedEngine, stage: StageForecast, calls: float, prompt_tokens: float, output_tokens: float
) -> float:
    if not calls:
        return 0.0
    prompt, output = prompt_tokens / calls, output_tokens / calls
    room = engine.kv_tokens(stage.does) // max(1.0, prompt + output)
    running = max(1.0, min(RUNNING, stage.distinct.high, room))
    return calls * engine.load_rates(stage.does, running).seconds(prompt, output)


def _told(engine: PricedEngine, models: Mapping[str, None]) -> Iterator[str]:
    if engine.profile is not None and any(map(engine.serves, models)):
        error = "" if engine.profile.error is None else f", {engine.profile.error:.0%} off on calls held out"
        yield f"{engine.profile.gpu} as measured{error}"
        return
    for replica in dict.fromkeys(engine.replica(model) for model in models if engine.serves(model)):
        named = "" if gpu_named(engine.gpu) else f" (taken for {engine.gpu!r})"
        times = f"{replica.degree} x " if replica.degree > 1 else ""
        calibrated = "calibrated" if replica.gpu.calibrated else "not calibrated"
        yield f"{times}{replica.gpu.name}{named} with {replica.shape.name}, {calibrated}"
