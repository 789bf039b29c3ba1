"""What an engine says of its KV cache: vLLM's KV events, as values and as they come over the wire."""

from dataclasses import dataclass

BlockHash = int


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """A run of blocks, each after the other; the first follows `parent`, or begins a prompt.

    `session` names whose request it was, where the client said so.
    """

    hashes: tuple[BlockHash, ...]
    parent: BlockHash | None
    block_tokens: int
    session: str | None = None


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    hashes: tuple[BlockHash, ...]


@dataclass(frozen=True, slots=True)
class AllCleared:
    """The cache is empty."""


KvEvent = BlocksStored | BlocksRemoved | AllCleared


@dataclass(frozen=True, slots=True)
class KvBatch:
    """The events of one step of the engine, numbered from 0 since it started."""

    number: int
    events: tuple[KvEvent, ...]
