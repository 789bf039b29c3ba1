"""Between an engine's KV cache, one tensor a layer, and blocks as rows of bytes."""

from collections.abc import Mapping, Sequence

import torch

from halo_vllm.tier.folder import TierUnusable

_WORDS = (torch.int64, torch.int32, torch.int16, torch.uint8)


class BlockRows:
    """Blocks as rows of bytes, layer after layer, on the CPU. `layers` are vLLM's own tensors of `blocks` blocks."""

    def __init__(self, layers: Mapping[str, torch.Tensor], blocks: int) -> None:
        self._layers = [_as_words(_blocks_first(name, layers[name], blocks)) for name in sorted(layers)]
        self._device = self._layers[0].device

    @property
    def row_bytes(self) -> int:
        return sum(_bytes_of(layer) for layer in self._layers)

    def empty(self, rows: int) -> torch.Tensor:
        return torch.empty((rows, self.row_bytes), dtype=torch.uint8, pin_memory=self._device.type == "cuda")

    def gather(self, block_ids: Sequence[int]) -> torch.Tensor:
        """A copy of these blocks; done when this returns."""
        ids, rows, start = self._ids(block_ids), self.empty(len(block_ids)), 0
        for layer in self._layers:
            end = start + _bytes_of(layer)
            rows[:, start:end] = layer.index_select(0, ids).view(torch.uint8).view(len(block_ids), -1).cpu()
            start = end
        return rows

    def scatter(self, rows: torch.Tensor, block_ids: Sequence[int]) -> None:
        """Row by row into these blocks, in order with whatever the device does next."""
        ids, start = self._ids(block_ids), 0
        for layer in self._layers:
            end = start + _bytes_of(layer)
            part = (
                rows[:, start:end]
                .clone(memory_format=torch.contiguous_format)
                .view(layer.dtype)
                .view(len(block_ids), *layer.shape[1:])
            )
            layer.index_copy_(0, ids, part.to(self._device))
            start = end

    def _ids(self, block_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor(block_ids, dtype=torch.int64, device=self._device)


def _blocks_first(name: str, layer: torch.Tensor, blocks: int) -> torch.Tensor:
    """The layer with the scheduler's blocks as its first dimension: a view, so that writing to it writes the cache."""
    for dimension, size in enumerate(layer.shape[:2]):
        if size == blocks:
            return layer.movedim(dimension, 0)
    for dimension, size in enumerate(layer.shape[:2]):  # the attention kernel's blocks are smaller
        if size > blocks and size % blocks == 0:
            return layer.unflatten(dimension, (blocks, size // blocks)).movedim(dimension, 0)
    raise TierUnusable(
        f"the KV cache of {name} has the shape {tuple(layer.shape)}, which is not one of {blocks} blocks"
    )


def _as_words(layer: torch.Tensor) -> torch.Tensor:
    """The same memory as integers as wide as its strides allow: any KV type is copied as it is, and wide ones fast."""
    return next(layer.view(word) for word in _WORDS if _can_be(layer, word.itemsize))


def _can_be(layer: torch.Tensor, word_bytes: int) -> bool:
    size = layer.element_size()
    if word_bytes == size:
        return True
    steps = (layer.storage_offset(), layer.shape[-1], *layer.stride()[:-1])
    return word_bytes > size and layer.stride(-1) == 1 and all(step * size % word_bytes == 0 for step in steps)


def _bytes_of(layer: torch.Tensor) -> int:
    """Of one block."""
    return int(layer[0].numel() * layer.element_size())
