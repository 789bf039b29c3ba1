"""What is known of the segments of a part's prompts before the run: which rows agree, and how long they are."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from planner.cost.experience import NO_EXPERIENCE, Experience
from planner.estimate import Estimates
from planner.ir.evaluate import EvaluationFailed, evaluate, format_value, no_output
from planner.ir.expressions import Column, Const, Expr, Output, leaves
from planner.ir.ids import StageId
from planner.ir.keys import output_key, value_key, work_key
from planner.ir.plain import as_data
from planner.ir.plan import Plan
from planner.ir.rewrite import replace_leaves
from planner.ir.values import canonical_json
from planner.job import Grouping
from planner.numbering import Cells, Lengths, Numbering, number_groups, number_rows, number_together
from planner.prompts import Segment
from planner.table import Table


class Segments:
    """Segments are numbered when they are first asked for. A segment is known when all it reads is (see `known`)."""

    def __init__(
        self,
        plan: Plan,
        table: Table,
        groups: Mapping[StageId, Grouping],
        experience: Experience = NO_EXPERIENCE,
    ) -> None:
        self._table = table
        self._cells = Cells(table)
        self._groups = groups
        self._rows = table.rows
        self._numberings: dict[StageId, Numbering] = {}
        self._shared_chars: dict[int, tuple[Expr, float]] = {}  # by identity: constants may hold lists
        self._estimates = Estimates(experience)
        self.chars_per_token = experience.chars_per_token
        self.column_tokens = {given.name: self._mean_tokens(Column(given.name)) for given in plan.inputs}
        self.output_tokens = self._estimates.outputs(plan, self.column_tokens)

    def known(self, segment: Segment) -> bool:
        """True when rows that agree in it can be told before the run."""
        if segment is None:
            return False
        return all(leaf.stage in self._groups for leaf in leaves(segment) if isinstance(leaf, Output))

    def is_text(self, segment: Segment) -> bool:
        """True when the segment itself can be told before the run: it reads columns only."""
        return segment is not None and not any(isinstance(leaf, Output) for leaf in leaves(segment))

    def texts(self, segment: Expr) -> list[str]:
        """How the segment, which must be text, stands in the prompt for each of its numbers."""
        assert self.is_text(segment)
        match segment:
            case Const(value=constant):
                return [format_value(constant)][: self._rows]
            case Column():
                return self._cells.texts(segment)
            case _:
                return [self._text_at(segment, row) for row in self.number(segment).firsts.tolist()]

    def shared_chars(self, segment: Expr) -> float:
        """About how many characters of the segment's different texts stand at the beginning of an earlier one, too."""
        known = self._shared_chars.get(id(segment))
        if known is None:
            chars = _shared_chars(self.texts(segment)) if self.is_text(segment) else 0.0
            known = self._shared_chars[id(segment)] = (segment, chars)
        return known[1]

    def number(self, segment: Expr) -> Numbering:
        match segment:
            case Const():
                return number_rows(self._rows)
            case Column():
                return self._cells.number(segment)
            case Output(stage=stage):
                if stage not in self._numberings:
                    self._numberings[stage] = number_groups(self._groups[stage])
                return self._numberings[stage]
            case _:
                reads = dict.fromkeys(leaf for leaf in leaves(segment) if not isinstance(leaf, Const))
                return number_together([self.number(read) for read in reads], self._rows)

    def chars(self, segment: Expr) -> Lengths:
        """How long the segment is for each of its numbers; an output is as long as it is estimated."""
        match segment:
            case Const(value=constant):
                return np.full(min(self._rows, 1), len(format_value(constant)), np.float64)
            case Column():
                return self._cells.chars(segment)
            case Output(stage=stage):
                return np.full(self.number(segment).count, self.output_tokens[stage] * self.chars_per_token)
            case _:
                firsts = self.number(segment).firsts
                parts = (self.chars(leaf)[self.number(leaf).of_row[firsts]] for leaf in leaves(segment))
                return sum(parts, np.zeros(len(firsts)))

    def keys(self, segment: Expr) -> list[str]:
        """What names the segment's content for each of its numbers, the same in every stage and part."""
        match segment:
            case Const(value=constant):
                return [value_key(format_value(constant))][: self._rows]
            case Column():
                return self._cells.keys(segment)
            case Output(stage=stage, path=path):
                return [output_key(key, path) for key in self._groups[stage].keys]
            case _:
                return self._compound_keys(segment)

    def tokens(self, segment: Expr) -> float:
        """How long the segment is in a row, on average or by estimate; it may be one that is not known."""
        return self._estimates.expression(segment, self.column_tokens, self.output_tokens)

    def descend(self, segments: Sequence[Segment]) -> Iterator[tuple[Numbering, Lengths]]:
        """The trie of one prompt over all rows: for each known leading segment, its nodes, and its length at each."""
        node = number_rows(self._rows)
        for segment in segments:
            if segment is None or not self.known(segment):
                return
            numbering = self.number(segment)
            node = number_together([node, numbering], self._rows)
            yield node, self.chars(segment)[numbering.of_row[node.firsts]]

    def _text_at(self, segment: Expr, row: int) -> str:
        try:
            return format_value(evaluate(segment, self._table.row(row), no_output))
        except EvaluationFailed:
            return ""  # the program fails there before it calls anybody

    def _mean_tokens(self, read: Column) -> float:
        if self._rows == 0:
            return 0.0
        return float(self._cells.chars(read)[self._cells.number(read).of_row].mean()) / self.chars_per_token

    def _compound_keys(self, segment: Expr) -> list[str]:
        shape = canonical_json(
            as_data(replace_leaves(segment, lambda leaf: leaf if isinstance(leaf, Const) else Column("")))
        )
        reads = [leaf for leaf in leaves(segment) if not isinstance(leaf, Const)]
        columns = ((self.keys(leaf), self.number(leaf).of_row) for leaf in reads)
        firsts = self.number(segment).firsts.tolist()
        inputs = [[keys[of_row[row]] for row in firsts] for keys, of_row in columns]
        return [work_key(shape, (of_read[index] for of_read in inputs)) for index in range(len(firsts))]


#: What two texts share below this is not worth an order: less than an engine's block.
_SHORTEST_CHARS = 64


def _shared_chars(texts: Sequence[str]) -> float:
    """Beginnings are compared at lengths that double: wrong by less than a factor of two, and linear in the text."""
    shared, length, before = 0, _SHORTEST_CHARS, 0
    while True:
        texts = [text for text in texts if len(text) >= length]
        again = len(texts) - len({text[:length] for text in texts})
        if not again:
            return float(shared)
        shared += again * (length - before)
        length, before = 2 * length, length
