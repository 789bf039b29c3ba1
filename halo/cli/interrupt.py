"""Ctrl-C, once: stop in an orderly way. Twice: stop now."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop

from halo.cli.failures import INTERRUPTED

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


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
