"""From an explained job and a fleet to a placement problem: expected work, in seconds of each engine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from planner.cost.load import RUNNING
from planner.cost.model import room_bytes
from planner.cost.switching import ADAPTER_RANK, WeightsAt, adapter_seconds, switch_seconds
from planner.explanation import Explanation, Span, StageForecast
from planner.ir.expressions import Expr, Output, leaves
from planner.ir.ids import StageId
from planner.ir.plan import Agent, Generate, Loop, Plan, Stage, Tool
from planner.ir.reads import stages_read
from planner.ir.sites import bodies_at
from planner.placement.problem import Engine, Model, Operator, Problem
from planner.timing import PricedEngine

TOOL_S = 0.02
_SHARED_ROOM = 0.7  # of the memory for weights when models share it: the rest is for their KV
_PIECES_AN_ENGINE = 128
_MOST_PIECES = 8000
_FEWEST_BATCHES, _MOST_BATCHES = 4, 256

ASSUMPTIONS = (
    "calls and lengths are in the middle of their ranges, and no prefix is read twice",
    f"a tool takes {TOOL_S:g} s where nothing is known of it",
    "weights come from host memory, as fast as each GPU's bus lets them, and each LoRA adapter once beside its model",
)


@dataclass(frozen=True, slots=True)
class Site:
    """The operator at the same index of the problem stands for this stage."""

    plan: int
    path: str
    does: str
    calls: float


@dataclass(frozen=True, slots=True)
class PlacedJob:
    """`unplaced` are the paths of stages whose model nobody serves."""

    problem: Problem
    sites: tuple[Site, ...]
    unplaced: tuple[str, ...]


def problem_of(
    explanation: Explanation,
    fleet: Sequence[PricedEngine],
    names: Sequence[str] = (),
    tool_s: Mapping[str, float] | None = None,
) -> PlacedJob:
    """The problem of running what is explained on `fleet`, whose engines are called `names` (else after their GPUs).

    `tool_s` are seconds of one call by the tool's name. An engine that serves several models of the job has its first
    one loaded, and those that serve any model have none.
    """
    asked = list(_asked(explanation))
    models = tuple(dict.fromkeys(call.does for call in asked if call.asks_model))
    offers = tuple(_Offer(engine, models) for engine in fleet)
    placed = [call for call in asked if not call.asks_model or any(call.does in offer.replicas for offer in offers)]
    indexes = {id(call): index for index, call in enumerate(placed)}
    groups = _same_models(models, offers)
    engines = [_engine(name, offer, groups) for name, offer in zip(names or _names(fleet), offers, strict=True)]
    pools = tuple(dict.fromkeys(call.does for call in placed if not call.asks_model))
    engines += [Engine(f"tool:{tool}", 0.0, (inf,) * len(set(groups.values()))) for tool in pools]
    seconds = tool_s or {}
    operators = tuple(
        Operator(
            f"{call.plan}:{call.path}",
            groups.get(call.does) if call.asks_model else None,
            *_seconds(call, offers, pools, seconds),
            _parents(call, indexes),
        )
        for call in placed
    )
    problem = Problem(_models(groups, offers), tuple(engines), operators, _batches(explanation, operators, offers))
    sites = tuple(Site(call.plan, call.path, call.does, call.calls) for call in placed)
    return PlacedJob(problem, sites, tuple(call.path for call in asked if id(call) not in indexes))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A stage that costs something. `turns` of its calls follow each other in one run of it."""

    plan: int
    path: str
    stage: Generate | Agent | Tool
    forecast: StageForecast
    turns: float
    reads: tuple["_Asked", ...]

    @property
    def asks_model(self) -> bool:
        return self.forecast.asks_model

    @property
    def does(self) -> str:
        return self.forecast.does

    @property
    def calls(self) -> float:
        return _middle(self.forecast.distinct)


class _Offer:
    """What an engine has for the models of a job."""

    def __init__(self, engine: PricedEngine, models: Sequence[str]) -> None:
        served = [model for model in models if engine.serves(model)]
        degree = max((engine.replica(model).degree for model in served), default=1)
        self.engine = replace(engine, tensor_parallel=degree)
        self.own = {model: engine.models.get(model, model) for model in served}
        self.replicas = {model: self.engine.replica(model) for model in served}
        self.starts_with = next((m for m in engine.models if m in self.replicas and m not in engine.adapters), None)

    def is_adapter(self, model: str) -> bool:
        return model in self.engine.adapters

    def meant_by(self, model: str) -> tuple[str, ...]:
        """Names that mean the same here are one model."""
        own = self.own.get(model, "")
        return (own, model) if self.is_adapter(model) else (own,)

    def weight_bytes(self, model: str) -> float:
        shape = self.replicas[model].shape
        return shape.adapter_bytes(ADAPTER_RANK) if self.is_adapter(model) else shape.weights * shape.weight_bytes

    def load_s(self, model: str) -> float:
        replica = self.replicas[model]
        return adapter_seconds(replica) if self.is_adapter(model) else switch_seconds(replica, WeightsAt.HOST)


def _asked(explanation: Explanation) -> Iterator[_Asked]:
    for number, plan in enumerate(explanation.plans):
        forecasts = {stage.path: stage for stage in explanation.stages if stage.plan == number}
        merged = {c.path: c.detail for report in explanation.passes for c in report.changes if c.what == "merged"}
        yield from _Walk(number, forecasts, merged).asked(plan)


class _Walk:
    """Through one plan: which stages cost something, and which of those each waits for."""

    def __init__(self, number: int, forecasts: Mapping[str, StageForecast], merged: Mapping[str, str]) -> None:
        self._number, self._forecasts, self._merged = number, forecasts, merged
        self._found: list[_Asked] = []
        self._ends: dict[str, tuple[_Asked, ...]] = {}

    def asked(self, plan: Plan) -> list[_Asked]:
        self._body(plan, "", (), 1.0)
        return self._found

    def _body(self, plan: Plan, prefix: str, given: tuple[_Asked, ...], turns: float) -> tuple[_Asked, ...]:
        """Adds the stages of a plan or body; `given` end before it begins. Returns what its result waits for."""
        for stage in plan.stages:
            read = self._ends_of(prefix, stages_read(stage)) or given
            self._ends[prefix + stage.id] = self._stage(stage, prefix + stage.id, read, turns)
        return self._ends_of(prefix, _stages_in(plan.result)) or given

    def _ends_of(self, prefix: str, stages: Sequence[StageId]) -> tuple[_Asked, ...]:
        return _each_once(end for stage in stages for end in self._ends[prefix + stage])

    def _stage(self, stage: Stage, path: str, read: tuple[_Asked, ...], turns: float) -> tuple[_Asked, ...]:
        """What a reader of the stage waits for."""
        forecast = self._forecasts[path]
        if isinstance(stage, Generate | Agent | Tool):
            if not _middle(forecast.distinct):
                return self._ends.get(self._merged.get(path, ""), read)
            own = (1 + stage.max_turns) / 2 if isinstance(stage, Agent) else 1.0
            call = _Asked(self._number, path, stage, forecast, turns * own, read)
            self._found.append(call)
            return (call,)
        rounds = max(1.0, stage.max_rounds / 2) if isinstance(stage, Loop) else 1.0
        bodies = bodies_at(path, stage)
        results = (end for prefix, body in bodies for end in self._body(body.plan, prefix, read, turns * rounds))
        return _each_once(results) or read


def _stages_in(expr: Expr) -> tuple[StageId, ...]:
    return tuple(leaf.stage for leaf in leaves(expr) if isinstance(leaf, Output))


def _each_once(calls: Iterator[_Asked]) -> tuple[_Asked, ...]:
    return tuple({id(call): call for call in calls}.values())


def _parents(call: _Asked, indexes: Mapping[int, int]) -> tuple[int, ...]:
    """A stage that is not placed hands its own parents on."""
    found: dict[int, None] = {}
    for parent in call.reads:
        known = indexes.get(id(parent))
        found.update(dict.fromkeys(_parents(parent, indexes) if known is None else (known,)))
    return tuple(sorted(found))


def _same_models(models: Sequence[str], offers: Sequence[_Offer]) -> dict[str, int]:
    """Names that mean one model on every engine share its index."""
    known: dict[tuple[tuple[str, ...], ...], int] = {}
    served = [model for model in models if any(model in offer.own for offer in offers)]
    return {m: known.setdefault(tuple(offer.meant_by(m) for offer in offers), len(known)) for m in served}


def _models(groups: Mapping[str, int], offers: Sequence[_Offer]) -> tuple[Model, ...]:
    found: dict[int, Model] = {}
    for name, index in groups.items():
        sizes = [offer.weight_bytes(name) for offer in offers if name in offer.replicas]
        found.setdefault(index, Model(name, max(sizes)))
    return tuple(found.values())


def _engine(name: str, offer: _Offer, groups: Mapping[str, int]) -> Engine:
    """Beside its largest model it has room for all adapters."""
    load_s, weights, adapters = [inf] * len(set(groups.values())), [0.0], 0.0
    room = 0.0
    for model, replica in offer.replicas.items():
        load_s[groups[model]] = offer.load_s(model)
        if offer.is_adapter(model):
            adapters += offer.weight_bytes(model)
        else:
            weights.append(offer.weight_bytes(model))
        room = _SHARED_ROOM * room_bytes(replica)
    resident = () if offer.starts_with is None else (groups[offer.starts_with],)
    return Engine(name, max(room, *weights) + adapters, tuple(load_s), resident)


def _names(fleet: Sequence[PricedEngine]) -> list[str]:
    return [f"{engine.gpu}-{number}" for number, engine in enumerate(fleet, start=1)]


def _seconds(
    call: _Asked, offers: Sequence[_Offer], pools: Sequence[str], tool_s: Mapping[str, float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What all calls occupy of each engine, then of each pool; and the lag of each."""
    pairs = [_of_engine(call, offer) for offer in offers]
    pairs += [_of_pool(call, pool, tool_s) for pool in pools]
    return tuple(work for work, _ in pairs), tuple(lag for _, lag in pairs)


def _of_engine(call: _Asked, offer: _Offer) -> tuple[float, float]:
    if call.does not in offer.replicas or not call.asks_model:
        return inf, 0.0
    forecast, calls = call.forecast, call.calls
    prompt = max(1.0, (_middle(forecast.merged_tokens) - forecast.shared_tokens) / calls)
    output = max(1.0, _middle(forecast.output_tokens) / calls)
    room = offer.engine.kv_tokens(call.does) // (prompt + output)
    running = max(1.0, min(RUNNING, calls, room))
    one = offer.engine.load_rates(call.does, running).seconds(prompt, output)
    return calls * one, call.turns * (running - 1) * one


def _of_pool(call: _Asked, pool: str, tool_s: Mapping[str, float]) -> tuple[float, float]:
    if call.asks_model or call.does != pool:
        return inf, 0.0
    assert isinstance(call.stage, Tool)
    one = tool_s.get(pool, TOOL_S)
    workers = max(1, call.stage.tool.concurrency)
    return call.calls * one / workers, call.turns * one


def _batches(explanation: Explanation, operators: Sequence[Operator], offers: Sequence[_Offer]) -> int:
    """Fine enough for each engine to have many pieces, coarse enough to be planned in time; never below a row."""
    number = max(1, sum(operator.model is not None for operator in operators))
    fine = min(ceil(_PIECES_AN_ENGINE * max(1, len(offers)) / number), _MOST_PIECES // max(1, len(operators)))
    return max(1, min(max(explanation.rows, default=1), max(_FEWEST_BATCHES, min(_MOST_BATCHES, fine))))


def _middle(span: Span) -> float:
    return (span.low + span.high) / 2
