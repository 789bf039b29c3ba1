"""A tool's body for many calls at once: checked when it is registered, and made to speak JSON."""

import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, cast

from halo.sdk.errors import ArgumentsInvalid, ToolInvalid
from halo.sdk.location import of_function
from halo.sdk.schemas import Misfit, NoJsonForm
from halo.sdk.tool_definition import ToolDefinition
from planner.errors import Problem
from planner.ir.values import Json

#: What the user writes: each call's arguments by name; as many results, in that order, or what a call failed with.
BatchBody = Callable[[list[dict[str, Any]]], Sequence[Any] | Coroutine[Any, Any, Sequence[Any]]]
#: The same on JSON. A coroutine if the body is one.
BatchFunction = Callable[[Sequence[dict[str, Json]]], Any]


def batch_function(original: Callable[..., Any], definition: ToolDefinition, body: BatchBody) -> BatchFunction:
    """What runs many calls for a plan: it takes each call's arguments as JSON and gives as many results, or exceptions.

    Calls whose arguments do not fit are `ArgumentsInvalid` and never reach the body. It raises what the body raises,
    and `ValueError` for another number of results. Raises `ToolInvalid` for a body that cannot be one.
    """
    if problems := list(_problems(original, definition, body)):
        raise ToolInvalid(definition.spec.name, problems)
    codec = _Codec(original, definition)

    def run(calls: Sequence[dict[str, Json]]) -> list[Any]:
        read = [codec.read(call) for call in calls]
        fitting = codec.fitting(read)
        return codec.merged(read, cast(Sequence[Any], body(fitting)) if fitting else [])

    async def run_async(calls: Sequence[dict[str, Json]]) -> list[Any]:
        read = [codec.read(call) for call in calls]
        fitting = codec.fitting(read)
        return codec.merged(read, await cast(Any, body(fitting)) if fitting else [])

    return run_async if inspect.iscoroutinefunction(body) else run


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

    def fitting(self, read: list[dict[str, Any] | ArgumentsInvalid]) -> list[dict[str, Any]]:
        return [call for call in read if isinstance(call, dict)]

    def merged(self, read: list[dict[str, Any] | ArgumentsInvalid], given: Sequence[Any]) -> list[Any]:
        """A result for each call: the body's, or why the body never saw it."""
        asked = len(self.fitting(read))
        if len(given) != asked:
            raise ValueError(f"the body for many calls returned {len(given)} results for {asked} calls")
        results = iter(given)
        return [self._write(next(results)) if isinstance(call, dict) else call for call in read]

    def _write(self, result: Any) -> Any:
        if isinstance(result, BaseException):
            return result
        try:
            return self._result.write(result)
        except NoJsonForm:
            return result


def _problems(original: Callable[..., Any], definition: ToolDefinition, body: BatchBody) -> Iterator[Problem]:
    where, name = of_function(body), original.__name__
    if definition.spec.max_batch < 2:
        fix = f"say how many calls it takes: @halo.tool(max_batch=64) over {name}"
        yield Problem(where, f"{name} has a body for many calls, but runs one at a time", fix)
    if inspect.iscoroutinefunction(body) != inspect.iscoroutinefunction(original):
        fix = "make both async, or neither"
        yield Problem(where, f"one of {name} and its body for many calls is async, the other is not", fix)
    if not _takes_one_list(body):
        fix = f"def {body.__name__}(calls: list[dict[str, Any]]) -> list[...]:"
        yield Problem(where, "a body for many calls takes one argument, the list of calls", fix)
    if definition.isolated and body.__module__ != original.__module__:
        what = f"{name} is isolated, and its child process imports {original.__module__} only"
        yield Problem(where, what, f"define its body for many calls there, beside {name}")


def _takes_one_list(body: BatchBody) -> bool:
    try:
        inspect.signature(body).bind([])
    except TypeError:
        return False
    return True
