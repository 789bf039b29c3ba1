"""What is believed of the KV tiers that engines share: blocks of answered calls, kept beside all engines of a host."""

from collections.abc import Sequence

from executor.engines.port import EngineSpec
from executor.prompt_blocks import BLOCK_TOKENS
from kvstore.prefix_index import BlockName, PrefixIndex
from planner.cost.model import replica_for
from planner.ir.ids import EngineId

_GIB = 2**30
#: Copies reach about so much of the bus between a GPU and its host; what a host copies within its memory is no less.
BUS_SHARE = 0.5
#: Finding a prompt's blocks and opening them, whatever their number; an assumption.
LOOK_UP_S = 0.005


class Tiers:
    """By the name of the tier that an engine's spec tells. Engines without one have nothing kept."""

    def __init__(self, engines: Sequence[EngineSpec]) -> None:
        sharing = [spec for spec in engines if spec.kv_tier]
        self._names = {spec.id: spec.kv_tier for spec in sharing}
        self._token_s = {spec.id: kv_bytes_per_token(spec) / _bytes_per_s(spec) for spec in sharing}
        self._kept = {spec.kv_tier: PrefixIndex(_capacity(spec)) for spec in reversed(sharing)}

    def __bool__(self) -> bool:
        return bool(self._names)

    def keep(self, engine: EngineId, blocks: Sequence[BlockName]) -> None:
        """A call with these blocks was answered: its engine writes them into the tier."""
        name = self._names.get(engine)
        if name is not None and blocks:
            self._kept[name].enter(blocks)
            self._kept[name].leave(blocks)

    def match(self, engine: EngineId, blocks: Sequence[BlockName]) -> int:
        """How many leading blocks the engine would find in its tier."""
        name = self._names.get(engine)
        return 0 if name is None else self._kept[name].match(blocks)

    def load_s(self, engine: EngineId, tokens: float) -> float:
        """Copying so many tokens' KV into the engine, which computes nothing meanwhile."""
        return LOOK_UP_S + tokens * self._token_s[engine] if tokens else 0.0


def kv_bytes_per_token(spec: EngineSpec) -> float:
    """Of the first model it serves; of an unknown one as `replica_for` takes it."""
    model = spec.models[0] if spec.models else ""
    return replica_for(spec.gpu, spec.served_names.get(model, model), spec.tensor_parallel).shape.kv_bytes_per_token


def _bytes_per_s(spec: EngineSpec) -> float:
    if spec.kv_tier_gb_per_s:
        return spec.kv_tier_gb_per_s * 1e9
    replica = replica_for(spec.gpu, spec.models[0] if spec.models else "", spec.tensor_parallel)
    return BUS_SHARE * replica.gpu.host_gb_per_s * 1e9 * replica.degree


def _capacity(spec: EngineSpec) -> int:
    return max(1, int(spec.kv_tier_gib * _GIB / kv_bytes_per_token(spec) / BLOCK_TOKENS))
