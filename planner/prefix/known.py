"""Prompts that are known before the run: what a tokenizer is asked for, and what becomes of its answer."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from planner.ir.conversation import render_messages
from planner.ir.evaluate import EvaluationFailed, no_output
from planner.ir.plan import Plan
from planner.ir.values import Json
from planner.numbering import number_together
from planner.prefix.blocks import Ids, StageBlocks, token_blocks
from planner.prompts import prompts_of
from planner.segments import Segments
from planner.table import Table


@dataclass(frozen=True, slots=True, eq=False)
class KnownPrompts:
    """The prompts of the stage at `path`, equal ones once, as chat messages: row `r` has `messages[of_row[r]]`."""

    path: str
    model: str
    messages: Sequence[list[Json]]
    of_row: Ids

    def as_blocks(self, tokens: Sequence[Ids], block_tokens: int) -> StageBlocks:
        """With the tokens of each of `messages`, the blocks for `JobPart.token_blocks`."""
        assert len(tokens) == len(self.messages)
        return StageBlocks(token_blocks(tokens, block_tokens), self.of_row)


def known_prompts(plan: Plan, table: Table, models: Container[str]) -> Iterator[KnownPrompts]:
    """Of the stages outside bodies that ask one of `models` those that read columns only: nothing has to be run first.

    A stage with a prompt that cannot be written, because a cell lacks what it reads, is left out.
    """
    segments = Segments(plan, table, {})
    outermost = {stage.id for stage in plan.stages}
    for prompt in prompts_of(plan):
        read = [segment for segment in prompt.segments if segment is not None and segments.is_text(segment)]
        if prompt.path not in outermost or prompt.stage.model not in models or len(read) < len(prompt.segments):
            continue
        numbering = number_together([segments.number(segment) for segment in read], table.rows)
        try:
            messages = [
                render_messages(prompt.stage.messages, table.row(row), no_output) for row in numbering.firsts.tolist()
            ]
        except EvaluationFailed:
            continue
        yield KnownPrompts(prompt.path, prompt.stage.model, messages, numbering.of_row)
