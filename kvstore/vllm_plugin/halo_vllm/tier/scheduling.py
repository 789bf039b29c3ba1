"""The scheduler's half of the tier: which kept blocks a prompt takes, and which blocks of a finished one are kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

#: A request that waits is asked about at every step; what was looked up so short a time ago is not looked up again.
LOOK_AGAIN_S = 0.25


@dataclass(frozen=True, slots=True)
class Copy:
    """A kept block by its hash, and the engine's own block it is copied to or from."""

    block_hash: bytes
    block_id: int


@dataclass(frozen=True, slots=True)
class Transfers:
    """What the workers copy before their next forward pass: first out of the engine, then into it."""

    stores: tuple[Copy, ...] = ()
    loads: tuple[Copy, ...] = ()


class KeptBlocks(Protocol):
    def holds(self, block_hash: bytes) -> bool: ...

    def use(self, block_hashes: Sequence[bytes]) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class _Answer:
    first_block: int
    blocks: int
    asked_s: float


class TierScheduling:
    """Pure but for `kept` and `clock_s`, which are passed in."""

    def __init__(self, kept: KeptBlocks, block_tokens: int, clock_s: Callable[[], float]) -> None:
        self._kept, self._block_tokens, self._clock_s = kept, block_tokens, clock_s
        self._answers: dict[str, _Answer] = {}
        self._stores: list[Copy] = []
        self._loads: list[Copy] = []

    def matched_tokens(self, request_id: str, hashes: Sequence[bytes], computed_tokens: int, all_tokens: int) -> int:
        """How many tokens after the computed ones can be copied in: whole blocks, and never the last token."""
        first, now_s = computed_tokens // self._block_tokens, self._clock_s()
        answer = self._answers.get(request_id)
        if answer is None or answer.first_block != first or now_s - answer.asked_s >= LOOK_AGAIN_S:
            last = min(len(hashes), (all_tokens - 1) // self._block_tokens)
            answer = self._answers[request_id] = _Answer(first, self._leading(hashes, first, last), now_s)
        return answer.blocks * self._block_tokens

    def load(self, request_id: str, hashes: Sequence[bytes], block_ids: Sequence[int], tokens: int) -> None:
        """The engine has room for `tokens` of what was offered: they come before the next forward pass."""
        answer = self._answers.pop(request_id, None)
        if not tokens:
            return
        assert answer is not None
        place = slice(answer.first_block, answer.first_block + tokens // self._block_tokens)
        self._kept.use(hashes[: place.stop])
        self._loads += map(Copy, hashes[place], block_ids[place])

    def finished(self, hashes: Sequence[bytes], block_ids: Sequence[int], computed_tokens: int) -> None:
        """A request is done: of its full blocks, those that are missing are kept and the others count as used."""
        full = min(len(hashes), len(block_ids), computed_tokens // self._block_tokens)
        self._stores += (Copy(hashes[place], block_ids[place]) for place in self._kept.use(hashes[:full]))

    def forget(self, request_id: str) -> None:
        """The request will not run."""
        self._answers.pop(request_id, None)

    def take_transfers(self) -> Transfers:
        """What was decided since the last step."""
        transfers = Transfers(tuple(self._stores), tuple(self._loads))
        self._stores, self._loads = [], []
        return transfers

    def _leading(self, hashes: Sequence[bytes], first: int, last: int) -> int:
        place = first
        while place < last and self._kept.holds(hashes[place]):
            place += 1
        return max(0, place - first)
