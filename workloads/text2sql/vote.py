"""Choosing among candidate queries by what they return: what most agree on (self-consistency, Wang et al. 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.text2sql.equality import fingerprint
from workloads.text2sql.sandbox import QueryResult


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one candidate brings: its answer as a text equal for equal answers, and what an answer like it is worth."""

    answer: str
    worth: int


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
    return elect(
        [Ballot(fingerprint(result) if result.error is None else "error", worth(result)) for result in results]
    )


def elect(ballots: Sequence[Ballot]) -> Vote:
    """The same for ballots at hand."""
    assert ballots
    answers = [ballot.answer for ballot in ballots]
    best = max(range(len(ballots)), key=lambda at: (ballots[at].worth, answers.count(answers[at]), -at))
    return Vote(best, answers.count(answers[best]), len(ballots))


def worth(result: QueryResult) -> int:
    if result.error is not None:
        return 0
    return 2 if any(cell is not None for row in result.rows for cell in row) else 1
