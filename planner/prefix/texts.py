"""The prompts of a stage as blocks, by their characters: for planning without a tokenizer at hand."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from planner.estimate import expression_tokens
from planner.ir.expressions import Expr
from planner.ir.tokens import CHARS_PER_TOKEN
from planner.numbering import Numbering, Numbers, number_together
from planner.prefix.blocks import Ids, PromptBlocks
from planner.prompts import Prompt, Segment
from planner.segments import Segments

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


@dataclass(frozen=True, slots=True)
class StageBlocks:
    """The prompts of one stage over the rows of a part, equal ones once: row `r` has prompt `of_row[r]` of `blocks`."""

    blocks: PromptBlocks
    of_row: Ids


def text_blocks(prompt: Prompt, segments: Segments, rows: int, cut: Cut) -> StageBlocks:
    """The beginning of the prompt that is known before the run, as blocks; the rest is private, as long as estimated.

    An output that is not known yet but is known to be equal for some rows is one block for those.
    """
    known = list(_known(prompt, segments))
    numbering = number_together([segments.number(segment) for segment in known], rows)
    runs = [_run(list(run), segments, numbering.firsts) for _, run in groupby(known, segments.is_text)]
    prompts = zip(*runs, strict=True) if runs else (() for _ in range(numbering.count))
    unknown = prompt.segments[len(known) :]
    tail_tokens = sum(_unknown_tokens(segment, segments) for segment in unknown)
    return StageBlocks(_put_together([_cut(pieces, cut) for pieces in prompts], tail_tokens), numbering.of_row)


@dataclass(frozen=True, slots=True)
class _Opaque:
    """An output not known yet: named by the work that gives it."""

    id: int
    tokens: float


@dataclass(frozen=True, slots=True)
class _Cut:
    ids: list[int]
    tokens: list[float]
    private_tokens: float


def _known(prompt: Prompt, segments: Segments) -> Iterator[Expr]:
    for segment in prompt.segments:
        if segment is None or not segments.known(segment):
            return
        yield segment


def _unknown_tokens(segment: Segment, segments: Segments) -> float:
    assert segment is not None, "only stages of the outermost plan are asked for"
    return expression_tokens(segment, segments.column_tokens, segments.output_tokens)


def _run(run: Sequence[Expr], segments: Segments, rows: Numbers) -> Iterator[str | _Opaque]:
    """What segments that stand together come to for each of `rows`: one text, or what is not known yet."""
    if segments.is_text(run[0]):
        columns = [_at(segments.texts(segment), segments.number(segment), rows) for segment in run]
        return map("".join, zip(*columns, strict=True))
    names = [_at(segments.keys(segment), segments.number(segment), rows) for segment in run]
    chars = np.asarray([segments.chars(segment)[segments.number(segment).of_row[rows]] for segment in run])
    return (
        _Opaque(hash(keys), tokens)
        for keys, tokens in zip(zip(*names, strict=True), (chars.sum(axis=0) / CHARS_PER_TOKEN).tolist(), strict=True)
    )


def _at(of_number: Sequence[str], numbering: Numbering, rows: Numbers) -> list[str]:
    return [of_number[number] for number in numbering.of_row[rows].tolist()]


def _cut(pieces: Iterable[str | _Opaque], cut: Cut) -> _Cut:
    """Blocks begin anew after what is not known yet. Python's hash will do: it names blocks and orders nothing."""
    ids: list[int] = []
    tokens: list[float] = []
    rest = ""
    for piece in pieces:
        if isinstance(piece, _Opaque):
            ids += [hash(rest), piece.id] if rest else [piece.id]
            tokens += [len(rest) / cut.chars_per_token, piece.tokens] if rest else [piece.tokens]
            rest = ""
            continue
        whole = len(piece) - len(piece) % cut.block_chars
        blocks = [hash(piece[at : at + cut.block_chars]) for at in range(0, whole, cut.block_chars)]
        ids += blocks
        tokens += [float(cut.block_tokens)] * len(blocks)
        rest = piece[whole:]
    return _Cut(ids, tokens, len(rest) / cut.chars_per_token)


def _put_together(cuts: Sequence[_Cut], tail_tokens: float) -> PromptBlocks:
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(cut.ids) for cut in cuts], dtype=np.int64)])
    return PromptBlocks(
        np.fromiter((block for cut in cuts for block in cut.ids), np.int64, int(starts[-1])),
        np.fromiter((tokens for cut in cuts for tokens in cut.tokens), np.float64, int(starts[-1])),
        starts,
        np.asarray([cut.private_tokens for cut in cuts], np.float64) + tail_tokens,
    )
