"""Ctrl-C, once: stop in an orderly way. Twice: stop now."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from halo.cli.failures import INTERRUPTED

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_interrupt(tell: Callable[[], None]) -> Iterator[asyncio.Event]:
    """The event is set, and `tell` called, at the first Ctrl-C or SIGTERM; at the second, the process ends at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def interrupted() -> None:
        if stop.is_set():
            os._exit(INTERRUPTED)
        stop.set()
        tell()

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupted)
    try:
        yield stop
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
