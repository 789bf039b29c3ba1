"""How far the scheduler tunes itself, for Prometheus."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from halo.tuning import TuningState


class TuningMetrics(Collector):
    """Of the state as it is whenever somebody asks."""

    def __init__(self, state: Callable[[], TuningState]) -> None:
        self._state = state

    def collect(self) -> Iterator[CounterMetricFamily]:
        state = self._state()
        yield CounterMetricFamily("halo_tuning_looks", "Looks at recent traffic", value=state.looks)
        yield CounterMetricFamily("halo_tuning_failures", "Looks that came to nothing", value=state.failures)
        yield CounterMetricFamily("halo_tuning_changes", "Settings that were taken", value=state.changes)
        yield CounterMetricFamily("halo_tuning_rollbacks", "Settings that were taken back", value=state.rollbacks)
