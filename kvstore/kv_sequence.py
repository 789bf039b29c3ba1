"""Whether numbered batches came whole and in order, and what to ask for again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fresh:
    """The next one."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Those from `first` on must be asked for again, this one among them.

    With `anew`, what was known before is worth nothing: the engine was started again.
    """

    first: int
    anew: bool = False


class Sequence:
    """Of one engine's batches. Before the first came, all that were sent were missed."""

    def __init__(self) -> None:
        self._next = 0

    def arrived(self, number: int) -> Fresh | Missed:
        """A batch came as it was sent. One with a number that was there already comes from an engine started again."""
        if number == self._next:
            self._next += 1
            return Fresh()
        return Missed(self._next) if number > self._next else Missed(0, anew=True)

    def replayed(self, numbers: list[int]) -> bool:
        """What was asked for came: these, in order. False where the engine did not have all of them any more."""
        whole = bool(numbers) and numbers == list(range(self._next, numbers[-1] + 1))
        if numbers:
            self._next = numbers[-1] + 1
        return whole

    def restart(self) -> None:
        self._next = 0
