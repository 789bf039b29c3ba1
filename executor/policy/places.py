"""How jobs and the door share the calls that an engine takes at once."""

from enum import Enum


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
