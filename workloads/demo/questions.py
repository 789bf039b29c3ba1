"""Which questions the demo asks, and in which order they come."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from workloads.text2sql.datasets import Question

REPEATS = 112
QUICK_EVERY, QUICK_REPEATS = 6, 16


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions in the order they come in, of which `repeats` were asked before."""

    rows: Sequence[Question]
    repeats: int


def asked_by_users(questions: Sequence[Question], random: Random, *, quick: bool = False) -> Asked:
    """Every question once, and some of them again: the popular ones the more often, as a Zipf law has it."""
    once = questions[::QUICK_EVERY] if quick else questions
    repeats = QUICK_REPEATS if quick else REPEATS
    by_rank = random.sample(once, k=len(once))
    again = random.choices(by_rank, [1 / rank for rank in range(1, len(by_rank) + 1)], k=repeats)
    return Asked(random.sample([*once, *again], k=len(once) + repeats), repeats)
