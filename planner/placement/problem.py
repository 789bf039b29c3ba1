"""What is to be placed: the operators of a job, the models they ask, and the engines that may run them.

Rows run through the job in `batches` micro-batches of equal size. A micro-batch of an operator is one piece of work: it
runs on one engine, may start when the same micro-batch of each parent has ended, occupies its engine for `work_s /
batches`, and has ended `lag_s` after that. The lag is what continuous batching hides from the engine and not from who
waits: an engine that answers 32 calls at a time has room for the next long before the last answer is written.
"""

from dataclasses import dataclass
from math import inf, isfinite


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    weight_bytes: float


@dataclass(frozen=True, slots=True)
class Engine:
    """One GPU, one tensor-parallel group, or the pool of one tool's workers.

    Models share `room_bytes`, and a call runs only while its model is resident. `load_s[m]` is how long the engine is
    taken by loading model `m`; infinite where it cannot. `resident` are there from the start.
    """

    name: str
    room_bytes: float
    load_s: tuple[float, ...]
    resident: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Operator:
    """One stage over all rows. `model` indexes the problem's models; a tool has none.

    Per engine: `work_s` is how long all rows occupy it, infinite where it cannot run them; `lag_s` as told above.
    `parents` are indexes of earlier operators.
    """

    name: str
    model: int | None
    work_s: tuple[float, ...]
    lag_s: tuple[float, ...]
    parents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Every operator has an engine that can run it; parents stand before their children."""

    models: tuple[Model, ...]
    engines: tuple[Engine, ...]
    operators: tuple[Operator, ...]
    batches: int

    def __post_init__(self) -> None:
        assert self.batches >= 1
        for index, operator in enumerate(self.operators):
            assert len(operator.work_s) == len(operator.lag_s) == len(self.engines), operator
            assert all(parent < index for parent in operator.parents), operator
            assert any(self.can_run(index, engine) for engine in range(len(self.engines))), operator

    def can_run(self, operator: int, engine: int) -> bool:
        """Whether the engine can have the operator's model, and answer its calls."""
        asked, offered = self.operators[operator], self.engines[engine]
        if not isfinite(asked.work_s[engine]):
            return False
        if asked.model is None:
            return True
        return self.first_load_s(asked.model, engine) < inf and self._fits(asked.model, offered)

    def first_load_s(self, model: int, engine: int) -> float:
        """What the engine is taken by before it can first run the model."""
        offered = self.engines[engine]
        return 0.0 if model in offered.resident else offered.load_s[model]

    def children(self) -> tuple[tuple[int, ...], ...]:
        """Of each operator, in their order."""
        found: list[list[int]] = [[] for _ in self.operators]
        for index, operator in enumerate(self.operators):
            for parent in dict.fromkeys(operator.parents):
                found[parent].append(index)
        return tuple(map(tuple, found))

    def kinds(self) -> tuple[tuple[int, ...], ...]:
        """Engines that are alike in all that matters here, in the order of the first of each kind."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for index, engine in enumerate(self.engines):
            of_operators = tuple((o.work_s[index], o.lag_s[index]) for o in self.operators)
            key = engine.room_bytes, engine.load_s, engine.resident, of_operators
            alike.setdefault(key, []).append(index)
        return tuple(map(tuple, alike.values()))

    def _fits(self, model: int, engine: Engine) -> bool:
        return self.models[model].weight_bytes <= engine.room_bytes
