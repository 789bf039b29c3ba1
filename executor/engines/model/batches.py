"""How a modelled engine takes its calls up, as its spec says."""

from executor.engines.model.batch import Batch
from executor.engines.model.call import Id
from executor.engines.model.engine import EngineModel
from executor.engines.model.line import ByKey, by_priority
from executor.engines.port import EngineSpec
from planner.cost.profile import Profile


def model_of(spec: EngineSpec, profile: Profile) -> EngineModel[Id]:
    """An engine as fast as the profile says: first come, first served, or by the priorities that calls bring."""
    line: ByKey[Id] | None = ByKey(by_priority) if spec.keeps_priorities else None
    return EngineModel(profile, batch=Batch(profile, spec.max_running, line))
