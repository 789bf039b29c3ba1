"""How jobs and the door share the calls that an engine takes at once, and its KV."""

from enum import Enum
from math import ceil

#: Parts of the KV are told in steps of this, so that not every block is news.
KV_STEP = 1 / 64


class Kind(Enum):
    """Whose calls they are."""

    JOBS = "jobs"
    DOOR = "door"


def left_to(others: Kind, inside: int, most: int, *, wants: bool) -> int:
    """How many of an engine's `most` places one kind leaves to the `others`, which have `inside` of them now.

    Those that want more have half to themselves, and are given it as calls end. An odd place is the door's: behind its
    calls stand clients on their lines.
    """
    half = most - most // 2 if others is Kind.DOOR else most // 2
    return min(most, max(inside, half if wants else 0))


def kv_left_to_others(promised: float, most: float, *, wants: bool) -> float:
    """What part of an engine's KV one kind leaves to the other, which has `promised` so much to its programs, of `most`
    that may be. One whose programs wait for room has half to itself, and is given it as the others' programs end."""
    told = KV_STEP * ceil(promised / KV_STEP)
    return min(most, max(told, most / 2 if wants else 0.0))
