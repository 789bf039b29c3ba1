"""One killable worker process for tools: the only real limit on what foreign code may take.

A worker is a long-lived child that speaks length-prefixed JSON over pipes (`executor.child_worker` is its side). One
that misses its deadline, writes too much, or dies is killed with its process group.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Self, cast

from executor import child_worker
from executor.engines.port import Failure, FailureClass
from planner.ir.values import Json

WORKER_SCRIPT = str(Path(child_worker.__file__).resolve())


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


def failed(code: str, message: str, failure_class: FailureClass = FailureClass.TOOL) -> ToolFailed:
    return ToolFailed(Failure(failure_class, code, message))


def killed(because: str) -> ToolFailed:
    return failed(ToolFailureCode.KILLED, because)


#: Takes the answers to one request, in the order of its calls, each as it comes.
TakeAnswer = Callable[[Json | ToolFailed], None]


class ChildProcess(asyncio.SubprocessProtocol):
    """One child process and the one request it may be busy with. Made by `start`."""

    def __init__(self, output_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        self.gone: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._largest_answer = max(output_bytes, 16 * child_worker.MESSAGE_CHARACTERS)
        self._received = bytearray()
        self._take: TakeAnswer = _nowhere
        self._missing = 0
        self._answered: asyncio.Future[None] | None = None
        self._loaded: set[str] = set()
        self._killed_because = ""

    @classmethod
    async def start(cls, output_bytes: int, environment: Mapping[str, str]) -> Self:
        """A process that waits for its configuration. Raises `OSError` where none can be had."""
        loop = asyncio.get_running_loop()
        _, process = await loop.subprocess_exec(
            lambda: cls(output_bytes, loop),
            *(sys.executable, "-I", WORKER_SCRIPT),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        return process

    @property
    def usable(self) -> bool:
        return not self._killed_because and self._answered is None and not self.gone.done()

    @property
    def pid(self) -> int:
        return self._process.get_pid()

    async def load(self, function: str, timeout_s: float) -> None:
        if function in self._loaded:
            return
        await self.ask(json.dumps({"load": function}).encode(), timeout_s, "the import of its module")
        self._loaded.add(function)

    async def ask(self, request: bytes, timeout_s: float, purpose: str) -> Json:
        """The one answer to a request. Raises `ToolFailed`."""
        answers: list[Json | ToolFailed] = []
        await self.ask_many(request, timeout_s, purpose, 1, answers.append)
        (answer,) = answers
        if isinstance(answer, ToolFailed):
            raise answer
        return answer

    async def ask_many(self, request: bytes, timeout_s: float, purpose: str, answers: int, take: TakeAnswer) -> None:
        """Send one frame, and `take` so many answers as they come. Raises `ToolFailed` when some never will.

        After anything but all of them, whole and in time, or the worker's own word that there are no more, it is dead.
        """
        assert self._answered is None
        assert answers > 0
        if self._killed_because:
            raise killed(self._killed_because)
        self._take, self._missing, self._answered = take, answers, self._loop.create_future()
        self._requests.write(child_worker.HEADER.pack(len(request)) + request)
        try:
            async with asyncio.timeout(timeout_s):
                await self._answered
        except TimeoutError:
            message = f"the tool was killed: {purpose} took more than {timeout_s:g} s"
            self.kill(message)
            raise failed(ToolFailureCode.TIMEOUT, message) from None
        except asyncio.CancelledError:
            self.kill("its call was cancelled")
            raise
        finally:
            self._answered, self._take = None, _nowhere

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
        while not self._killed_because and (frame := self._next_frame()) is not None:
            self._deliver(frame)

    def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:
        """Heard of sooner than the exit itself; in mid-call the exit is waited for, because it tells why."""
        if not self._waits:
            self.kill("its process ended")

    def process_exited(self) -> None:
        self._refuse(ToolFailureCode.KILLED, _how_it_ended(self._process.get_returncode()))
        self._killed_because = self._killed_because or "its process ended"
        self._kill_group()
        self._process.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    @property
    def _waits(self) -> bool:
        return self._answered is not None and not self._answered.done()

    def _next_frame(self) -> bytes | None:
        """The next whole frame that was asked for, if it is here; what should not be here ends the worker."""
        if self._received and not self._waits:
            self._fault(ToolFailureCode.BAD_OUTPUT, "the tool's worker wrote what was not asked for")
        if len(self._received) < child_worker.HEADER.size:
            return None
        (length,) = child_worker.HEADER.unpack_from(self._received)
        end = child_worker.HEADER.size + length
        if length > self._largest_answer:
            self._fault(ToolFailureCode.OUTPUT_TOO_LARGE, f"the tool's worker announced {length:,} bytes")
        if len(self._received) < end:
            return None
        frame = bytes(self._received[child_worker.HEADER.size : end])
        del self._received[:end]
        return frame

    def _deliver(self, frame: bytes) -> None:
        try:
            answer = json.loads(frame)
            outcome, no_more = _outcome(answer), "broken" in answer
        except (ValueError, TypeError, LookupError, RecursionError):
            self._fault(ToolFailureCode.BAD_OUTPUT, "the tool's worker wrote what is not an answer")
            return
        assert self._answered is not None
        if no_more and isinstance(outcome, ToolFailed):
            self._answered.set_exception(outcome)
        else:
            self._take(outcome)
            self._missing -= 1
            if not self._missing:
                self._answered.set_result(None)
        if isinstance(outcome, ToolFailed) and outcome.failure.code is ToolFailureCode.KILLED:
            self.kill(outcome.failure.message)

    def _fault(self, code: ToolFailureCode, message: str) -> None:
        self._received.clear()
        self._refuse(code, message)
        self.kill(message)

    def _refuse(self, code: ToolFailureCode, message: str) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(failed(code, message))

    def _kill_group(self) -> None:
        try:
            os.killpg(self._process.get_pid(), signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def _nowhere(answer: Json | ToolFailed) -> None:
    """Who takes answers while nothing is asked."""


def _outcome(answer: Json) -> Json | ToolFailed:
    """Raises `ValueError`, `TypeError` or `LookupError` for what is no answer."""
    if "ok" in answer:
        return answer["ok"]
    code, message = answer["broken"] if "broken" in answer else answer["failed"]
    return failed(ToolFailureCode(code), str(message))


def _how_it_ended(status: int | None) -> str:
    if status is None or status >= 0:
        return f"the tool ended its process with status {status}"
    return f"the tool's process was killed by signal {-status} ({signal.strsignal(-status)})"
