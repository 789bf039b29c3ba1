"""A KV connector that sends blocks after their call is over: the plugin decides when the call ends, not when they are
free."""

from typing import Any

import pytest

pytest.importorskip("vllm", reason="run with `make test-virtual`: it needs .venv-engine's Python", exc_type=ImportError)

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorMetadata
from vllm.v1.outputs import KVConnectorOutput

from halo_vllm.virtual_time.engine import HALO_SCHEDULER, Call, EngineShape, VirtualEngine

KV_BLOCKS, BLOCK_TOKENS = 64, 32


class SendsLate(KVConnectorBase_V1):
    """Finds nothing anywhere, and keeps the blocks of calls that are over until it is told."""

    def __init__(self) -> None:
        self._connector_metadata = None

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, None]:
        return True, None

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        return 0, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int, *more: Any) -> None:
        return None

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        return KVConnectorMetadata()

    def start_load_kv(self, forward_context: Any, **more: Any) -> None:
        return None

    def wait_for_layer_load(self, layer_name: str) -> None:
        return None

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **more: Any) -> None:
        return None

    def wait_for_save(self) -> None:
        return None


def engine_that_sends_late() -> VirtualEngine:
    engine = VirtualEngine(EngineShape(HALO_SCHEDULER, kv_blocks=KV_BLOCKS, block_tokens=BLOCK_TOKENS))
    engine.scheduler.connector = SendsLate()
    return engine


def ask(engine: VirtualEngine, call_id: str, tokens: int, text: int = 0) -> None:
    hints = {"halo_program": call_id.partition("/")[0]}
    engine.ask(Call(call_id, tuple(range(text, text + tokens)), 4, hints=hints))
    while engine.busy:
        engine.step()


def sent(engine: VirtualEngine, *calls: str) -> None:
    engine.scheduler._update_from_kv_xfer_finished(KVConnectorOutput(finished_sending=set(calls)))


def kept_share(engine: VirtualEngine) -> float:
    return float(engine.scheduler.halo_stats()["retained_share"])


def test_blocks_freed_late_are_kept_from_then_on() -> None:
    engine = engine_that_sends_late()
    ask(engine, "a/0", 640)
    assert kept_share(engine) == 0
    sent(engine, "a/0")
    assert kept_share(engine) == 20 / KV_BLOCKS


def test_what_is_told_before_they_are_free_counts() -> None:
    engine = engine_that_sends_late()
    ask(engine, "a/0", 640)
    engine.hint({"program": "a", "event": "last_step"})
    sent(engine, "a/0")
    assert kept_share(engine) == 0


def test_the_next_turn_may_come_before_they_are_free() -> None:
    engine = engine_that_sends_late()
    ask(engine, "a/0", 640)
    ask(engine, "a/1", 800)
    sent(engine, "a/0", "a/1")
    stats = engine.scheduler.halo_stats()
    assert (stats["warm_resumes"], stats["retained_share"]) == (1, 25 / KV_BLOCKS)
    empty = engine.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    assert empty == KV_BLOCKS - 1
