"""Which share of each stage's calls each engine should take: placement, as routing follows it."""

from collections.abc import Mapping, Sequence

from executor.engines.port import EngineSpec
from planner.explain import explain
from planner.ir.ids import EngineId, StageId
from planner.ir.needs import models_of
from planner.ir.plan import Plan
from planner.job import JobPart, JobPlan
from planner.placement.place import place
from planner.placement.placement import StagePlacement
from planner.timing import PricedEngine

Shares = Mapping[StageId, Mapping[EngineId, float]]


def places(plan: Plan, rows: int, fleet: Sequence[EngineSpec]) -> bool:
    """Whether there is anything to place: a model that unlike engines serve, and more rows than go to them at once."""
    return rows > sum(spec.max_running for spec in fleet) and bool(_shared_unlike(plan, fleet))


def placed_shares(part: JobPart, job_plan: JobPlan, fleet: Sequence[EngineSpec]) -> Shares:
    """Of each stage of the plan itself whose model unlike engines serve; `job_plan` is what `optimize` made of `part`.

    Placing takes some tenths of a second of computing. The same arguments give the same shares.
    """
    if not places(part.plan, part.table.rows, fleet):
        return {}
    unlike = _shared_unlike(part.plan, fleet)
    placement = place(explain([part], job_plan), [_timed(spec) for spec in fleet], [spec.id for spec in fleet])
    (planned,) = job_plan.parts
    own = {stage.id for stage in planned.plan.stages}
    return {
        StageId(stage.path): _shares(stage) for stage in placement.stages if stage.does in unlike and stage.path in own
    }


def _shares(stage: StagePlacement) -> Mapping[EngineId, float]:
    return {EngineId(one.engine): one.share for one in stage.shares}


def _shared_unlike(plan: Plan, fleet: Sequence[EngineSpec]) -> frozenset[str]:
    models = models_of(plan)
    return frozenset(model for model in models if _serve_unlike(model, models, fleet))


def _serve_unlike(model: str, models: Sequence[str], fleet: Sequence[EngineSpec]) -> bool:
    """Engines are unlike where they serve different models of the plan: what one of them alone can do, the others
    should leave it room for. That engines are of different speed is seen by predicted completion as well."""
    return len({tuple(one for one in models if one in spec.served) for spec in fleet if model in spec.served}) > 1


def _timed(spec: EngineSpec) -> PricedEngine:
    """The engine as far as time goes; what it costs does not matter here."""
    return PricedEngine(
        spec.gpu,
        spec.weights_of,
        usd_per_gpu_hour=0.0,
        tensor_parallel=spec.tensor_parallel,
        profile=spec.profile,
        name=spec.id,
        kv_room_tokens=spec.kv_tokens,
        adapters=spec.adapters,
    )
