"""Checks of the KV tier on objects of vLLM and torch: `test_kv_tier_in_vllm.py` runs them where these are installed."""

import sys
from collections.abc import Callable

import torch
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.request import Request

from halo_vllm.tier.copying import BlockRows
from halo_vllm.tier.folder import TierUnusable

BLOCKS, TAKEN = 9, [3, 1, 2]


def rows_go_out_and_in_as_they_are() -> None:
    """Whatever the KV type, the order of dimensions, and the size of the attention kernel's own blocks."""
    for kind in (torch.bfloat16, torch.float8_e4m3fn, torch.uint8, torch.float32):
        _round_trip(_filled(kind, BLOCKS, 4, 32, 64), lambda layer, block: layer[block])
        _round_trip(_filled(kind, BLOCKS, 32, 4, 64).permute(0, 2, 1, 3), lambda layer, block: layer[block])
        _round_trip(_filled(kind, 2, BLOCKS, 32, 4, 64), lambda layer, block: layer[:, block])
        _round_trip(_filled(kind, BLOCKS * 2, 4, 16, 64), lambda layer, block: layer[2 * block : 2 * block + 2])
    _round_trip(_filled(torch.bfloat16, BLOCKS, 4, 64, 5).transpose(2, 3), lambda layer, block: layer[block])


def _filled(kind: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randn(*shape).to(kind)


def _round_trip(layer: torch.Tensor, block_of: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
    other = torch.randn(BLOCKS, 3, 8).to(torch.float32)
    before, blocks = layer.clone(), BlockRows({"one": layer, "two": other}, BLOCKS)
    rows = blocks.gather(TAKEN)
    assert rows.shape == (3, blocks.row_bytes)
    layer.zero_()
    blocks.scatter(rows, TAKEN)
    for block in TAKEN:
        assert torch.equal(block_of(layer, block).float(), block_of(before, block).float())
    assert not block_of(layer, 5).float().any(), "no other block is touched"


def a_cache_of_another_shape_is_refused() -> None:
    try:
        BlockRows({"odd": torch.zeros(7, 5)}, BLOCKS)
    except TierUnusable:
        return
    raise AssertionError("it was taken")


def tenants_have_no_block_hash_in_common() -> None:
    mine, again, yours, nobodys = (_hashes(salt) for salt in ("a", "a", "b", None))
    assert mine == again
    assert len(mine) == 4
    assert not set(mine) & set(yours)
    assert not set(nobodys) & {*mine, *yours}


def _hashes(salt: str | None) -> list[bytes]:
    hash_of = get_hash_fn_by_name("sha256")
    init_none_hash(hash_of)
    return list(
        Request(
            request_id="r",
            prompt_token_ids=list(range(70)),
            sampling_params=SamplingParams(max_tokens=1),
            pooling_params=None,
            cache_salt=salt,
            block_hasher=get_request_block_hasher(16, hash_of),
        ).block_hashes
    )


CHECKS = (
    rows_go_out_and_in_as_they_are,
    a_cache_of_another_shape_is_refused,
    tenants_have_no_block_hash_in_common,
)

if __name__ == "__main__":
    for check in CHECKS:
        check()
        print(check.__name__)
    sys.exit()
