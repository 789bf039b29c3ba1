"""Choosing among candidate queries by what they return: what most agree on (self-consistency, Wang et al. 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.text2sql.equality import fingerprint
from workloads.text2sql.sandbox import QueryResult


@dataclass(frozen=True, slots=True)
class Vote:
    """`index` is the chosen candidate, `votes` how many of `candidates` gave its answer."""

    index: int
    votes: int
    candidates: int


def vote(results: Sequence[QueryResult]) -> Vote:
    """The first candidate with the most common answer. Any rows beat no rows, no rows beat an error.

    A lone row of NULLs, as an aggregate over nothing gives, counts as no rows. There must be a result.
    """
    assert results
    prints = [fingerprint(result) if result.error is None else "error" for result in results]
    best = max(range(len(results)), key=lambda at: (worth(results[at]), prints.count(prints[at]), -at))
    return Vote(best, prints.count(prints[best]), len(results))


def worth(result: QueryResult) -> int:
    if result.error is not None:
        return 0
    return 2 if any(cell is not None for row in result.rows for cell in row) else 1
