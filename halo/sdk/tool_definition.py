"""What `@halo.tool` asks of a function, checked all at once."""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from halo.sdk.errors import ToolInvalid
from halo.sdk.location import caller_locals, of_function, of_parameter
from halo.sdk.options import read_count, read_fallback, read_timeout
from halo.sdk.schemas import Adapter, NoJsonForm, adapter_for, arguments_adapter
from planner.errors import Problem
from planner.ir.bounds import tool_problems
from planner.ir.plan import Effect, Fallback, ToolSpec

MEBIBYTE = 1024 * 1024
MEMORY_BYTES = 1024 * MEBIBYTE
#: Tells "no fallback" from "None is the fallback".
UNSET: Any = object()


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """As the user wrote them."""

    effect: str
    timeout: str | float
    retries: int
    concurrency: int
    max_batch: int
    isolated: bool
    memory_mb: int | None
    name: str | None
    fallback: Any
    version: str | Callable[..., str] | None = None


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool that can be."""

    spec: ToolSpec
    arguments: Adapter
    result: Adapter
    fallback: Fallback | None
    isolated: bool
    memory_bytes: int
    version: str | Callable[..., str] | None = None


def define(function: Callable[..., Any], options: ToolOptions) -> ToolDefinition:
    """Raises `ToolInvalid` with everything that is wrong."""
    check = _Check(function)
    name = options.name or function.__name__
    arguments, result = check.types(name)
    spec = check.spec(name, arguments, options)
    memory_bytes = check.memory_bytes(options)
    fallback = check.fallback(options.fallback, result)
    check.version(options)
    if check.problems:
        raise ToolInvalid(name, check.problems)
    assert arguments is not None
    assert result is not None
    return ToolDefinition(spec, arguments, result, fallback, options.isolated, memory_bytes, options.version)


class _Check:
    """Reads a tool's definition and collects what is wrong with it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.where = of_function(function)
        self.problems: list[Problem] = []

    def report(self, what: str, fix: str, where: str | None = None) -> None:
        self.problems.append(Problem(where or self.where, what, fix))

    def types(self, name: str) -> tuple[Adapter | None, Adapter | None]:
        """How the arguments and the result are written as JSON; None where that cannot be told."""
        hints = self._hints()
        if hints is None:
            return None, None
        parameters = inspect.signature(self.function).parameters.values()
        adapters = {parameter.name: self._parameter(parameter, hints) for parameter in parameters}
        result = self._result(hints)
        if not all(adapters.values()):
            return None, result
        required = frozenset(each.name for each in parameters if each.default is inspect.Parameter.empty)
        return arguments_adapter(name, {key: hints[key] for key in adapters}, required), result

    def spec(self, name: str, arguments: Adapter | None, options: ToolOptions) -> ToolSpec:
        spec = ToolSpec(
            name=name,
            effect=self._effect(options),
            description=(inspect.getdoc(self.function) or "").partition("\n\n")[0].replace("\n", " "),
            parameters=arguments.schema if arguments else None,
            timeout_s=read_timeout(options.timeout, self.report),
            retries=read_count("retries", options.retries, self.report),
            concurrency=read_count("concurrency", options.concurrency, self.report),
            max_batch=read_count("max_batch", options.max_batch, self.report),
        )
        for problem in tool_problems(spec, "tool"):
            self.report(f"{problem.where.removeprefix('tool.')} {problem.what}", problem.fix)
        return spec

    def memory_bytes(self, options: ToolOptions) -> int:
        if not options.isolated:
            if options.memory_mb is not None:
                self.report("memory_mb bounds only isolated tools", "add isolated=True, or drop memory_mb=")
            return MEMORY_BYTES
        if inspect.iscoroutinefunction(self.function):
            self.report("an isolated tool has a process of its own, so it cannot be async", "write a plain def")
        self._check_importable()
        if options.memory_mb is None:
            return MEMORY_BYTES
        memory_mb = options.memory_mb
        if read_count("memory_mb", memory_mb, self.report) < 64:
            self.report(f"memory_mb is {memory_mb}", "give at least 64: Python itself needs that much")
        return memory_mb * MEBIBYTE

    def fallback(self, given: Any, result: Adapter | None) -> Fallback | None:
        return None if given is UNSET else read_fallback(given, result or adapter_for(Any), self.report)

    def version(self, options: ToolOptions) -> None:
        version = options.version
        if version is None:
            return
        if options.effect != Effect.PURE:
            self.report("version is for pure tools: others run every time", 'drop version=, or effect="pure"')
        if isinstance(version, str):
            return
        try:
            inspect.signature(version).bind(**dict.fromkeys(inspect.signature(self.function).parameters))
        except (TypeError, ValueError) as error:
            self.report(f"version cannot be called with the tool's arguments: {error}", "give it the same parameters")

    def _effect(self, options: ToolOptions) -> Effect:
        known = [str(kind) for kind in Effect]
        if options.effect not in known:
            self.report(f"effect is {options.effect!r}", f"give one of: {', '.join(known)}")
            return Effect.IDEMPOTENT
        if options.effect == Effect.UNSAFE and options.retries:
            self.report("an unsafe tool is never run again, but retries is set", 'drop retries=, or effect="unsafe"')
        return Effect(options.effect)

    def _hints(self) -> dict[str, Any] | None:
        try:
            return get_type_hints(self.function, localns=caller_locals(), include_extras=True)
        except (NameError, TypeError, AttributeError) as error:
            self.report(f"its type hints cannot be read: {error}", "import the type, or define it above the tool")
            return None

    def _parameter(self, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Adapter | None:
        where, name = of_parameter(self.function, parameter.name), parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            self.report(f"parameter `{parameter}` cannot be given by name", "name each parameter", where)
            return None
        if name not in hints:
            fix = f"write its type, so that calls can be checked: {name}: str"
            self.report(f"parameter {name!r} has no type hint", fix, where)
            return None
        return self._adapter(hints[name], f"parameter {name!r}", where)

    def _result(self, hints: Mapping[str, Any]) -> Adapter | None:
        if "return" not in hints:
            self.report("the return type is missing", f"write it: def {self.function.__name__}(...) -> str:")
            return None
        return self._adapter(hints["return"], "the return type", self.where)

    def _adapter(self, hint: Any, whose: str, where: str) -> Adapter | None:
        try:
            return adapter_for(hint)
        except NoJsonForm as error:
            fix = "use JSON types, dataclasses, pydantic models, or TypedDict from typing_extensions"
            self.report(f"{whose} has no JSON form: {error}", fix, where)
            return None

    def _check_importable(self) -> None:
        if "<" in self.function.__qualname__:
            self.report(
                f"an isolated tool is imported by a child process, but {self.function.__qualname__!r} is local",
                "define it at the top level of a module",
            )
        elif self.function.__module__ == "__main__" or self.function.__module__ not in sys.modules:
            self.report(
                "an isolated tool is imported by a child process, which cannot import the script that was started",
                "move it into a module of its own and import it from there",
            )
