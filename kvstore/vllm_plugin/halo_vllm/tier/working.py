"""A worker's half of the tier: copies blocks out of and into its share of the KV cache."""

import logging
from collections.abc import Sequence

from halo_vllm.tier.copying import BlockRows
from halo_vllm.tier.folder import TierFolder, TierUnusable
from halo_vllm.tier.scheduling import Copy
from halo_vllm.tier.writing import Batch, BehindWriter

_log = logging.getLogger(__name__)

#: Copied at a time, so that a long prompt takes no second copy of itself.
CHUNK_BYTES = 64 * 1024 * 1024


class TierWorking:
    """Of one worker of rank `rank`, whose blocks are `rows`."""

    def __init__(self, folder: TierFolder, rank: int, rows: BlockRows) -> None:
        if rows.row_bytes != folder.layout.block_bytes:
            raise TierUnusable(
                f"a KV block has {rows.row_bytes:,} bytes where vLLM's configuration says "
                f"{folder.layout.block_bytes:,}: this attention backend's KV cache cannot be kept"
            )
        self._folder, self._rank, self._rows = folder, rank, rows
        self._chunk = max(1, CHUNK_BYTES // rows.row_bytes)
        self._writer = BehindWriter(lambda blocks: folder.write(rank, blocks))

    def store(self, copies: Sequence[Copy]) -> None:
        """Takes the blocks as they are now; they reach the folder a little later, or not where writing lags."""
        for chunk in _chunks(copies[: self._writer.room_bytes // self._rows.row_bytes], self._chunk):
            rows = self._rows.gather([copy.block_id for copy in chunk]).numpy()
            blocks = [(copy.block_hash, memoryview(row)) for copy, row in zip(chunk, rows, strict=True)]
            self._writer.put(Batch(blocks, rows.nbytes))

    def load(self, copies: Sequence[Copy]) -> set[int]:
        """Fills the engine's blocks. Returns those that could not be: their content means nothing."""
        return {block for chunk in _chunks(copies, self._chunk) for block in self._load(chunk)}

    def close(self) -> None:
        self._writer.close()
        self._folder.close()

    def _load(self, copies: Sequence[Copy]) -> set[int]:
        rows = self._rows.empty(len(copies))
        faults = {
            copy.block_id: fault
            for copy, row in zip(copies, rows.numpy(), strict=True)
            if (fault := self._folder.read(copy.block_hash, self._rank, memoryview(row))) is not None
        }
        whole = [place for place, copy in enumerate(copies) if copy.block_id not in faults]
        if faults:
            _log.warning("%d kept KV blocks are computed again: %s", len(faults), next(iter(faults.values())))
            rows = rows[whole]
        if whole:
            self._rows.scatter(rows, [copies[place].block_id for place in whole])
        return set(faults)


def _chunks(copies: Sequence[Copy], size: int) -> list[Sequence[Copy]]:
    return [copies[start : start + size] for start in range(0, len(copies), size)]
