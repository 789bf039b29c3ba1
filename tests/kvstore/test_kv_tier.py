"""The KV tier's own parts: what a file says, who gives way, what a folder promises, what the scheduler decides."""

import fcntl
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo_vllm.tier.block_file import HEADER_BYTES, BlockLabel, encode_header, fault_of
from halo_vllm.tier.eviction import KeptFile, to_evict
from halo_vllm.tier.folder import TierFolder, TierUnusable
from halo_vllm.tier.layout import KvLayout
from halo_vllm.tier.scheduling import LOOK_AGAIN_S, Copy, TierScheduling, Transfers

BLOCK_BYTES = 64
LAYOUT = KvLayout("tiny", "w1", "c1", "bfloat16 auto None", 32, BLOCK_BYTES, 4, 1, "sha256", "0.32.0")
FILE_BYTES = HEADER_BYTES + BLOCK_BYTES
HASHES = [bytes([n]) * 32 for n in range(200)]


def ticks() -> Iterator[int]:
    return itertools.count(1_000_000_000, 1_000_000_000)


def opened(root: Path, layout: KvLayout = LAYOUT, blocks: int = 100, clock: Iterator[int] | None = None) -> TierFolder:
    clock = clock or ticks()
    folder = TierFolder(root, layout, blocks * FILE_BYTES, lambda: next(clock))
    folder.open()
    return folder


def content(block: bytes) -> bytes:
    return (block * BLOCK_BYTES)[:BLOCK_BYTES]


def put(folder: TierFolder, blocks: Sequence[bytes], rank: int = 0) -> int:
    return folder.write(rank, [(block, memoryview(content(block))) for block in blocks])


def got(folder: TierFolder, block: bytes, rank: int = 0) -> bytes | None:
    payload = bytearray(BLOCK_BYTES)
    return None if folder.read(block, rank, memoryview(payload)) else bytes(payload)


def held(folder: TierFolder, blocks: Sequence[bytes]) -> list[bool]:
    return [folder.holds(block) for block in blocks]


# One file.


def test_a_block_is_itself_and_no_other() -> None:
    label = BlockLabel(LAYOUT.fingerprint, HASHES[1])
    payload = content(HASHES[1])
    header = encode_header(label, payload)
    assert fault_of(label, header, payload) is None
    others = (replace(label, block_hash=HASHES[2]), replace(label, rank=1), replace(label, fingerprint="0" * 32))
    assert all(fault_of(other, header, payload) for other in others)


@given(place=st.integers(0, FILE_BYTES - 1), flip=st.integers(1, 255))
def test_no_changed_byte_goes_unseen(place: int, flip: int) -> None:
    label, payload = BlockLabel(LAYOUT.fingerprint, HASHES[1]), content(HASHES[1])
    file = bytearray(encode_header(label, payload) + payload)
    file[place] ^= flip
    assert fault_of(label, file[:HEADER_BYTES], file[HEADER_BYTES:]) is not None


def test_every_field_of_the_layout_makes_another_fingerprint() -> None:
    others = [
        replace(LAYOUT, **{name: getattr(LAYOUT, name) * 2})
        for name in ("model", "weights", "config", "dtype", "block_tokens", "block_bytes", "layers", "ranks", "engine")
    ]
    assert len({layout.fingerprint for layout in (LAYOUT, *others)}) == len(others) + 1


# Who gives way.


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), max_size=40), st.integers(1, 400), st.integers(0, 400)
)
def test_what_stays_fits_and_is_never_older_than_what_goes(
    files: list[tuple[int, int]], capacity: int, new: int
) -> None:
    kept = [KeptFile(str(number), size, used) for number, (size, used) in enumerate(files)]
    leaving = to_evict(kept, capacity, new)
    staying = [file for file in kept if file not in leaving]
    assert not staying or sum(file.size_bytes for file in staying) + new <= capacity
    assert all(gone.last_used_ns <= file.last_used_ns for gone in leaving for file in staying)
    if sum(file.size_bytes for file in kept) + new <= capacity:
        assert not leaving


# The folder.


def test_what_one_engine_keeps_another_reads(tmp_path: Path) -> None:
    one, other = opened(tmp_path / "t"), opened(tmp_path / "t")
    assert put(one, HASHES[:3]) == 3
    assert held(other, HASHES[:4]) == [True, True, True, False]
    assert got(other, HASHES[1]) == content(HASHES[1])
    assert got(other, HASHES[3]) is None


def test_a_damaged_file_is_refused_and_removed(tmp_path: Path) -> None:
    folder = opened(tmp_path / "t")
    put(folder, HASHES[:3])
    home = tmp_path / "t" / LAYOUT.fingerprint
    files = [home / f"{block.hex()}.0" for block in HASHES[:3]]
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    files[1].write_bytes(whole[:-1])
    files[2].write_bytes(whole + b"x")
    assert held(folder, HASHES[:3]) == [True, False, False]  # only reading finds the first
    assert [got(folder, block) for block in HASHES[:3]] == [None, None, None]
    assert not any(file.exists() for file in files)


def test_a_file_under_another_blocks_name_is_refused(tmp_path: Path) -> None:
    folder = opened(tmp_path / "t")
    put(folder, HASHES[:1])
    home = tmp_path / "t" / LAYOUT.fingerprint
    os.rename(home / f"{HASHES[0].hex()}.0", home / f"{HASHES[1].hex()}.0")
    assert folder.holds(HASHES[1])
    assert got(folder, HASHES[1]) is None


def test_the_least_recently_used_prompt_goes_first_and_of_a_prompt_the_end(tmp_path: Path) -> None:
    folder = opened(tmp_path / "t", blocks=40)
    put(folder, HASHES[:20])
    put(folder, HASHES[20:40])
    assert folder.use(HASHES[:20]) == []
    put(folder, HASHES[40:50])
    assert all(held(folder, HASHES[:20]))
    second = held(folder, HASHES[20:40])
    assert second == sorted(second, reverse=True)
    assert second.count(True) == 10
    assert folder.kept_bytes() <= 40 * FILE_BYTES


def test_no_number_of_engines_keeps_more_than_the_capacity(tmp_path: Path) -> None:
    clock = ticks()
    engines = [opened(tmp_path / "t", blocks=30, clock=clock) for _ in range(3)]
    for turn in range(30):
        put(engines[turn % 3], HASHES[turn * 6 : turn * 6 + 9])
        assert engines[0].kept_bytes() <= 30 * FILE_BYTES


def test_of_a_prompt_over_the_capacity_the_beginning_is_kept(tmp_path: Path) -> None:
    folder = opened(tmp_path / "t", blocks=5)
    assert put(folder, HASHES[:9]) == 5
    assert held(folder, HASHES[:6]) == [True] * 5 + [False]


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    folder = opened(tmp_path / "t")
    put(folder, HASHES[:3])
    assert put(folder, HASHES[:5]) == 2
    assert folder.kept_bytes() == 5 * FILE_BYTES


def test_use_tells_what_is_missing(tmp_path: Path) -> None:
    folder = opened(tmp_path / "t")
    put(folder, [HASHES[0], HASHES[2]])
    assert folder.use(HASHES[:4]) == [1, 3]


def test_blocks_outlive_the_engine_that_kept_them(tmp_path: Path) -> None:
    first = opened(tmp_path / "t")
    put(first, HASHES[:3])
    first.close()
    assert got(opened(tmp_path / "t"), HASHES[2]) == content(HASHES[2])


def test_another_layout_never_sees_them_and_drops_them_whole_once_nobody_uses_them(tmp_path: Path) -> None:
    old = opened(tmp_path / "t")
    put(old, HASHES[:3])
    changed = replace(LAYOUT, weights="w2")
    new = opened(tmp_path / "t", changed)
    assert not any(held(new, HASHES[:3]))
    assert all(held(old, HASHES[:3]))  # its engine lives
    old.close()
    newest = opened(tmp_path / "t", replace(LAYOUT, weights="w3"))
    assert not (tmp_path / "t" / LAYOUT.fingerprint).exists()
    assert (tmp_path / "t" / changed.fingerprint).exists()
    assert newest.kept_bytes() == 0


def test_a_writer_that_died_leaves_nothing_that_is_read_or_counted(tmp_path: Path) -> None:
    folder = opened(tmp_path / "t")
    half = tmp_path / "t" / LAYOUT.fingerprint / f"{HASHES[0].hex()}.0.new"
    half.write_bytes(b"x" * 7)
    assert not folder.holds(HASHES[0])
    assert folder.kept_bytes() == 0
    assert not half.exists()


def test_the_count_heals_from_a_writer_that_died_before_it_wrote(tmp_path: Path) -> None:
    folder = opened(tmp_path / "t", blocks=10)
    (tmp_path / "t" / "ledger").write_bytes((10 * FILE_BYTES).to_bytes(8, "little"))
    assert put(folder, HASHES[:8]) == 8
    assert all(held(folder, HASHES[:8]))


def test_each_rank_keeps_its_share_and_a_block_is_there_when_all_have(tmp_path: Path) -> None:
    folder = opened(tmp_path / "t", replace(LAYOUT, ranks=2))
    put(folder, HASHES[:2], rank=0)
    assert not folder.holds(HASHES[0])
    assert folder.use(HASHES[:1]) == [0]
    put(folder, HASHES[:2], rank=1)
    assert held(folder, HASHES[:2]) == [True, True]


def test_clearing_leaves_other_layouts_alone(tmp_path: Path) -> None:
    one, other = opened(tmp_path / "t"), opened(tmp_path / "t", replace(LAYOUT, model="big"))
    put(one, HASHES[:2])
    put(other, HASHES[:2])
    one.clear()
    assert held(one, HASHES[:2]) == [False, False]
    assert held(other, HASHES[:2]) == [True, True]
    assert one.kept_bytes() == 2 * FILE_BYTES


def test_only_its_user_may_enter(tmp_path: Path) -> None:
    opened(tmp_path / "t")
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "t")
    for name in ("open", "link"):
        with pytest.raises(TierUnusable, match="only this user may enter"):
            opened(tmp_path / name)


def test_a_capacity_of_less_than_a_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TierUnusable, match="capacity_gib"):
        opened(tmp_path / "t", blocks=0)


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    folder = opened(tmp_path / "t")
    with open(tmp_path / "t" / "ledger") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)
    assert put(folder, HASHES[:1]) == 1


# What the scheduler decides.


class Kept:
    def __init__(self, blocks: Sequence[bytes]) -> None:
        self.blocks, self.looked = set(blocks), 0

    def holds(self, block_hash: bytes) -> bool:
        self.looked += 1
        return block_hash in self.blocks

    def use(self, block_hashes: Sequence[bytes]) -> list[int]:
        return [place for place, block in enumerate(block_hashes) if block not in self.blocks]


def test_a_prompt_takes_the_kept_blocks_after_those_the_engine_has() -> None:
    tier = TierScheduling(Kept(HASHES[:6]), 32, lambda: 0.0)
    assert tier.matched_tokens("r", HASHES[:8], computed_tokens=64, all_tokens=8 * 32 + 5) == 4 * 32
    tier.load("r", HASHES[:8], block_ids=range(100, 109), tokens=4 * 32)
    loads = tuple(Copy(HASHES[place], 100 + place) for place in range(2, 6))
    assert tier.take_transfers() == Transfers(loads=loads)
    assert tier.take_transfers() == Transfers()


def test_the_last_token_is_always_computed() -> None:
    tier = TierScheduling(Kept(HASHES[:4]), 32, lambda: 0.0)
    assert tier.matched_tokens("r", HASHES[:4], computed_tokens=0, all_tokens=4 * 32) == 3 * 32


def test_a_gap_ends_what_can_be_taken() -> None:
    tier = TierScheduling(Kept([HASHES[0], HASHES[2]]), 32, lambda: 0.0)
    assert tier.matched_tokens("r", HASHES[:4], computed_tokens=0, all_tokens=200) == 32


def test_a_finished_request_keeps_what_is_full_written_and_missing() -> None:
    tier = TierScheduling(Kept(HASHES[:2]), 32, lambda: 0.0)
    tier.finished(HASHES[:5], block_ids=[7, 8, 9, 10, 11], computed_tokens=4 * 32 + 31)
    assert tier.take_transfers() == Transfers(stores=(Copy(HASHES[2], 9), Copy(HASHES[3], 10)))


def test_a_request_that_waits_is_looked_up_now_and_then() -> None:
    now_s = [0.0]
    kept = Kept(())
    tier = TierScheduling(kept, 32, lambda: now_s[0])

    def ask() -> int:
        return tier.matched_tokens("r", HASHES[:4], computed_tokens=0, all_tokens=200)

    assert [ask() for _ in range(50)] == [0] * 50
    assert kept.looked == 1
    kept.blocks.update(HASHES[:2])
    now_s[0] = LOOK_AGAIN_S
    assert ask() == 2 * 32


def test_nothing_is_loaded_where_the_engine_took_nothing() -> None:
    tier = TierScheduling(Kept(HASHES[:4]), 32, lambda: 0.0)
    tier.matched_tokens("r", HASHES[:4], computed_tokens=0, all_tokens=200)
    tier.load("r", HASHES[:4], block_ids=range(4), tokens=0)
    assert tier.take_transfers() == Transfers()
