"""How far the scheduler tunes itself, for Prometheus."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from halo.tuning import TuningState


class TuningMetrics(Collector):
    """Of the state as it is whenever somebody asks."""

    def __init__(self, state: Callable[[], TuningState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        yield CounterMetricFamily("halo_tuning_looks", "Looks at recent traffic", value=state.looks)
        yield CounterMetricFamily("halo_tuning_failures", "Looks that came to nothing", value=state.failures)
        yield CounterMetricFamily("halo_tuning_changes", "Settings that were taken", value=state.changes)
        yield CounterMetricFamily("halo_tuning_rollbacks", "Settings that were taken back", value=state.rollbacks)
        knobs = GaugeMetricFamily("halo_tuning_setting", "The setting in force", labels=["knob"])
        for knob, value in state.setting:
            knobs.add_metric([knob], value)
        yield knobs
