"""vLLM's KV events as bytes (msgpack). Needs the extra `kv-events`."""

import msgspec

from kvstore.kv_events import AllCleared, BlocksRemoved, BlocksStored, KvEvent

#: Of tiers behind the engine's own cache, other events tell too.
_OWN = (None, "GPU")


class _Stored(msgspec.Struct, tag="BlockStored"):
    """Fields that are not named here are skipped; those that vLLM leaves out have their defaults."""

    block_hashes: list[int | bytes]
    parent_block_hash: int | bytes | None
    block_size: int
    medium: str | None = None
    group_idx: int | None = None
    session_id: str | None = None


class _Removed(msgspec.Struct, tag="BlockRemoved"):
    block_hashes: list[int | bytes]
    medium: str | None = None
    group_idx: int | None = None


class _Cleared(msgspec.Struct, tag="AllBlocksCleared"):
    pass


class _StoredRow(msgspec.Struct, tag="BlockStored", array_like=True):
    """Earlier versions of vLLM write fields by position."""

    block_hashes: list[int | bytes]
    parent_block_hash: int | bytes | None
    token_ids: msgspec.Raw
    block_size: int
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: msgspec.Raw | None = None
    group_idx: int | None = None


class _RemovedRow(msgspec.Struct, tag="BlockRemoved", array_like=True):
    block_hashes: list[int | bytes]
    medium: str | None = None
    group_idx: int | None = None


class _ClearedRow(msgspec.Struct, tag="AllBlocksCleared", array_like=True):
    pass


class _Batch(msgspec.Struct, array_like=True):
    ts: float
    events: list[msgspec.Raw]


_BATCH = msgspec.msgpack.Decoder(_Batch)
_EVENT = msgspec.msgpack.Decoder(_Stored | _Removed | _Cleared)
_ROW = msgspec.msgpack.Decoder(_StoredRow | _RemovedRow | _ClearedRow)


def decode_batch(payload: bytes) -> tuple[KvEvent, ...]:
    """The events of the engine's own cache, in order; events of other kinds are skipped.

    Raises `ValueError` for what is no batch.
    """
    try:
        raws = _BATCH.decode(payload).events
    except msgspec.MsgspecError as problem:
        raise ValueError(f"no batch of KV events: {problem}") from None
    events = (_event(raw) for raw in raws)
    return tuple(event for event in events if event is not None)


def _event(raw: msgspec.Raw) -> KvEvent | None:
    for decoder in (_EVENT, _ROW):
        try:
            return _value(decoder.decode(raw))
        except msgspec.MsgspecError:
            continue
    return None


def _value(event: _Stored | _Removed | _Cleared | _StoredRow | _RemovedRow | _ClearedRow) -> KvEvent | None:
    if isinstance(event, _Cleared | _ClearedRow):
        return AllCleared()
    if event.medium not in _OWN or event.group_idx:
        return None
    hashes = tuple(map(_hash, event.block_hashes))
    if isinstance(event, _Removed | _RemovedRow):
        return BlocksRemoved(hashes)
    parent = None if event.parent_block_hash is None else _hash(event.parent_block_hash)
    return BlocksStored(hashes, parent, event.block_size, getattr(event, "session_id", None))


def _hash(name: int | bytes) -> int:
    """vLLM writes bytes where VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES is 0."""
    return name if isinstance(name, int) else int.from_bytes(name, "big")
