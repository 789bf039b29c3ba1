"""Keeps the leases of a process alive while it lives, and lets them go when it does not."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

import structlog

from executor.store.failures import StoreUnavailable
from executor.store.port import Store
from halo.event_loop import wait_for

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """A lease lasts `lease_s` and is renewed every `every_s`, until the main loop was silent for `silent_s`."""

    lease_s: float = 15.0
    every_s: float = 5.0
    silent_s: float = 10.0

    def __post_init__(self) -> None:
        assert self.every_s < self.lease_s, "a lease must be renewed before it ends"


class LeaseKeeper:
    """Renews all leases of `owner` while the block lasts, from a thread with an event loop and a store of its own.

    A main loop that is blocked for a moment, by a tool or a large plan, so keeps its jobs. One that has died must not:
    the thread renews only while the main loop ticks. `now` must run in both threads.
    """

    def __init__(
        self,
        open_store: Callable[[], Awaitable[Store]],
        owner: str,
        times: LeaseTimes | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_store, self._owner, self._now = open_store, owner, now
        self._times = times or LeaseTimes()
        self._ticked = now()
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._keep()), name="halo-leases", daemon=True)

    async def __aenter__(self) -> "LeaseKeeper":
        self._ticking = asyncio.create_task(self._tick())
        self._thread.start()
        await asyncio.to_thread(self._started.wait)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stop:
            loop, stop = self._stop
            loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(self._thread.join)
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            self._ticked = self._now()
            await asyncio.sleep(self._times.silent_s / 10)

    async def _keep(self) -> None:
        """What the thread does, with all that it calls."""
        stop = asyncio.Event()
        self._stop = asyncio.get_running_loop(), stop
        self._started.set()
        store: Store | None = None
        try:
            while not stop.is_set():
                store = store or await self._opened()
                if store:
                    await self._renew(store)
                await wait_for(stop, self._times.every_s)
        finally:
            if store:
                await store.close()

    async def _opened(self) -> Store | None:
        try:
            return await self._open_store()
        except StoreUnavailable as error:
            log.warning("leases cannot be renewed", error=str(error))
            return None

    async def _renew(self, store: Store) -> None:
        silent_s = self._now() - self._ticked
        if silent_s > self._times.silent_s:
            log.error("the main loop is silent; its leases are let go", silent_s=round(silent_s, 1))
            return
        try:
            await store.renew(self._owner, self._times.lease_s)
        except StoreUnavailable as error:
            log.warning("leases not renewed", error=str(error))
