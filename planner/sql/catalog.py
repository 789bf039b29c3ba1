"""What must be known of a database's tables before reads of it may be merged."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a column holds, as far as merging cares. For all but EXACT and OTHER, equal values are the same bytes.

    Floats of PostgreSQL are OTHER: it keeps 0.0 and -0.0, which are equal. So is text under a collation of its own.
    """

    WHOLE = "whole"  # whole numbers and nothing else, so that sums are exact
    NUMBER = "number"  # numbers, perhaps with a fraction
    EXACT = "exact"  # decimals: sums are exact, but 1.0 and 1.00 are equal and read differently
    TEXT = "text"  # compared byte by byte
    DAY = "day"
    OTHER = "other"  # not known, or compared in a way of its own


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` by name, in lower case. A key's columns are never null, and no two rows agree in all of them."""

    columns: Mapping[str, Kind]
    keys: tuple[frozenset[str], ...] = ()


#: Tables by name, in lower case. What is not here (a view, a virtual table) is not known, and its reads stay single.
Catalog = Mapping[str, Table]
