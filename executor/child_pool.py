"""Worker processes for tools, kept for many calls.

    async with ChildPool(2) as pool:
        answer = await pool.run("json:loads", {"s": "[1, 2]"}, timeout_s=5)

A worker that was killed (`executor.child_process` tells when) is replaced by a fresh one.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from executor.child_process import ChildProcess, TakeAnswer, ToolFailed, killed
from planner.ir.values import Json

MEBIBYTE = 1024 * 1024
#: What a worker sees of this process's environment: no keys, no tokens, no addresses.
PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "XDG_CACHE_HOME")
#: And what is meant for tools: every variable whose name begins so.
PASSED_ON_PREFIX = "HALO_TOOL_"


def _nobody() -> None:
    """Who is told that a call began, where nobody asks."""


class ChildPool:
    """At most `size` workers, started when first needed or by `prepare`, each with `memory_bytes` of address space.

    An answer above `output_bytes` of JSON is refused without being held here. `start_timeout_s` bounds the start of a
    worker and the first import of a tool's module; neither counts against a call's own time. What tools print is thrown
    away. Workers get `environment`, by default a few harmless variables of this process. For one event loop only.
    """

    def __init__(
        self,
        size: int,
        *,
        memory_bytes: int = 1024 * MEBIBYTE,
        output_bytes: int = MEBIBYTE,
        start_timeout_s: float = 30.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        assert size > 0
        self.size = size
        self._free = asyncio.Semaphore(size)
        self._idle: list[ChildProcess] = []
        self._all: dict[int, ChildProcess] = {}
        self._starts: set[asyncio.Task[ChildProcess]] = set()
        self._memory_bytes = memory_bytes
        self._output_bytes = output_bytes
        self._start_timeout_s = start_timeout_s
        self._environment = _passed_on(os.environ) if environment is None else dict(environment)
        self._closed = False

    async def run(
        self,
        function: str,
        arguments: Mapping[str, Json],
        *,
        timeout_s: float,
        begun: Callable[[], None] = _nobody,
    ) -> Json:
        """Call `function` ("module:qualname") with JSON arguments; return its JSON result or raise `ToolFailed`.

        Waits for a free worker first; `timeout_s` starts when the worker has the call, and `begun` is told. Cancelling
        the waiting task kills the worker at once. A function behind a decorator is found by the decorator's
        `__wrapped__`. Raises `TypeError` or `ValueError` for arguments JSON cannot hold.
        """
        body = json.dumps({"call": function, "arguments": dict(arguments)}, allow_nan=False).encode()
        async with self._worker([function]) as worker:
            begun()
            return await worker.ask(body, timeout_s, "its call")

    async def run_many(
        self,
        function: str,
        calls: Sequence[Mapping[str, Json]],
        take: TakeAnswer,
        *,
        timeout_s: float,
        begun: Callable[[], None] = _nobody,
    ) -> None:
        """Give `function` the arguments of many calls as one list, and `take` a result or a failure for each.

        They are taken in the order of the calls, each as soon as the function gives it. All as in `run`; `output_bytes`
        bounds each result, `timeout_s` all calls together. Raises `ToolFailed` when the calls that have no answer by
        then get none.
        """
        body = json.dumps({"batch": function, "calls": [dict(call) for call in calls]}, allow_nan=False).encode()
        async with self._worker([function]) as worker:
            begun()
            await worker.ask_many(body, timeout_s, "its batch", len(calls), take)

    async def prepare(self, functions: Sequence[str], workers: int) -> None:
        """Have so many workers started, and the modules of `functions` imported in them, before a call needs them.

        Workers that are there already count. Calls that come meanwhile wait for these workers, as they would for their
        own. Raises `ToolFailed` when one cannot be had; the others are prepared all the same.
        """
        missing = min(workers, self.size) - self._alive
        outcomes = await asyncio.gather(*(self._prepare_one(functions) for _ in range(missing)), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def close(self) -> None:
        """Kill every worker and wait until they are gone. Calls in flight fail as killed. May be called twice."""
        self._closed = True
        if self._starts:
            await asyncio.wait(self._starts)
        workers = list(self._all.values())
        for worker in workers:
            worker.kill("the pool was closed")
        for worker in workers:
            await worker.gone
        self._all.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def _worker(self, functions: Sequence[str], *, fresh: bool = False) -> AsyncIterator[ChildProcess]:
        """A worker that has loaded the functions, for one user. `fresh`: a new one, while there may be more."""
        async with self._free:
            worker = await self._taken(fresh)
            try:
                for function in functions:
                    await worker.load(function, self._start_timeout_s)
                yield worker
            finally:
                self._put_back(worker)

    async def _prepare_one(self, functions: Sequence[str]) -> None:
        async with self._worker(functions, fresh=True):
            pass

    @property
    def _alive(self) -> int:
        return len(self._starts) + sum(not worker.gone.done() for worker in self._all.values())

    async def _taken(self, fresh: bool) -> ChildProcess:
        if self._closed:
            raise killed("the pool of tool workers is closed")
        self._all = {pid: worker for pid, worker in self._all.items() if not worker.gone.done()}
        if fresh and self._alive < self.size:
            return await self._started()
        while self._idle:
            if (worker := self._idle.pop()).usable:
                return worker
        return await self._started()

    async def _started(self) -> ChildProcess:
        worker = await self._process()
        configuration = {
            "sys_path": sys.path,
            "memory_bytes": self._memory_bytes,
            "output_bytes": self._output_bytes,
            "parent": os.getpid(),
        }
        try:
            await worker.ask(json.dumps(configuration).encode(), self._start_timeout_s, "the start of its process")
        except ToolFailed:
            worker.kill("its process did not start")
            raise
        if self._closed:
            worker.kill("the pool was closed")
            raise killed("the pool of tool workers is closed")
        return worker

    async def _process(self) -> ChildProcess:
        """A start is never broken off: half a process could not be killed. Whoever gives it up has it killed after."""
        start = asyncio.create_task(self._start())
        self._starts.add(start)
        start.add_done_callback(self._starts.discard)
        try:
            return await asyncio.shield(start)
        except asyncio.CancelledError:
            start.add_done_callback(_kill_what_started)
            raise

    async def _start(self) -> ChildProcess:
        try:
            worker = await ChildProcess.start(self._output_bytes, self._environment)
        except OSError as error:
            raise killed(f"no process for the tool could be started: {error}") from error
        self._all[worker.pid] = worker
        return worker

    def _put_back(self, worker: ChildProcess) -> None:
        if worker.usable and not self._closed:
            self._idle.append(worker)
        else:
            worker.kill("its call was given up")


def _kill_what_started(start: asyncio.Task[ChildProcess]) -> None:
    if not start.cancelled() and start.exception() is None:
        start.result().kill("its call was cancelled")


def _passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: setting for name, setting in environment.items() if name in PASSED_ON or name.startswith(PASSED_ON_PREFIX)
    }
