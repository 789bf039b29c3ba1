"""Value numbers: which rows hold the same value, as small integers that numpy can join.

Numbers are given in order of first appearance, so that equal tables get equal numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.ir.evaluate import EvaluationFailed, evaluate, format_value, no_output
from planner.ir.expressions import Column
from planner.ir.keys import value_key
from planner.ir.values import Json, canonical_json
from planner.job import Grouping
from planner.table import Table

Numbers = NDArray[np.int64]
Lengths = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Numbering:
    """`of_row[row]` is the number of the row's value; `firsts[number]` is the first row that holds it."""

    of_row: Numbers
    firsts: Numbers

    @property
    def count(self) -> int:
        return len(self.firsts)


def number_rows(rows: int) -> Numbering:
    """All rows hold one value."""
    return Numbering(np.zeros(rows, np.int64), np.zeros(min(rows, 1), np.int64))


def number_values(values: Sequence[Json]) -> Numbering:
    """Two rows get one number when their values are the same JSON: `1`, `1.0` and `True` are three."""
    plain = all(type(value) is str for value in values)
    numbers: dict[str, int] = {}
    names: Iterable[str] = values if plain else map(canonical_json, values)
    of_row = np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), np.int64, len(values))
    return _with_firsts(of_row, len(numbers))


def number_together(numberings: Sequence[Numbering], rows: int) -> Numbering:
    """Two rows get one number when they have one number in each of `numberings`."""
    joined = number_rows(rows)
    for numbering in numberings:
        joined = _join(joined, numbering)
    return joined


def number_groups(grouping: Grouping) -> Numbering:
    return _with_firsts(np.asarray(grouping.group_of_row, np.int64), len(grouping.keys))


def _join(left: Numbering, right: Numbering) -> Numbering:
    rows = len(left.of_row)
    if left.count == rows or right.count <= 1:
        return left
    if right.count == rows or left.count <= 1:
        return right
    pairs = left.of_row * right.count + right.of_row
    _, firsts, numbers = np.unique(pairs, return_index=True, return_inverse=True)
    by_appearance = np.argsort(firsts)
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(by_appearance))
    return Numbering(rank[numbers], firsts[by_appearance])


def _with_firsts(of_row: Numbers, count: int) -> Numbering:
    firsts = np.full(count, len(of_row), np.int64)
    np.minimum.at(firsts, of_row, np.arange(len(of_row)))
    return Numbering(of_row, firsts)


class Cells:
    """The columns of one table, numbered when they are first read."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._numberings: dict[Column, Numbering] = {}
        self._keys: dict[Column, list[str]] = {}
        self._chars: dict[Column, Lengths] = {}

    def number(self, read: Column) -> Numbering:
        if read not in self._numberings:
            self._numberings[read] = self._number_path(read) if read.path else self._number_column(read.name)
        return self._numberings[read]

    def keys(self, read: Column) -> list[str]:
        """The key of the value with each number."""
        if read not in self._keys:
            self._keys[read] = [value_key(self._value(read, row)) for row in self.number(read).firsts.tolist()]
        return self._keys[read]

    def chars(self, read: Column) -> Lengths:
        """How long the value with each number is as part of a prompt."""
        if read not in self._chars:
            self._chars[read] = np.fromiter(map(len, self.texts(read)), np.float64)
        return self._chars[read]

    def texts(self, read: Column) -> list[str]:
        """The value with each number as it stands in a prompt."""
        return [format_value(self._value(read, row)) for row in self.number(read).firsts.tolist()]

    def _number_column(self, name: str) -> Numbering:
        return number_values(self._table.columns[name])

    def _number_path(self, read: Column) -> Numbering:
        """What `path` finds depends on the whole cell, so it is looked up once for each distinct cell."""
        cells = self.number(Column(read.name))
        found = number_values([self._value(read, row) for row in cells.firsts.tolist()])
        return Numbering(found.of_row[cells.of_row], cells.firsts[found.firsts])

    def _value(self, read: Column, row: int) -> Json:
        """What is read, or, where nothing is found, a value that only an equal cell can have."""
        cell = self._table.columns[read.name][row]
        try:
            return evaluate(Column("", read.path), {"": cell}, no_output)
        except EvaluationFailed:
            return {"nothing found in": cell, "path": list(read.path)}
