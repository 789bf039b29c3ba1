"""`@halo.tool`: a typed function becomes something workflows and agents may run."""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from copy import copy
from functools import partial, update_wrapper
from typing import Any, Generic, ParamSpec, Self, TypeVar, cast, overload

from halo.sdk.errors import ArgumentsInvalid
from halo.sdk.lower import lower, shape_of_value
from halo.sdk.schemas import Misfit
from halo.sdk.scope import Scope, current_scope
from halo.sdk.shapes import kind_name, shape_of
from halo.sdk.source import source_digest
from halo.sdk.symbolic import Symbolic, anything
from halo.sdk.tool_batch import BatchBody, BatchFunction, Together, batch_function
from halo.sdk.tool_definition import UNSET, ToolDefinition, ToolOptions, define
from planner.ir.expressions import Const, Field, Object
from planner.ir.plan import Tool as ToolStage
from planner.ir.values import Json

P = ParamSpec("P")
R = TypeVar("R")
B = TypeVar("B", bound=BatchBody)


class Tool(Generic[P, R]):
    """A tool. Inside a workflow, calling it adds a stage; anywhere else it is the plain function.

    `spec` is what plans say of it. `function` is what runs it for a plan: it takes JSON by name and gives JSON, async
    if the tool is; raises `ArgumentsInvalid`, or what the tool itself raises. A result that JSON cannot hold is handed
    on as it is, for the runner to refuse. `isolated` tools run in a child process of at most `memory_bytes`, which
    imports `function` by `target` ("module:qualified.name"). `step` is what a workflow calls a stage that runs it.
    `batch_function`, where there is one, runs many calls at once, and `together` says which (see `batched`); its target
    is `batch_target`.
    `version` tells of which data and code a result is (see `tool`).
    """

    function: Callable[..., Any]
    batch_function: BatchFunction | None = None
    together: Together | None = None

    def __init__(self, original: Callable[..., Any], definition: ToolDefinition) -> None:
        update_wrapper(self, original)
        self.original = original
        self.spec = definition.spec
        self.name = definition.spec.name
        self.step = definition.spec.name
        self.fallback = definition.fallback
        self.isolated = definition.isolated
        self.memory_bytes = definition.memory_bytes
        self.version = definition.version
        self.target = f"{original.__module__}:{original.__qualname__}.function"
        self.batch_target = f"{original.__module__}:{original.__qualname__}.batch_function"
        self.function = _json_function(original, definition)
        self._bodies: tuple[Callable[..., Any], ...] = (original,)
        self._definition = definition
        self._arguments = definition.arguments
        self._result = definition.result

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        scope = current_scope()
        if scope is None:
            return cast(R, self.original(*args, **kwargs))
        signature = inspect.signature(self.original)
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            scope.trace.report(f"`{self.name}`: {error}", f"its parameters are {_written(signature)}")
            return cast(R, anything(scope))
        return cast(R, self._stage(scope, given))

    def named(self, step: str) -> Self:
        """The same tool under another name in the plan: `look_up.named("top_rated")(database, query)`.

        EXPLAIN, events and errors then say `top_rated`; without, steps with one tool are `look_up`, `look_up_2`, ...
        """
        renamed = copy(self)
        renamed.step = step
        return renamed

    @overload
    def batched(self, body: B, /) -> B: ...

    @overload
    def batched(self, /, *, together: Together) -> Callable[[B], B]: ...

    def batched(self, body: Any = None, /, *, together: Together | None = None) -> Any:
        """Register the body for many calls at once; at most `max_batch` of them.

            @look_up.batched
            def look_up_many(calls: list[dict[str, Any]]) -> list[str | Exception]: ...

        It takes the arguments of each call by name, and returns as many results, in that order; the exception of a call
        that failed stands in its place. Or it is a generator that yields them: rows then go on as soon as theirs is
        there. When it raises, or misses the tool's `timeout`, the calls without a result are run one by one.

        `together`, a quick function of the tool's arguments, says which calls gain by it: those for which it gives the
        same go together; None is a call that goes alone. Without it all calls are alike.

            @look_up.batched(together=lambda table, key: table)

        Raises `ToolInvalid` with everything that is wrong.
        """
        if body is None:
            return partial(self._batched, together=together)
        return self._batched(body, together)

    def _batched(self, body: B, together: Together | None) -> B:
        self.batch_function = batch_function(self.original, self._definition, body, together)
        self.together = together
        self._bodies = self.original, body
        return body

    @property
    def source_digest(self) -> str | None:
        """Changes with the tool's `version`, where that is a text; else with its own source, not with that of what it
        calls. None where that cannot be had."""
        if isinstance(self.version, str):
            return f"version {self.version}"
        return source_digest(*self._bodies)

    def __repr__(self) -> str:
        return f"<halo tool {self.name}{_written(inspect.signature(self.original))}>"

    def _stage(self, scope: Scope, given: Mapping[str, Any]) -> Symbolic:
        fields = tuple(Field(name, lower(value, scope)) for name, value in given.items())
        self._check_types(scope, given, fields)
        scope.trace.register(self)
        stage = ToolStage(scope.new_id(self.step), self.spec, Object(fields), self.fallback)
        return Symbolic(scope.add(stage), scope, shape_of(self._result.schema))

    def _check_types(self, scope: Scope, given: Mapping[str, Any], fields: tuple[Field, ...]) -> None:
        """Constants are checked whole now, symbolic values by their kind; what comes at run time is checked then."""
        constants = {field.name: field.value.value for field in fields if isinstance(field.value, Const)}
        misfits = [*self._misfits(constants), *self._unlike(given, constants)]
        for name, what in misfits:
            fix = f"its parameters are {_written(inspect.signature(self.original))}"
            scope.trace.report(f"`{self.name}`, argument {name!r}: {what}", fix)

    def _misfits(self, constants: Mapping[str, Json]) -> list[tuple[str, str]]:
        try:
            self._arguments.read(dict(constants))
        except Misfit as misfit:
            return [(place, what) for place, what in misfit.problems if place.partition(".")[0] in constants]
        return []

    def _unlike(self, given: Mapping[str, Any], constants: Mapping[str, Json]) -> list[tuple[str, str]]:
        wanted = shape_of(self._arguments.schema)
        found = []
        for name, value in given.items():
            kind, right = shape_of_value(value).kind, wanted.step(name).kind
            if name not in constants and kind and right and (kind, right) not in _FITTING and kind != right:
                found.append((name, f"wants {kind_name(right)}, and is given {kind_name(kind)}"))
        return found


@overload
def tool(function: Callable[P, Coroutine[Any, Any, R]], /) -> Tool[P, R]: ...


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    effect: str = ...,
    timeout: str | float = ...,
    retries: int = ...,
    concurrency: int = ...,
    max_batch: int = ...,
    isolated: bool = ...,
    memory_mb: int | None = ...,
    name: str | None = ...,
    fallback: Any = ...,
    version: str | Callable[..., str] | None = ...,
) -> "ToolDecorator": ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    effect: str = "idempotent",
    timeout: str | float = 30.0,
    retries: int = 0,
    concurrency: int = 8,
    max_batch: int = 1,
    isolated: bool = False,
    memory_mb: int | None = None,
    name: str | None = None,
    fallback: Any = UNSET,
    version: str | Callable[..., str] | None = None,
) -> Any:
    """Make a function with type hints a tool.

    `effect` says what running it twice does: "pure" (same arguments, same result, so equal calls are run once),
    "idempotent" (running again does no harm), "unsafe" (never silently run again). `timeout` bounds one call: seconds,
    or a text like "5s". `concurrency` bounds the calls at once in one process. `max_batch` is how many calls its body
    for many takes (see `Tool.batched`); `concurrency` and `timeout` then bound batches. `isolated` runs it in a child
    process that can be killed, with at most `memory_mb` (1024 unless told). `fallback` is its result when it failed for
    good.

    `version` says of which data and code the results of a pure tool are, so that later jobs may use them again: a text,
    or a quick function of the same arguments that gives one, such as `lambda db: halo.file_version(path_of(db))`.
    Change it when the tool gives something else than before. Without it, results are used again in their job alone.
    Raises `ToolInvalid` with everything that is wrong.
    """
    bounds = (timeout, retries, concurrency, max_batch, isolated, memory_mb)
    decorate = ToolDecorator(ToolOptions(effect, *bounds, name, fallback, version))
    return decorate if function is None else decorate(function)


class ToolDecorator:
    """`@halo.tool(...)`: keeps the function's types."""

    def __init__(self, options: ToolOptions) -> None:
        self._options = options

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Tool[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Tool[P, R]: ...

    def __call__(self, function: Callable[..., Any], /) -> Any:
        return Tool(function, define(function, self._options))


#: (given, wanted): kinds that differ in name only.
_FITTING = {("integer", "number"), ("number", "integer")}


def _json_function(original: Callable[..., Any], definition: ToolDefinition) -> Callable[..., Any]:
    arguments, result = definition.arguments, definition.result

    def read(given: dict[str, Json]) -> dict[str, Any]:
        try:
            return cast(dict[str, Any], arguments.read(given))
        except Misfit as misfit:
            raise ArgumentsInvalid(f"the arguments of {definition.spec.name} do not fit: {misfit}") from None

    def call(**given: Json) -> Json:
        return result.write_for_check(original(**read(given)))

    async def call_async(**given: Json) -> Json:
        return result.write_for_check(await original(**read(given)))

    return call_async if inspect.iscoroutinefunction(original) else call


def _written(signature: inspect.Signature) -> str:
    return str(signature.replace(return_annotation=inspect.Signature.empty))
