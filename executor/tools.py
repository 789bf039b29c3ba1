"""Runs tools: with a deadline, a bound on what they return, and every failure as a value."""

import asyncio
import functools
import inspect
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Any, Protocol

import anyio.to_thread
import structlog
from pydantic_core import PydanticSerializationError, to_jsonable_python

from executor.child_pool import ChildPool
from executor.child_process import TakeAnswer, ToolFailed, ToolFailureCode, failed
from executor.child_worker import MESSAGE_CHARACTERS, NO_JSON_FIX, text_of
from executor.engines.port import FailureClass
from executor.tool_batches import ToolBatches
from planner.ir.plan import ToolSpec
from planner.ir.values import Json

MAX_OUTPUT_BYTES = 1024 * 1024
MAX_THREADS = 32
MAX_ABANDONED = 64

log = structlog.get_logger(__name__)


class ToolBody(Protocol):
    """A tool as it is registered: what the SDK's `@tool` makes. An isolated one is named by `target`, `module:name`,
    and runs in a process of its own that can be killed; the others run in this process.

    `batch_function`, where there is one, takes the arguments of many calls as one list and is an iterator, async if the
    tool is, of as many results, in that order and as they come, or the exceptions of those that failed; `batch_target`
    names it. `together` says by the arguments which calls gain by it: those with an equal name; None is a call that
    goes alone; without it, all do. `version` says of which data and code its results are, as a text or a function of
    the arguments; without it, they are not kept for later jobs.
    """

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
    @property
    def batch_function(self) -> Callable[..., Any] | None: ...
    @property
    def batch_target(self) -> str: ...
    @property
    def together(self) -> Callable[..., Hashable | None] | None: ...
    @property
    def version(self) -> str | Callable[..., str] | None: ...


class ToolRunner:
    """Tools by name. Processes and threads start when first needed, or are told to by `prepare`; `close` ends them.

    Each tool has processes or threads of its own, so that no tool waits for another: at most `processes` for one that
    is isolated, and as many threads as its `concurrency` says for one that runs here.
    """

    def __init__(self, tools: Mapping[str, ToolBody], processes: int = 2) -> None:
        self._tools = dict(tools)
        self._processes = processes
        self._pools: dict[str, ChildPool] = {}
        self._threads: dict[str, anyio.CapacityLimiter] = {}
        self._batches: dict[str, ToolBatches] = {}
        self._abandoned: list[_ThreadCall] = []
        self._preparing: set[asyncio.Task[None]] = set()
        self._closed = False

    def add(self, tools: Mapping[str, ToolBody]) -> None:
        """More tools; one that is known under the name already is kept."""
        self._tools = dict(tools) | self._tools

    async def run(
        self, spec: ToolSpec, arguments: Mapping[str, Json], begun: Callable[[], None] = lambda: None
    ) -> Json:
        """What the tool returns, as JSON; `begun` is told when it no longer waits for other calls. Raises `ToolFailed`.

        Calls of a tool that takes many at once are gathered while its slots are taken (see `executor.tool_batches`).
        """
        tool = self._tools.get(spec.name)
        if tool is None:
            known = ", ".join(sorted(self._tools)) or "none"
            message = f"no tool {spec.name!r} is registered here; registered: {known}"
            raise failed("unknown_tool", message, FailureClass.ROW)
        if spec.max_batch > 1 and tool.batch_function is not None:
            return await self._batches_of(tool).run(spec, arguments, begun)
        return await self._one(tool, spec, arguments, begun)

    def prepare(self, spec: ToolSpec, calls: int) -> None:
        """About so many calls of an isolated tool are to come: its processes start and import it in the background.

        What goes wrong here is told by the first call, if it goes wrong for that too. Any other tool needs nothing.
        """
        tool = self._tools.get(spec.name)
        if self._closed or tool is None or not tool.isolated or calls < 1:
            return
        task = asyncio.create_task(self._prepare(tool, calls))
        self._preparing.add(task)
        task.add_done_callback(self._preparing.discard)

    def version(self, spec: ToolSpec, arguments: Mapping[str, Json]) -> str | None:
        """Which tool it is and of which data its result would be, now; None when the tool does not say."""
        tool = self._tools.get(spec.name)
        if tool is None or tool.version is None:
            return None
        if isinstance(tool.version, str):
            return f"{tool.target} {tool.version}"
        try:
            return f"{tool.target} {tool.version(**arguments)}"
        except Exception as error:  # noqa: BLE001 - foreign code: what it cannot tell is not kept
            log.warning("a tool's version cannot be told", tool=spec.name, error=text_of(error))
            return None

    async def close(self) -> None:
        self._closed = True
        for task in self._preparing:
            task.cancel()
        await asyncio.gather(*self._preparing, return_exceptions=True)
        for batches in self._batches.values():
            await batches.close()
        for pool in self._pools.values():
            await pool.close()
        self._batches.clear()
        self._pools.clear()

    async def _prepare(self, tool: ToolBody, calls: int) -> None:
        targets = [tool.target]
        if tool.batch_function is not None:
            targets.append(tool.batch_target)
        try:
            await self._pool(tool).prepare(targets, calls)
        except ToolFailed as error:
            log.warning("a tool's process could not be prepared", tool=tool.spec.name, error=str(error))

    async def _one(
        self, tool: ToolBody, spec: ToolSpec, arguments: Mapping[str, Json], begun: Callable[[], None]
    ) -> Json:
        if tool.isolated:
            return await self._pool(tool).run(tool.target, arguments, timeout_s=spec.timeout_s, begun=begun)
        begun()
        is_async = inspect.iscoroutinefunction(tool.function)
        result = await self._here(spec, functools.partial(tool.function, **arguments), is_async)
        return _checked(spec.name, result)

    async def _many(
        self,
        tool: ToolBody,
        spec: ToolSpec,
        calls: Sequence[Mapping[str, Json]],
        begun: Callable[[], None],
        take: TakeAnswer,
    ) -> None:
        if tool.isolated:
            await self._pool(tool).run_many(tool.batch_target, calls, take, timeout_s=spec.timeout_s, begun=begun)
            return
        assert tool.batch_function is not None
        begun()
        many = functools.partial(tool.batch_function, [dict(call) for call in calls])
        if inspect.isasyncgenfunction(tool.batch_function):
            await self._here(spec, functools.partial(_each_awaited, spec.name, many, len(calls), take), is_async=True)
            return
        loop = asyncio.get_running_loop()

        def in_loop(outcome: Json | ToolFailed) -> None:
            loop.call_soon_threadsafe(functools.partial(take, outcome))

        await self._here(spec, functools.partial(_each, spec.name, many, len(calls), in_loop), is_async=False)

    async def _here(self, spec: ToolSpec, call: Callable[[], Any], is_async: bool) -> Any:
        """What `call` gives in this process within the tool's deadline."""
        try:
            async with asyncio.timeout(spec.timeout_s):
                return await (_awaited(spec.name, call) if is_async else self._in_thread(spec, call))
        except TimeoutError:
            text = f"{spec.name} took longer than its {spec.timeout_s:g} s"
            raise failed(ToolFailureCode.TIMEOUT, text) from None

    async def _in_thread(self, spec: ToolSpec, call: Callable[[], Any]) -> Any:
        """A thread cannot be killed: past its deadline it is abandoned, and only so many may be."""
        self._abandoned = [call for call in self._abandoned if not call.ended]
        if len(self._abandoned) >= MAX_ABANDONED:
            text = f"{MAX_ABANDONED} tools hang past their deadlines; declare them isolated, so that they can be killed"
            raise failed("tool_threads_exhausted", text)
        running = _ThreadCall(spec.name, call)
        try:
            return await anyio.to_thread.run_sync(running, abandon_on_cancel=True, limiter=self._limiter(spec))
        except asyncio.CancelledError:
            self._abandoned.append(running)
            raise

    def _limiter(self, spec: ToolSpec) -> anyio.CapacityLimiter:
        if spec.name not in self._threads:
            self._threads[spec.name] = anyio.CapacityLimiter(min(spec.concurrency, MAX_THREADS))
        return self._threads[spec.name]

    def _pool(self, tool: ToolBody) -> ChildPool:
        name = tool.spec.name
        if name not in self._pools:
            size = min(self._processes, tool.spec.concurrency)
            self._pools[name] = ChildPool(size, memory_bytes=tool.memory_bytes)
        return self._pools[name]

    def _batches_of(self, tool: ToolBody) -> ToolBatches:
        """Batches beyond what its processes take would wait there, where no call can join them any more."""
        name = tool.spec.name
        if name not in self._batches:
            slots = self._processes if tool.isolated else MAX_THREADS
            one, many = functools.partial(self._one, tool), functools.partial(self._many, tool)
            together = functools.partial(_together, tool)
            spread = tool.isolated and tool.together is None
            self._batches[name] = ToolBatches(one, many, together, slots, spread=spread)
        return self._batches[name]


def _together(tool: ToolBody, arguments: Mapping[str, Json]) -> Hashable | None:
    """By which name a call goes with others of its tool; None for one that goes alone."""
    if tool.together is None:
        return tool.spec.name
    try:
        name = tool.together(**arguments)
        hash(name)
    except Exception as error:  # noqa: BLE001 - foreign code: what it cannot tell goes alone
        log.warning("which calls of a tool go together cannot be told", tool=tool.spec.name, error=text_of(error))
        return None
    return name


def _each(name: str, many: Callable[[], Any], calls: int, take: TakeAnswer) -> None:
    """Take the results of a batch as its body gives them."""
    missing = calls
    for result in islice(many(), calls):
        take(_outcome(name, result))
        missing -= 1
    _check_none(missing, calls)


async def _each_awaited(name: str, many: Callable[[], Any], calls: int, take: TakeAnswer) -> None:
    missing = calls
    async with aclosing(many()) as results:
        while missing and (result := await anext(results, _NO_MORE)) is not _NO_MORE:
            take(_outcome(name, result))
            missing -= 1
    _check_none(missing, calls)


_NO_MORE: Any = object()


def _check_none(missing: int, calls: int) -> None:
    if missing:
        raise ValueError(f"the body for many calls left {missing} of {calls} unanswered")


async def _awaited(name: str, call: Callable[[], Any]) -> Any:
    try:
        return await call()
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        raise _raised(name, error) from None


class _ThreadCall:
    """A call that runs in a thread, and whether it still does. Ctrl-C never reaches a thread: all it raises is its own.

    It raises `ToolFailed` and nothing else, because futures treat some of what a tool may raise in ways of their own.
    """

    def __init__(self, name: str, call: Callable[[], Any]) -> None:
        self._name, self._call = name, call
        self.ended = False

    def __call__(self) -> Any:
        try:
            return self._call()
        except BaseException as error:  # noqa: BLE001 - foreign code: `sys.exit` is its failure, not the end of ours
            raise _raised(self._name, error) from None
        finally:
            self.ended = True


def _is_cancelled() -> bool:
    """Whether somebody else wants this task to end; else a `CancelledError` in it is the tool's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _outcome(name: str, result: Any) -> Json | ToolFailed:
    """One of a batch: a result as JSON, or why there is none."""
    if isinstance(result, BaseException):
        return _raised(name, result)
    try:
        return _checked(name, result)
    except ToolFailed as refused:
        return refused


def _checked(name: str, result: Any) -> Json:
    try:
        data = to_jsonable_python(result)
        size = len(json.dumps(data, ensure_ascii=False, allow_nan=False))
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        text = f"{name} returned what JSON cannot hold: {str(error)[:1000]}; {NO_JSON_FIX}"
        raise failed(ToolFailureCode.BAD_OUTPUT, text) from None
    if size > MAX_OUTPUT_BYTES:
        text = f"{name} returned {size:,} characters of JSON; at most {MAX_OUTPUT_BYTES:,} are taken"
        raise failed(ToolFailureCode.OUTPUT_TOO_LARGE, text)
    return data


def _raised(name: str, error: BaseException) -> ToolFailed:
    text = f"{name} raised {type(error).__name__}: {text_of(error)}"
    return failed(ToolFailureCode.RAISED, text[:MESSAGE_CHARACTERS])
