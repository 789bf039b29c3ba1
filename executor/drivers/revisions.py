"""Which weights stand behind each model: results are kept for later jobs under their name."""

from collections.abc import Sequence

from executor.engines.port import EngineHealth, EngineSpec
from planner.ir.ids import EngineId


class Revisions:
    """What the fleet file says of each engine's weights, or else the engine itself. Engines that are away do not count:
    they answer nothing, and are asked again before they do."""

    def __init__(self, specs: Sequence[EngineSpec]) -> None:
        self._specs = tuple(specs)
        self._said: dict[EngineId, EngineHealth] = {}
        self._of: dict[str, str | None] = {}

    def note(self, engine: EngineId, health: EngineHealth) -> None:
        if self._said.get(engine) != health:
            self._said[engine] = health
            self._of.clear()

    def of(self, model: str) -> str | None:
        """The one revision that all engines of the model serve; None when it is not known, or they differ."""
        if model not in self._of:
            self._of[model] = self._common(model)
        return self._of[model]

    def _common(self, model: str) -> str | None:
        found = {self._at(spec, model) for spec in self._specs if model in spec.served and self._is_there(spec)}
        return found.pop() or None if len(found) == 1 else None

    def _at(self, spec: EngineSpec, model: str) -> str:
        return spec.revision or self._said[spec.id].revisions.get(spec.served_names.get(model, model), "")

    def _is_there(self, spec: EngineSpec) -> bool:
        return spec.id in self._said and self._said[spec.id].ready
