"""Prompts as runs of blocks, as an engine's prefix cache sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Tokens = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PromptBlocks:
    """Prompt `i` is the blocks `ids[starts[i]:starts[i + 1]]`; block `j` holds `tokens[j]` tokens.

    Blocks with one id hold the same text. Two prompts share the blocks up to the first in which they differ. At its end
    prompt `i` has `private_tokens[i]` more, which no other can share: an engine shares whole blocks only.
    """

    ids: Ids
    tokens: Tokens
    starts: Ids
    private_tokens: Tokens

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.tokens) == self.starts[-1]
        assert len(self.private_tokens) == len(self.starts) - 1

    def __len__(self) -> int:
        return len(self.private_tokens)

    @property
    def prompt_tokens(self) -> float:
        return float(self.tokens.sum() + self.private_tokens.sum())

    def tokens_of_prompts(self) -> Tokens:
        until = np.concatenate([np.zeros(1), np.cumsum(self.tokens)])
        tokens: Tokens = np.diff(until[self.starts]) + self.private_tokens
        return tokens

    def taken(self, prompts: Ids) -> "PromptBlocks":
        """These prompts, in this order; one may be taken often."""
        sizes = np.diff(self.starts)[prompts]
        starts = _starts(sizes)
        shift = np.repeat(self.starts[:-1][prompts] - starts[:-1], sizes)
        at = np.arange(starts[-1]) + shift
        return PromptBlocks(self.ids[at], self.tokens[at], starts, self.private_tokens[prompts])


@dataclass(frozen=True, slots=True, eq=False)
class StageBlocks:
    """The prompts of one stage over the rows of a part, equal ones once: row `r` has prompt `of_row[r]` of `blocks`."""

    blocks: PromptBlocks
    of_row: Ids

    def of_rows(self, rows: Ids) -> PromptBlocks:
        return self.blocks.taken(self.of_row[rows])


def prompt_blocks(prompts: Sequence[Sequence[int] | Ids], block_tokens: float) -> PromptBlocks:
    """Prompts whose blocks are named already and are all of one size, as traces give them."""
    starts = _starts([len(prompt) for prompt in prompts])
    ids = np.concatenate([np.asarray(prompt, np.int64) for prompt in prompts]) if prompts else np.zeros(0, np.int64)
    return PromptBlocks(ids, np.full(len(ids), float(block_tokens)), starts, np.zeros(len(prompts)))


def token_blocks(prompts: Sequence[Ids], block_tokens: int) -> PromptBlocks:
    """Prompts of token ids, cut as vLLM cuts them: whole blocks of `block_tokens`, and a rest that is not shared."""
    blocks = [_named(prompt, block_tokens) for prompt in prompts]
    found = prompt_blocks(blocks, block_tokens)
    rests = np.asarray([len(prompt) % block_tokens for prompt in prompts], np.float64)
    return PromptBlocks(found.ids, found.tokens, found.starts, rests)


def joined(parts: Sequence[PromptBlocks]) -> PromptBlocks:
    """The prompts of all parts, one part after the other."""
    sizes = np.concatenate([np.diff(part.starts) for part in parts]) if parts else np.zeros(0, np.int64)
    return PromptBlocks(
        np.concatenate([part.ids for part in parts]) if parts else np.zeros(0, np.int64),
        np.concatenate([part.tokens for part in parts]) if parts else np.zeros(0),
        _starts(sizes),
        np.concatenate([part.private_tokens for part in parts]) if parts else np.zeros(0),
    )


def _starts(sizes: Sequence[int] | Ids) -> Ids:
    starts: Ids = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(sizes, np.int64))])
    return starts


def _named(prompt: Ids, block_tokens: int) -> Ids:
    """Each whole block by a number that depends on all its tokens: two blocks meet in one with a chance of 2^-60."""
    whole = len(prompt) // block_tokens
    tokens = np.asarray(prompt[: whole * block_tokens], np.uint64).reshape(whole, block_tokens)
    mixed = (tokens + np.uint64(1)) * _odd_factors(block_tokens)
    named: Ids = ((mixed ^ (mixed >> np.uint64(29))) * _odd_factors(block_tokens)[::-1]).sum(axis=1).view(np.int64)
    return named


def _odd_factors(count: int) -> NDArray[np.uint64]:
    """Fixed numbers without a pattern: the multiples of the golden ratio, made odd."""
    with np.errstate(over="ignore"):
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (steps ^ (steps >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
        return (mixed ^ (mixed >> np.uint64(27))) | np.uint64(1)
