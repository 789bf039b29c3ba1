"""Names to draw from, and the drawing. All invented; any likeness is chance."""

import random
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TypeVar

T = TypeVar("T")
Value = str | int | float | None
Rows = list[tuple[Value, ...]]
Tables = dict[str, Rows]

FIRST_NAMES = """
    Ada Amir Anna Arjun Bela Bruno Carla Chidi Clara Dario Dina Elif Emil Erik Eva Farid Fiona Gita Hana Hugo Ines Ivan
    Jana Jonas Kaya Kenji Lara Leo Lina Luca Maja Marco Mei Milan Mina Nadia Nils Nora Olga Omar Paula Pedro Priya Rosa
    Samir Sara Sofia Stefan Tara Theo Uma Vera Victor Yara Yusuf Zoe
""".split()  # noqa: SIM905 - a paragraph of names is easier to read and to mend than a list of strings
LAST_NAMES = """
    Abebe Almeida Bauer Berg Castillo Chen Costa Dahl Diallo Eriksen Fischer Fontaine Garcia Haddad Hansen Ivanov Jansen
    Kaya Keller Kim Kovac Kumar Larsen Lindgren Lopez Marino Meyer Moreau Nakamura Novak Okafor Olsen Park Petrov Quinn
    Rahman Reyes Rossi Sato Schmidt Silva Singh Sorensen Tanaka Torres Vargas Virtanen Weber Wong Yilmaz
""".split()  # noqa: SIM905


class Draw:
    """Seeded choice. Uses `random.random` only, whose sequence Python promises to keep from version to version."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, stop: int) -> int:
        return int(self._random() * stop)

    def between(self, low: int, high: int) -> int:
        """Both ends included."""
        return low + self.below(high - low + 1)

    def one(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def likely(self, choices: Sequence[T]) -> T:
        """One of them, the earlier the likelier: some customers buy more than others."""
        return choices[int(self._random() ** 1.7 * len(choices))]

    def by_rank(self, stop: int) -> int:
        """A number below `stop`: the n-th about as often as 1/n (Zipf's law), as questions come up in practice."""
        return int((stop + 1) ** self._random()) - 1

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """`count` different ones."""
        left = list(choices)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def money(self, low: float, high: float) -> float:
        return round(low + self._random() * (high - low), 2)

    def day(self, first: str, last: str) -> str:
        start = date.fromisoformat(first)
        return (start + timedelta(days=self.below((date.fromisoformat(last) - start).days + 1))).isoformat()

    def clock(self, first_hour: int, last_hour: int) -> str:
        return f"{self.between(first_hour, last_hour):02d}:{self.one(('00', '15', '30', '45'))}"

    def people(self, count: int) -> list[str]:
        """`count` different full names."""
        pairs = self.some(range(len(FIRST_NAMES) * len(LAST_NAMES)), count)
        return [f"{FIRST_NAMES[pair // len(LAST_NAMES)]} {LAST_NAMES[pair % len(LAST_NAMES)]}" for pair in pairs]


def days_after(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()
