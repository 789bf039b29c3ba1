"""The prompts of a stage as blocks, by their characters: for planning without a tokenizer at hand."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TypeVar

import numpy as np

from planner.estimate import ITEM_TOKENS
from planner.ir.expressions import Expr
from planner.ir.tokens import CHARS_PER_TOKEN
from planner.numbering import Numbering, Numbers, number_together
from planner.prefix.blocks import PromptBlocks, StageBlocks
from planner.prompts import Prompt, Segment
from planner.segments import Segments

T = TypeVar("T")

#: vLLM's default on GPUs.
BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Cut:
    """How text is cut into blocks. `chars_per_token` is an assumption, or what a tokenizer gave on a sample."""

    block_tokens: int = BLOCK_TOKENS
    chars_per_token: float = CHARS_PER_TOKEN

    @property
    def block_chars(self) -> int:
        return max(1, round(self.block_tokens * self.chars_per_token))


def text_blocks(prompt: Prompt, segments: Segments, rows: int, cut: Cut) -> StageBlocks:
    """The beginning of the prompt that is known before the run, as blocks; the rest is private, as long as estimated.

    An output that is not known yet but is known to be equal for some rows is one block for those, with what is left of
    a block before it.
    """
    known = list(_known(prompt, segments))
    numbering = number_together([segments.number(segment) for segment in known], rows)
    runs = [_run(list(run), segments, numbering.firsts) for _, run in groupby(known, segments.is_text)]
    prompts = zip(*runs, strict=True) if runs else (() for _ in range(numbering.count))
    cuts = [_whole_blocks(pieces, cut) for pieces in prompts]
    return StageBlocks(_put_together(cuts, _tail_tokens(prompt, len(known), segments)), numbering.of_row)


def text_pieces(prompt: Prompt, segments: Segments, rows: int, cut: Cut) -> StageBlocks:
    """The same with smaller blocks where segments meet: each begins a block, and its end is one, however short.

    For ordering: finds all that segments share and all that their texts do, though an engine shares whole blocks only.
    """
    known = list(_known(prompt, segments))
    numbering = number_together([segments.number(segment) for segment in known], rows)
    columns = [_at(_pieces(segment, segments, cut), segments.number(segment), numbering.firsts) for segment in known]
    pieces = [piece for prompt_pieces in zip(*columns, strict=True) for piece in prompt_pieces]
    pieces += [_Cut([], [], 0.0)] * (0 if known else numbering.count)
    blocks = _put_together(pieces, 0.0)
    starts = blocks.starts[:: max(1, len(known))]
    tail_tokens = np.full(numbering.count, _tail_tokens(prompt, len(known), segments))
    return StageBlocks(PromptBlocks(blocks.ids, blocks.tokens, starts, tail_tokens), numbering.of_row)


@dataclass(frozen=True, slots=True)
class _Opaque:
    """An output not known yet: named by the work that gives it."""

    id: int
    tokens: float


@dataclass(frozen=True, slots=True)
class _Cut:
    """One prompt while it is being cut. Python's hash will do for names: they order nothing and are not kept."""

    ids: list[int]
    tokens: list[float]
    private_tokens: float

    def add(self, block: int, tokens: float) -> None:
        self.ids.append(block)
        self.tokens.append(tokens)

    def add_text(self, text: str, cut: Cut) -> str:
        """The whole blocks of the text; gives back what is left of it."""
        size = cut.block_chars
        whole = len(text) - len(text) % size
        self.ids.extend([hash(text[at : at + size]) for at in range(0, whole, size)])
        self.tokens.extend([float(cut.block_tokens)] * (whole // size))
        return text[whole:]

    def add_rest(self, text: str, cut: Cut) -> None:
        if text:
            self.add(hash(text), len(text) / cut.chars_per_token)


def _known(prompt: Prompt, segments: Segments) -> Iterator[Expr]:
    for segment in prompt.segments:
        if segment is None or not segments.known(segment):
            return
        yield segment


def _tail_tokens(prompt: Prompt, known: int, segments: Segments) -> float:
    return sum(_unknown_tokens(segment, segments) for segment in prompt.segments[known:])


def _unknown_tokens(segment: Segment, segments: Segments) -> float:
    if segment is None:
        return ITEM_TOKENS
    return segments.tokens(segment)


def _run(run: Sequence[Expr], segments: Segments, rows: Numbers) -> Iterator[str | _Opaque]:
    """What segments that stand together come to for each of `rows`: one text, or what is not known yet."""
    if segments.is_text(run[0]):
        columns = [_at(segments.texts(segment), segments.number(segment), rows) for segment in run]
        return map("".join, zip(*columns, strict=True))
    names = [_at(segments.keys(segment), segments.number(segment), rows) for segment in run]
    chars = np.asarray([segments.chars(segment)[segments.number(segment).of_row[rows]] for segment in run])
    tokens = (chars.sum(axis=0) / segments.chars_per_token).tolist()
    return (_Opaque(hash(keys), length) for keys, length in zip(zip(*names, strict=True), tokens, strict=True))


def _at(of_number: Sequence[T], numbering: Numbering, rows: Numbers) -> list[T]:
    return [of_number[number] for number in numbering.of_row[rows].tolist()]


def _whole_blocks(pieces: Iterable[str | _Opaque], cut: Cut) -> _Cut:
    """Blocks begin anew after what is not known yet; the rest at the end is private."""
    blocks = _Cut([], [], 0.0)
    rest = ""
    for piece in pieces:
        if isinstance(piece, _Opaque):
            blocks.add(hash((rest, piece.id)), len(rest) / cut.chars_per_token + piece.tokens)
            rest = ""
        else:
            rest = blocks.add_text(piece, cut)
    return _Cut(blocks.ids, blocks.tokens, len(rest) / cut.chars_per_token)


def _pieces(segment: Expr, segments: Segments, cut: Cut) -> list[_Cut]:
    """The segment for each of its numbers, cut once each."""
    rows = segments.number(segment).firsts
    return [_all_blocks(piece, cut) for piece in _run([segment], segments, rows)]


def _all_blocks(piece: str | _Opaque, cut: Cut) -> _Cut:
    blocks = _Cut([], [], 0.0)
    if isinstance(piece, _Opaque):
        blocks.add(piece.id, piece.tokens)
    else:
        blocks.add_rest(blocks.add_text(piece, cut), cut)
    return blocks


def _put_together(cuts: Sequence[_Cut], tail_tokens: float) -> PromptBlocks:
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(cut.ids) for cut in cuts], dtype=np.int64)])
    return PromptBlocks(
        np.fromiter(chain.from_iterable(cut.ids for cut in cuts), np.int64, int(starts[-1])),
        np.fromiter(chain.from_iterable(cut.tokens for cut in cuts), np.float64, int(starts[-1])),
        starts,
        np.asarray([cut.private_tokens for cut in cuts], np.float64) + tail_tokens,
    )
