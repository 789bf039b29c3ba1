"""The clock port: what acts asks it for the time and waits by it, so that a demo can run faster than life."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """`now` is in seconds from an origin of its own and never runs backwards."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class WallClock:
    """A second is a second."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ScaledClock:
    """`factor` modelled seconds pass in one real second. The origin is the moment the clock is made."""

    def __init__(self, factor: float) -> None:
        assert factor > 0, "a clock must go forwards"
        self._factor = factor
        self._origin = time.monotonic()

    def now(self) -> float:
        return (time.monotonic() - self._origin) * self._factor

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._factor)
