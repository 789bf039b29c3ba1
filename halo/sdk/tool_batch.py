"""A tool's body for many calls at once: checked when it is registered, and made to speak JSON."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Iterator, Sequence, Sized
from contextlib import aclosing
from typing import Any

from halo.sdk.errors import ArgumentsInvalid, ToolInvalid
from halo.sdk.location import of_function
from halo.sdk.schemas import Misfit
from halo.sdk.tool_definition import ToolDefinition
from planner.errors import Problem
from planner.ir.values import Json

#: What the user writes: each call's arguments by name; as many results, in that order, or what a call failed with. A
#: sequence, or a generator that yields them; async, a coroutine or an async generator.
BatchBody = Callable[[list[dict[str, Any]]], Any]
#: The same on JSON, always a generator. An async one if the body is async.
BatchFunction = Callable[[Sequence[dict[str, Json]]], Any]
#: Names the calls that gain by going together, by their arguments.
Together = Callable[..., Hashable | None]


def batch_function(
    original: Callable[..., Any], definition: ToolDefinition, body: BatchBody, together: Together | None = None
) -> BatchFunction:
    """What runs many calls for a plan: takes each call's arguments as JSON and yields as many results, or exceptions.

    Calls whose arguments do not fit are `ArgumentsInvalid` and never reach the body. It raises what the body raises,
    and `ValueError` for a sequence of another length. Raises `ToolInvalid` for a body that cannot be one.
    """
    if problems := list(_problems(original, definition, body, together)):
        raise ToolInvalid(definition.spec.name, problems)
    codec = _Codec(original, definition)

    def run(calls: Sequence[dict[str, Json]]) -> Iterator[Any]:
        read = [codec.read(call) for call in calls]
        fitting = [call for call in read if isinstance(call, dict)]
        results = iter(_checked(body(fitting), len(fitting)) if fitting else ())
        for call in read:
            yield codec.write(_found(next(results, _LOST))) if isinstance(call, dict) else call

    async def run_async(calls: Sequence[dict[str, Json]]) -> AsyncIterator[Any]:
        read = [codec.read(call) for call in calls]
        fitting = [call for call in read if isinstance(call, dict)]
        async with aclosing(_awaited(body, fitting)) as results:
            for call in read:
                yield codec.write(_found(await anext(results, _LOST))) if isinstance(call, dict) else call

    return run_async if _is_async(body) else run


def _is_async(body: BatchBody) -> bool:
    return inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body)


async def _awaited(body: BatchBody, calls: list[dict[str, Any]]) -> AsyncGenerator[Any, None]:
    if inspect.isasyncgenfunction(body):
        async with aclosing(body(calls)) as results:
            async for result in results:
                yield result
    elif calls:
        for result in _checked(await body(calls), len(calls)):
            yield result


def _checked(given: Any, asked: int) -> Any:
    """What has a length is known to fit before any of it is handed on."""
    if isinstance(given, Sized) and len(given) != asked:
        raise ValueError(f"the body for many calls returned {len(given)} results for {asked} calls")
    return given


_LOST: Any = object()


def _found(result: Any) -> Any:
    if result is _LOST:
        raise ValueError("the body for many calls yielded fewer results than calls")
    return result


class _Codec:
    """Arguments on their way in, results on their way out."""

    def __init__(self, original: Callable[..., Any], definition: ToolDefinition) -> None:
        self._name, self._arguments, self._result = definition.spec.name, definition.arguments, definition.result
        parameters = inspect.signature(original).parameters.values()
        self._defaults = {each.name: each.default for each in parameters if each.default is not each.empty}

    def read(self, call: dict[str, Json]) -> dict[str, Any] | ArgumentsInvalid:
        try:
            return {**self._defaults, **self._arguments.read(call)}
        except Misfit as misfit:
            return ArgumentsInvalid(f"the arguments of {self._name} do not fit: {misfit}")

    def write(self, result: Any) -> Any:
        return result if isinstance(result, BaseException) else self._result.write_for_check(result)


def _problems(
    original: Callable[..., Any], definition: ToolDefinition, body: BatchBody, together: Together | None
) -> Iterator[Problem]:
    where, name = of_function(body), original.__name__
    if definition.spec.max_batch < 2:
        fix = f"say how many calls it takes: @halo.tool(max_batch=64) over {name}"
        yield Problem(where, f"{name} has a body for many calls, but runs one at a time", fix)
    if _is_async(body) != inspect.iscoroutinefunction(original):
        fix = "make both async, or neither"
        yield Problem(where, f"one of {name} and its body for many calls is async, the other is not", fix)
    if not _takes_one_list(body):
        fix = f"def {body.__name__}(calls: list[dict[str, Any]]) -> list[...]:"
        yield Problem(where, "a body for many calls takes one argument, the list of calls", fix)
    if definition.isolated and body.__module__ != original.__module__:
        what = f"{name} is isolated, and its child process imports {original.__module__} only"
        yield Problem(where, what, f"define its body for many calls there, beside {name}")
    if together is not None and not _takes(together, original):
        what = f"together= cannot be called with the arguments of {name}"
        yield Problem(where, what, f"give it the parameters of {name}")


def _takes_one_list(body: BatchBody) -> bool:
    try:
        inspect.signature(body).bind([])
    except TypeError:
        return False
    return True


def _takes(together: Together, original: Callable[..., Any]) -> bool:
    try:
        inspect.signature(together).bind(**dict.fromkeys(inspect.signature(original).parameters))
    except (TypeError, ValueError):
        return False
    return True
