"""The engines of a simulation: models that are looked at when something changes in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from executor.commands import Hint
from executor.engines.model.batches import model_of
from executor.engines.model.call import Id
from executor.engines.model.engine import EngineModel, Finished
from executor.engines.model.profiles import profile_of
from executor.engines.port import EngineSpec
from executor.engines.rungs import Rung
from executor.events import RungFound
from halo_vllm.policy.hints import CLASSES, TOOL
from planner.cost.profile import Profile
from planner.ir.ids import EngineId


@dataclass(slots=True, eq=False)
class VirtualEngine(Generic[Id]):
    """`alarm_at` is when it will be looked at next; alarms for other instants were set before something changed."""

    spec: EngineSpec
    profile: Profile
    model: EngineModel[Id]
    alarm_at: float | None = None


class VirtualEngines(Generic[Id]):
    """Who changes something in an engine says so with `touch`."""

    def __init__(self, fleet: Sequence[EngineSpec]) -> None:
        self._by_id: dict[EngineId, VirtualEngine[Id]] = {spec.id: _engine(spec) for spec in fleet}
        self._touched: dict[EngineId, VirtualEngine[Id]] = {}

    @property
    def specs(self) -> list[EngineSpec]:
        """With the room that a probe of each would tell."""
        return [replace(engine.spec, kv_tokens=engine.profile.kv_tokens) for engine in self._by_id.values()]

    @property
    def steps(self) -> int:
        """Those that all engines took."""
        return sum(engine.model.steps for engine in self._by_id.values())

    def __getitem__(self, engine: EngineId) -> VirtualEngine[Id]:
        return self._by_id[engine]

    def rungs(self) -> list[RungFound]:
        """What probes of the engines would tell of how they keep programs' KV, where it is the plugin."""
        return [RungFound(0.0, spec.id, Rung.PLUGIN) for spec in self.specs if spec.models_plugin]

    def hint(self, told: Hint, now: float) -> None:
        """What an engine is told of a program between its calls."""
        engine, tools = self._by_id[told.engine], told.tools
        said = {TOOL: [key.tool for key in tools], CLASSES: [key.arguments for key in tools]} if tools else {}
        engine.model.hint(told.program, told.event, said, now)
        self.touch(engine)

    def touch(self, engine: VirtualEngine[Id]) -> None:
        self._touched[engine.spec.id] = engine

    def ring(self, engine: VirtualEngine[Id], now: float) -> Sequence[Finished[Id]]:
        """An alarm of the engine: the calls that it finished."""
        if engine.alarm_at != now:
            return ()
        engine.alarm_at = None
        self.touch(engine)
        return engine.model.advance(now)

    def set_alarms(self, put: Callable[[float, EngineId], None]) -> None:
        """Once nothing more happens at an instant, so that all calls of it are in the step that begins then."""
        for engine in self._touched.values():
            at = engine.model.next_at()
            if at is not None and at != engine.alarm_at:
                put(at, engine.spec.id)
            engine.alarm_at = at
        self._touched.clear()


def _engine(spec: EngineSpec) -> VirtualEngine[Id]:
    profile = profile_of(spec)
    return VirtualEngine(spec, profile, model_of(spec, profile))
