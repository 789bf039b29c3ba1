"""A job as it is placed on a fleet: what `EXPLAIN` tells of it, and routing follows where engines are
unlike."""

from dataclasses import asdict, dataclass

from planner.ir.values import Json


@dataclass(frozen=True, slots=True)
class Share:
    """`share` of a stage's calls, above 0 and at most 1, goes to `engine`."""

    engine: str
    share: float


@dataclass(frozen=True, slots=True)
class StagePlacement:
    """One stage that asks a model or runs a tool; stages that cost nothing are not placed.

    `plan` and `path` name it as in `planner.explanation.StageForecast`. `shares` sum to 1 and stand in the order of the
    fleet; a tool's only share names its pool, `tool:<name>`. `work_s` is what its calls occupy of the engines they go
    to, added up. `starts_s` and `ends_s` count from the start of the job. `reason` is a short sentence for the user.
    """

    plan: int
    path: str
    does: str
    calls: float
    shares: tuple[Share, ...]
    work_s: float
    starts_s: float
    ends_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class ModelSwitch:
    """`engine` loads `model` from `at_s` on, for `seconds`; what it evicts for it is in `evicts`."""

    engine: str
    model: str
    at_s: float
    seconds: float
    evicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineUse:
    """How an engine spends the makespan: in calls, in loading models; the rest is waiting."""

    engine: str
    busy_s: float
    loading_s: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Where each stage runs, and what that comes to.

    `makespan_s` is that of the best schedule found, `bound_s` what no schedule of this problem can go below (an LP,
    `planner.placement.bound`); both are of the cost model's world, in which every length is its expected one. `stages`
    stand in the order of the explanation, `engines` in that of the fleet. `unplaced` are stages whose model nobody
    serves: they are in no figure.
    """

    stages: tuple[StagePlacement, ...]
    switches: tuple[ModelSwitch, ...]
    engines: tuple[EngineUse, ...]
    makespan_s: float
    bound_s: float
    unplaced: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """By which share the makespan exceeds the bound: 0.05 says that no schedule is more than 5 % quicker."""
        return self.makespan_s / self.bound_s - 1 if self.bound_s > 0 else 0.0

    def to_json(self) -> Json:
        """Plain data, ready for `json.dumps`."""
        return {
            "makespan_s": self.makespan_s,
            "bound_s": self.bound_s,
            "gap": self.gap,
            "stages": [asdict(stage) for stage in self.stages],
            "switches": [asdict(switch) for switch in self.switches],
            "engines": [asdict(engine) for engine in self.engines],
            "unplaced": list(self.unplaced),
            "assumptions": list(self.assumptions),
        }
