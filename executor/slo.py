"""What a program is promised of time: its class, and a deadline where it has one."""

from enum import StrEnum


class SloClass(StrEnum):
    """How urgent a program is, the most urgent first: somebody waits for each answer; nobody does, but soon; a batch,
    by some hour; only what others leave."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"
    BACKGROUND = "background"

    @property
    def rank(self) -> int:
        """The least goes first."""
        return _RANKS[self]

    @property
    def degraded(self) -> "SloClass":
        """The next less urgent class; the last is its own."""
        return _CLASSES[min(self.rank + 1, len(_CLASSES) - 1)]


_CLASSES = tuple(SloClass)
_RANKS = {slo: rank for rank, slo in enumerate(_CLASSES)}
