"""What the core believes of each engine."""

from collections.abc import Sequence
from dataclasses import replace

from executor.core.work import Work
from executor.engines.port import EngineSpec, FailureClass
from executor.policy.routing import Choice, EngineView
from planner.ir.ids import EngineId

#: A retry after an engine's fault costs one token; each fresh call earns a tenth (retries stay within 10 % of calls).
RETRY_EARNED = 0.1
RETRY_TOKENS = 200.0
LONGEST_TRIP_S = 30.0


class Fleet:
    """Engines by id, and the works inside each in the order they were sent."""

    def __init__(self, engines: Sequence[EngineSpec], breaker_failures: int) -> None:
        self.views = {spec.id: EngineView(spec) for spec in engines}
        self.inside: dict[EngineId, dict[Work, None]] = {spec.id: {} for spec in engines}
        self._breaker_failures = breaker_failures
        self._retry_tokens = RETRY_TOKENS
        assert len(self.views) == len(engines), "two engines with one id"

    def knows(self, model: str) -> bool:
        return any(model in view.spec.models for view in self.views.values())

    def serves(self, model: str) -> bool:
        return any(view.up and model in view.spec.models for view in self.views.values())

    def enter(self, work: Work, choice: Choice) -> None:
        view = self.views[choice.engine]
        work.engine, work.load_s = choice.engine, choice.load_s
        self.inside[choice.engine][work] = None
        self._put(replace(view, running=view.running + 1, load_s=view.load_s + work.load_s, exclusive=work.suspect))
        self._retry_tokens = min(RETRY_TOKENS, self._retry_tokens + RETRY_EARNED)

    def leave(self, work: Work) -> EngineView:
        assert work.engine is not None
        view = self.views[work.engine]
        del self.inside[work.engine][work]
        load_s = view.load_s - work.load_s if view.running > 1 else 0.0
        work.engine = None
        return self._put(replace(view, running=view.running - 1, load_s=load_s, exclusive=False))

    def answered(self, view: EngineView) -> None:
        if view.failures or view.trips:
            self._put(replace(view, failures=0, trips=0))

    def failed(self, view: EngineView, failure_class: FailureClass, code: str) -> bool:
        """Note that the engine failed; True when it should now be taken out until it answers a probe."""
        if not view.up or failure_class not in (FailureClass.ENGINE, FailureClass.ENGINE_DIED):
            return False
        failures = view.failures + 1
        gone = failure_class is FailureClass.ENGINE_DIED or code == "refused" or failures >= self._breaker_failures
        self._put(replace(view, failures=failures))
        return gone

    def down(self, engine: EngineId) -> None:
        view = self.views[engine]
        self._put(replace(view, up=False, trips=view.trips + 1))

    def back(self, engine: EngineId) -> None:
        self._put(replace(self.views[engine], up=True, failures=0))

    def probe_delay_s(self, engine: EngineId) -> float:
        """Longer after each trip without an answer in between, so that a sick engine is not hammered."""
        return float(min(LONGEST_TRIP_S, 0.5 * 2 ** (self.views[engine].trips - 1)))

    def spend_retry(self) -> bool:
        """Whether the retry budget allows one more now."""
        if self._retry_tokens < 1:
            return False
        self._retry_tokens -= 1
        return True

    def _put(self, view: EngineView) -> EngineView:
        self.views[view.spec.id] = view
        return view
