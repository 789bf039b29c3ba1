"""How a modelled engine takes its calls up, as its spec says."""

from executor.engines.model.batch import Batch
from executor.engines.model.call import Id
from executor.engines.model.engine import EngineModel
from executor.engines.model.line import ByKey, by_priority
from executor.engines.model.retaining import RetainingBatch
from executor.engines.port import EngineSpec
from halo_vllm.settings import Settings
from planner.cost.profile import Profile


def model_of(spec: EngineSpec, profile: Profile) -> EngineModel[Id]:
    """An engine as fast as the profile says."""
    return EngineModel(profile, batch=_batch(spec, profile))


def _batch(spec: EngineSpec, profile: Profile) -> Batch[Id]:
    """As the plugin does, by the priorities that calls bring, or first come, first served."""
    if spec.models_plugin:
        return RetainingBatch(profile, spec.max_running, Settings())
    line: ByKey[Id] | None = ByKey(by_priority) if spec.keeps_priorities else None
    return Batch(profile, spec.max_running, line)
