"""The prices of one pool's engines, found anew when the mix of its calls or the fleet changes."""

from collections.abc import Mapping

from executor.core.fleet import Fleet
from executor.core.stage_means import StageMeans
from executor.core.work import Work
from executor.policy.prices import MixedStage, prices_of
from planner.ir.ids import EngineId

#: After so many calls, prices are looked at again; sooner while few have been seen.
SOLVED_EVERY = 256


class Market:
    def __init__(self, pool: str, fleet: Fleet[Work], stages: StageMeans) -> None:
        self._pool, self._fleet, self._stages = pool, fleet, stages
        self._prices: dict[EngineId, float] = {}
        self.one_of_each_kind: list[EngineId] = []
        self._engines: tuple[EngineId, ...] = ()
        self._next_at = 0
        self._asked = 0

    def asks(self) -> None:
        """A call more became ready."""
        self._asked += 1

    def prices(self) -> Mapping[EngineId, float]:
        """Of a second of each engine that answers; a mean engine's is 1."""
        serving = tuple(view.spec.id for view in self._fleet.serving(self._pool))
        if serving != self._engines or self._asked >= self._next_at:
            self._engines = serving
            self._next_at = self._asked + min(SOLVED_EVERY, max(8, self._asked))
            self._solve()
        return self._prices

    def _solve(self) -> None:
        kinds = self._fleet.kinds(self._pool)
        self.one_of_each_kind = [kind[0].spec.id for kind in kinds]
        stages = [
            MixedStage(calls, [self._fleet.mean_load_s(kind[0].spec.id, model, mean) for kind in kinds])
            for model in self._fleet.pools.models.get(self._pool, ())
            for calls, mean in self._stages.mix(model)
        ]
        prices = prices_of([len(kind) for kind in kinds], stages)
        self._prices = {view.spec.id: price for kind, price in zip(kinds, prices, strict=True) for view in kind}
