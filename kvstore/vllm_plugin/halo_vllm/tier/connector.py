"""The tier as a KV connector of vLLM.

--kv-transfer-config '{"kv_connector": "HaloTier", "kv_connector_module_path": "halo_vllm.tier.connector",
                       "kv_role": "kv_both", "kv_connector_extra_config": {"name": "fleet", "capacity_gib": 8}}'
"""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)
from vllm.v1.request import RequestStatus

from halo_vllm.tier.configuration import capacity_bytes_of, folder_of, layout_of
from halo_vllm.tier.copying import BlockRows
from halo_vllm.tier.folder import TierFolder
from halo_vllm.tier.scheduling import TierScheduling, Transfers
from halo_vllm.tier.working import TierWorking

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.forward_context import ForwardContext
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

_log = logging.getLogger(__name__)


@dataclass
class TierMetadata(KVConnectorMetadata):
    """From the scheduler to every worker, once a step."""

    transfers: Transfers


class HaloTier(KVConnectorBase_V1):
    """vLLM makes one in the scheduler's process and one in each worker's."""

    def __init__(self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig") -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        options = self._kv_transfer_config.kv_connector_extra_config
        layout = layout_of(vllm_config, kv_cache_config)
        self._folder = TierFolder(folder_of(options), layout, capacity_bytes_of(options), time.time_ns)
        self._folder.open()
        self._scheduling = TierScheduling(self._folder, layout.block_tokens, time.monotonic)
        self._working: TierWorking | None = None
        self._unloaded: set[int] = set()
        self._stored: TierMetadata | None = None
        # A block that vanished or is damaged must be computed, never end the request, which is vLLM's default.
        self._kv_transfer_config.kv_load_failure_policy = "recompute"
        _log.info("KV blocks are kept in %s, layout %s", folder_of(options), layout.fingerprint)

    @property
    def requires_kv_delivery(self) -> bool:
        """A block that was not kept is a miss, no loss."""
        return False

    # What the scheduler calls.

    def get_num_new_matched_tokens(self, request: "Request", num_computed_tokens: int) -> tuple[int, bool]:
        tokens = self._scheduling.matched_tokens(
            request.request_id, request.block_hashes, num_computed_tokens, request.num_tokens
        )
        return tokens, False

    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        self._scheduling.load(request.request_id, request.block_hashes, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> TierMetadata:
        return TierMetadata(self._scheduling.take_transfers())

    def request_finished(self, request: "Request", block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        self._scheduling.forget(request.request_id)
        if request.status in _ANSWERED:
            # A step in flight has not written its tokens yet.
            written = request.num_computed_tokens - getattr(request, "num_in_flight_tokens", 0)
            self._scheduling.finished(request.block_hashes, block_ids, written)
        return False, None

    def reset_cache(self) -> bool:
        self._folder.clear()
        return True

    # What a worker calls.

    def register_kv_caches(self, kv_caches: "dict[str, torch.Tensor]") -> None:
        rows = BlockRows(kv_caches, self._kv_cache_config.num_blocks)
        self._working = TierWorking(self._folder, self._vllm_config.parallel_config.rank, rows)

    def handle_preemptions(self, kv_connector_metadata: object) -> None:
        """The first thing of a step: blocks that were freed at the end of the last one may be written in this one.

        Earlier versions of vLLM call this with request ids: then they are taken when the metadata is bound.
        """
        if isinstance(kv_connector_metadata, TierMetadata):
            self._store(kv_connector_metadata)

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        """Before the forward pass, which reads what is loaded here."""
        super().bind_connector_metadata(connector_metadata)
        assert isinstance(connector_metadata, TierMetadata)
        self._store(connector_metadata)
        if self._working is not None:
            self._unloaded = self._working.load(connector_metadata.transfers.loads)

    def _store(self, metadata: TierMetadata) -> None:
        """Once for each step."""
        if self._working is not None and metadata is not self._stored:
            self._working.store(metadata.transfers.stores)
            self._stored = metadata

    def get_block_ids_with_load_errors(self) -> set[int]:
        unloaded, self._unloaded = self._unloaded, set()
        return unloaded

    def shutdown(self) -> None:
        if self._working is not None:
            self._working.close()

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        """All is loaded by then."""

    def wait_for_layer_load(self, layer_name: str) -> None:
        """All is loaded by then."""

    def save_kv_layer(self, layer_name: str, kv_layer: "torch.Tensor", attn_metadata: Any, **kwargs: Any) -> None:
        """Blocks are kept when their request is done."""

    def wait_for_save(self) -> None:
        """Copies are out of the KV cache before the forward pass."""


#: An aborted request may hold blocks that no step has filled.
_ANSWERED = (RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED)
