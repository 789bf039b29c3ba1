"""What the calls of a process did and do, counted for Prometheus."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from executor.engines.port import Usage
from executor.policy.places import Kind
from planner.ir.ids import EngineId

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0, 600.0)


@dataclass(frozen=True, slots=True)
class Now:
    """What a driver has: the calls inside each engine, those that wait for one, and those held for want of KV."""

    running: Callable[[], Mapping[EngineId, int]]
    waiting: Callable[[], int]
    held: Callable[[], int]


class CallMetrics:
    """One for the drivers of a process. Its registry is its own: several can stand in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._drivers: dict[Kind, Now] = {}
        self._answers: dict[tuple[Kind, EngineId], _Answers] = {}
        each, to = ("source", "engine"), self.registry
        self._calls = Counter("halo_calls", "Calls that ended, and how", (*each, "outcome"), registry=to)
        self._refused = Counter("halo_calls_refused", "Calls that no engine was asked for", ("code",), registry=to)
        self._tokens = Counter("halo_tokens", "Tokens of answered calls", (*each, "kind"), registry=to)
        self._seconds = _times("halo_call_seconds", "Until a call was answered", to)
        self._first = _times("halo_first_token_seconds", "Until a stream began", to)
        self.registry.register(_Gauges(self._drivers))

    def follow(self, source: Kind, now: Now) -> None:
        """What the driver has is looked at whenever somebody asks."""
        self._drivers[source] = now

    def answered(
        self, source: Kind, engine: EngineId, usage: Usage, seconds: float, first_token_s: float | None = None
    ) -> None:
        of_engine = self._answers.get((source, engine)) or self._answers_of(source, engine)
        of_engine.calls.inc()
        of_engine.prompt_tokens.inc(usage.prompt_tokens)
        of_engine.cached_tokens.inc(usage.cached_tokens)
        of_engine.output_tokens.inc(usage.output_tokens)
        of_engine.seconds.observe(seconds)
        if first_token_s is not None:
            self._first.labels(source.value).observe(first_token_s)

    def failed(self, source: Kind, engine: EngineId, code: str) -> None:
        """One attempt; the call may be tried again."""
        self._calls.labels(source.value, engine, code).inc()

    def refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def _answers_of(self, source: Kind, engine: EngineId) -> "_Answers":
        """Looking its labels up takes as long as all the counting."""
        each = source.value, engine
        found = self._answers[source, engine] = _Answers(
            self._calls.labels(*each, "answered"),
            self._tokens.labels(*each, "prompt"),
            self._tokens.labels(*each, "cached"),
            self._tokens.labels(*each, "output"),
            self._seconds.labels(source.value),
        )
        return found


@dataclass(frozen=True, slots=True)
class _Answers:
    """What is counted of each call that an engine answered."""

    calls: Counter
    prompt_tokens: Counter
    cached_tokens: Counter
    output_tokens: Counter
    seconds: Histogram


def _times(name: str, about: str, to: CollectorRegistry) -> Histogram:
    return Histogram(name, about, ("source",), buckets=_SECONDS, registry=to)


class _Gauges(Collector):
    def __init__(self, drivers: Mapping[Kind, Now]) -> None:
        self._drivers = drivers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        running = GaugeMetricFamily("halo_calls_running", "Calls inside engines", labels=("source", "engine"))
        waiting = GaugeMetricFamily("halo_calls_waiting", "Calls that wait for an engine", labels=("source",))
        held = GaugeMetricFamily("halo_calls_held", "Calls of programs that no KV has room for", labels=("source",))
        for source, now in self._drivers.items():
            for engine, calls in now.running().items():
                running.add_metric((source.value, engine), calls)
            waiting.add_metric((source.value,), now.waiting())
            held.add_metric((source.value,), now.held())
        yield from (running, waiting, held)
