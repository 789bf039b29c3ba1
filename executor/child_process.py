"""Killable worker processes for tools: the only real limit on what foreign code may take.

    async with ChildPool(2) as pool:
        answer = await pool.run("json:loads", {"s": "[1, 2]"}, timeout_s=5)

Workers are long-lived children that speak length-prefixed JSON over pipes (`executor.child_worker` is their side). One
that misses its deadline, writes too much, or dies is killed with its process group, and a fresh one takes its place.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from executor import child_worker
from executor.engines.port import Failure, FailureClass
from planner.ir.values import Json

MEBIBYTE = 1024 * 1024
#: What a batch's frame holds besides each of its answers.
BYTES_AROUND_ANSWER = 16
WORKER_SCRIPT = str(Path(child_worker.__file__).resolve())
#: What a worker sees of this process's environment: no keys, no tokens, no addresses.
PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "XDG_CACHE_HOME")
#: And what is meant for tools: every variable whose name begins so.
PASSED_ON_PREFIX = "HALO_TOOL_"


class ToolFailureCode(StrEnum):
    RAISED = "tool_raised"
    TIMEOUT = "tool_timeout"
    OUTPUT_TOO_LARGE = "tool_output_too_large"
    BAD_OUTPUT = "tool_bad_output"
    KILLED = "tool_killed"  # by the memory limit, by a signal, or by its own exit


class ToolFailed(Exception):
    """The one error that running a tool raises."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


class ChildPool:
    """At most `size` workers, started when first needed, each with `memory_bytes` of address space.

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
        self._free = asyncio.Semaphore(size)
        self._idle: list[_Worker] = []
        self._all: dict[int, _Worker] = {}
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
        begun: Callable[[], None] = lambda: None,
    ) -> Json:
        """Call `function` ("module:qualname") with JSON arguments; return its JSON result or raise `ToolFailed`.

        Waits for a free worker first; `timeout_s` starts when the worker has the call, and `begun` is told. Cancelling
        the waiting task kills the worker at once. A function behind a decorator is found by the decorator's
        `__wrapped__`. Raises `TypeError` or `ValueError` for arguments JSON cannot hold.
        """
        request = {"call": function, "arguments": dict(arguments)}
        return await self._ask(function, request, timeout_s, begun=begun)

    async def run_many(
        self, function: str, calls: Sequence[Mapping[str, Json]], *, timeout_s: float
    ) -> list[Json | ToolFailed]:
        """Give `function` the arguments of many calls as one list: a result or a failure for each, in their order.

        All as in `run`; `output_bytes` bounds each result, `timeout_s` all calls together. Raises `ToolFailed` when the
        batch failed as a whole.
        """
        request = {"batch": function, "calls": [dict(call) for call in calls]}
        outcomes = await self._ask(function, request, timeout_s, answers=len(calls))
        return _outcomes(outcomes, len(calls))

    async def _ask(
        self,
        function: str,
        request: Json,
        timeout_s: float,
        *,
        answers: int = 1,
        begun: Callable[[], None] = lambda: None,
    ) -> Json:
        body = json.dumps(request, allow_nan=False).encode()
        async with self._free:
            worker = await self._take()
            try:
                await worker.load(function, self._start_timeout_s)
                begun()
                return await worker.ask(body, timeout_s, "its call", answers)
            finally:
                self._put_back(worker)

    async def close(self) -> None:
        """Kill every worker and wait until they are gone. Calls in flight fail as killed. May be called twice."""
        self._closed = True
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

    async def _take(self) -> "_Worker":
        if self._closed:
            raise _killed("the pool of tool workers is closed")
        self._all = {pid: worker for pid, worker in self._all.items() if not worker.gone.done()}
        while self._idle:
            if (worker := self._idle.pop()).usable:
                return worker
        return await self._start()

    async def _start(self) -> "_Worker":
        try:
            worker = await _start_worker(self._output_bytes, self._environment)
        except OSError as error:
            raise _killed(f"no process for the tool could be started: {error}") from error
        self._all[worker.pid] = worker
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
            raise _killed("the pool of tool workers is closed")
        return worker

    def _put_back(self, worker: "_Worker") -> None:
        if worker.usable and not self._closed:
            self._idle.append(worker)
        else:
            worker.kill("its call was given up")


def _passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: setting for name, setting in environment.items() if name in PASSED_ON or name.startswith(PASSED_ON_PREFIX)
    }


async def _start_worker(output_bytes: int, environment: Mapping[str, str]) -> "_Worker":
    loop = asyncio.get_running_loop()
    _, worker = await loop.subprocess_exec(
        lambda: _Worker(output_bytes, loop),
        *(sys.executable, "-I", WORKER_SCRIPT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    return worker


class _Worker(asyncio.SubprocessProtocol):
    """One child process and the one request it may be busy with."""

    def __init__(self, output_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        self.gone: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._largest_answer = self._largest_frame = max(output_bytes, 16 * child_worker.MESSAGE_CHARACTERS)
        self._received = bytearray()
        self._answer: asyncio.Future[bytes] | None = None
        self._loaded: set[str] = set()
        self._killed_because = ""

    @property
    def usable(self) -> bool:
        return not self._killed_because and self._answer is None and not self.gone.done()

    @property
    def pid(self) -> int:
        return self._process.get_pid()

    async def load(self, function: str, timeout_s: float) -> None:
        if function in self._loaded:
            return
        await self.ask(json.dumps({"load": function}).encode(), timeout_s, "the import of its module")
        self._loaded.add(function)

    async def ask(self, request: bytes, timeout_s: float, purpose: str, answers: int = 1) -> Json:
        """Send one frame, wait for one, which holds so many answers. After anything but a whole one in time the worker
        is dead."""
        assert self._answer is None
        if self._killed_because:
            raise _killed(self._killed_because)
        self._largest_frame = answers * (self._largest_answer + BYTES_AROUND_ANSWER)
        self._answer = self._loop.create_future()
        self._requests.write(child_worker.HEADER.pack(len(request)) + request)
        try:
            async with asyncio.timeout(timeout_s):
                body = await self._answer
        except TimeoutError:
            message = f"the tool was killed: {purpose} took more than {timeout_s:g} s"
            self.kill(message)
            raise failed(ToolFailureCode.TIMEOUT, message) from None
        except asyncio.CancelledError:
            self.kill("its call was cancelled")
            raise
        self._answer = None
        return self._result(body)

    def kill(self, because: str) -> None:
        """End the child and all it started. What waits for an answer is told `because`."""
        if self._killed_because:
            return
        self._killed_because = because
        self._refuse(ToolFailureCode.KILLED, because)
        self._kill_group()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._process = cast(asyncio.SubprocessTransport, transport)
        self._requests = cast(asyncio.WriteTransport, self._process.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if self._killed_because:
            return
        self._received += data
        if len(self._received) < child_worker.HEADER.size:
            return
        (length,) = child_worker.HEADER.unpack_from(self._received)
        if length > self._largest_frame:
            self._fault(ToolFailureCode.OUTPUT_TOO_LARGE, f"the tool's worker announced {length:,} bytes")
        elif len(self._received) > child_worker.HEADER.size + length or self._answer is None:
            self._fault(ToolFailureCode.BAD_OUTPUT, "the tool's worker wrote what was not asked for")
        elif len(self._received) == child_worker.HEADER.size + length:
            self._deliver()

    def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:
        """Heard of sooner than the exit itself; in mid-call the exit is waited for, because it tells why."""
        if self._answer is None:
            self.kill("its process ended")

    def process_exited(self) -> None:
        self._refuse(ToolFailureCode.KILLED, _how_it_ended(self._process.get_returncode()))
        self._killed_because = self._killed_because or "its process ended"
        self._kill_group()
        self._process.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def _deliver(self) -> None:
        body = bytes(self._received[child_worker.HEADER.size :])
        self._received.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(body)

    def _result(self, body: bytes) -> Json:
        try:
            answer = _outcome(json.loads(body))
            if not isinstance(answer, ToolFailed):
                return answer
            refusal = answer
        except (ValueError, TypeError, LookupError, RecursionError):
            refusal = failed(ToolFailureCode.BAD_OUTPUT, "the tool's worker wrote what is not an answer")
            self.kill(refusal.failure.message)
        if refusal.failure.code is ToolFailureCode.KILLED:
            self.kill(refusal.failure.message)
        raise refusal

    def _fault(self, code: ToolFailureCode, message: str) -> None:
        self._received.clear()
        self._refuse(code, message)
        self.kill(message)

    def _refuse(self, code: ToolFailureCode, message: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(failed(code, message))

    def _kill_group(self) -> None:
        try:
            os.killpg(self._process.get_pid(), signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def failed(code: str, message: str, failure_class: FailureClass = FailureClass.TOOL) -> ToolFailed:
    return ToolFailed(Failure(failure_class, code, message))


def _outcome(answer: Json) -> Json | ToolFailed:
    """Raises `ValueError`, `TypeError` or `LookupError` for what is no answer."""
    if "ok" in answer:
        return answer["ok"]
    return failed(ToolFailureCode(answer["failed"][0]), str(answer["failed"][1]))


def _outcomes(answers: Json, asked: int) -> list[Json | ToolFailed]:
    try:
        outcomes = [_outcome(answer) for answer in answers]
    except (ValueError, TypeError, LookupError):
        outcomes = []
    if len(outcomes) != asked:
        raise failed(ToolFailureCode.BAD_OUTPUT, f"the tool's worker did not answer each of {asked} calls")
    return outcomes


def _killed(because: str) -> ToolFailed:
    return failed(ToolFailureCode.KILLED, because)


def _how_it_ended(status: int | None) -> str:
    if status is None or status >= 0:
        return f"the tool ended its process with status {status}"
    return f"the tool's process was killed by signal {-status} ({signal.strsignal(-status)})"
