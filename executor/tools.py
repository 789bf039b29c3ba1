"""Runs tools: with a deadline, a bound on what they return, and every failure as a value."""

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import anyio.to_thread
from pydantic_core import PydanticSerializationError, to_jsonable_python

from executor.child_process import ChildPool, ToolFailed, ToolFailureCode, failed
from executor.child_worker import MESSAGE_CHARACTERS, text_of
from executor.engines.port import FailureClass
from planner.ir.plan import ToolSpec
from planner.ir.values import Json

MAX_OUTPUT_BYTES = 1024 * 1024
MAX_THREADS = 32
MAX_ABANDONED = 64


class ToolBody(Protocol):
    """A tool as it is registered: what the SDK's `@tool` makes. An isolated one is named by `target`, `module:name`,
    and runs in a process of its own that can be killed; the others run in this process."""

    @property
    def spec(self) -> ToolSpec: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def isolated(self) -> bool: ...
    @property
    def target(self) -> str: ...
    @property
    def memory_bytes(self) -> int: ...


class ToolRunner:
    """Tools by name. Processes and threads start when first needed; `close` ends them."""

    def __init__(self, tools: Mapping[str, ToolBody], processes: int = 2) -> None:
        self._tools = dict(tools)
        self._processes = processes
        self._pools: dict[int, ChildPool] = {}
        self._threads: anyio.CapacityLimiter | None = None
        self._abandoned: list[_ThreadCall] = []

    def add(self, tools: Mapping[str, ToolBody]) -> None:
        """More tools; one that is known under the name already is kept."""
        self._tools = dict(tools) | self._tools

    async def run(self, spec: ToolSpec, arguments: Mapping[str, Json]) -> Json:
        """What the tool returns, as JSON. Raises `ToolFailed`."""
        tool = self._tools.get(spec.name)
        if tool is None:
            known = ", ".join(sorted(self._tools)) or "none"
            message = f"no tool {spec.name!r} is registered here; registered: {known}"
            raise failed("unknown_tool", message, FailureClass.ROW)
        if tool.isolated:
            return await self._pool(tool.memory_bytes).run(tool.target, arguments, timeout_s=spec.timeout_s)
        try:
            async with asyncio.timeout(spec.timeout_s):
                result = await self._run_here(tool, arguments)
        except TimeoutError:
            text = f"{spec.name} took longer than its {spec.timeout_s:g} s"
            raise failed(ToolFailureCode.TIMEOUT, text) from None
        return _checked(spec.name, result)

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()
        self._pools.clear()

    async def _run_here(self, tool: ToolBody, arguments: Mapping[str, Json]) -> Any:
        try:
            if inspect.iscoroutinefunction(tool.function):
                return await tool.function(**arguments)
            return await self._in_thread(tool, arguments)
        except ToolFailed:
            raise
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            raise _raised(tool.spec.name, error) from None

    async def _in_thread(self, tool: ToolBody, arguments: Mapping[str, Json]) -> Any:
        """A thread cannot be killed: past its deadline it is abandoned, and only so many may be."""
        self._abandoned = [call for call in self._abandoned if not call.ended]
        if len(self._abandoned) >= MAX_ABANDONED:
            text = f"{MAX_ABANDONED} tools hang past their deadlines; declare them isolated, so that they can be killed"
            raise failed("tool_threads_exhausted", text)
        call = _ThreadCall(tool.spec.name, tool.function, dict(arguments))
        try:
            return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter())
        except asyncio.CancelledError:
            self._abandoned.append(call)
            raise

    def _limiter(self) -> anyio.CapacityLimiter:
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(MAX_THREADS)
        return self._threads

    def _pool(self, memory_bytes: int) -> ChildPool:
        pool = self._pools.get(memory_bytes)
        if pool is None:
            pool = self._pools[memory_bytes] = ChildPool(self._processes, memory_bytes=memory_bytes)
        return pool


class _ThreadCall:
    """A call that runs in a thread, and whether it still does. Ctrl-C never reaches a thread: all it raises is its own.

    It raises `ToolFailed` and nothing else, because futures treat some of what a tool may raise in ways of their own.
    """

    def __init__(self, name: str, function: Callable[..., Any], arguments: dict[str, Json]) -> None:
        self._name, self._function, self._arguments = name, function, arguments
        self.ended = False

    def __call__(self) -> Any:
        try:
            return self._function(**self._arguments)
        except BaseException as error:  # noqa: BLE001 - foreign code: `sys.exit` is its failure, not the end of ours
            raise _raised(self._name, error) from None
        finally:
            self.ended = True


def _is_cancelled() -> bool:
    """Whether somebody else wants this task to end; else a `CancelledError` in it is the tool's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _checked(name: str, result: Any) -> Json:
    try:
        data = to_jsonable_python(result)
        size = len(json.dumps(data, ensure_ascii=False, allow_nan=False))
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        text = f"{name} returned what JSON cannot hold: {error}"
        raise failed(ToolFailureCode.BAD_OUTPUT, text[:2000]) from None
    if size > MAX_OUTPUT_BYTES:
        text = f"{name} returned {size:,} characters of JSON; at most {MAX_OUTPUT_BYTES:,} are taken"
        raise failed(ToolFailureCode.OUTPUT_TOO_LARGE, text)
    return data


def _raised(name: str, error: BaseException) -> ToolFailed:
    text = f"{name} raised {type(error).__name__}: {text_of(error)}"
    return failed(ToolFailureCode.RAISED, text[:MESSAGE_CHARACTERS])
