"""From a workflow's function to its plan: the function runs once, on symbolic values."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_type_hints

from halo.sdk.errors import WorkflowInvalid
from halo.sdk.location import caller_locals, of_error, of_function, of_parameter, of_result
from halo.sdk.lower import constant, lower
from halo.sdk.schemas import Adapter, Misfit, NoJsonForm, adapter_for, holds_class
from halo.sdk.scope import Scope, Trace, TraceStopped
from halo.sdk.symbolic import Symbolic, input_value
from halo.sdk.tool import Tool
from planner.ir.check import check
from planner.ir.plan import Fallback, Plan

#: Names that `Workflow.run` and `Workflow.submit` use themselves.
RESERVED = frozenset({"self", "model", "engine", "url", "idempotency_key"})


@dataclass(frozen=True, slots=True)
class WorkflowDefinition:
    """`inputs` reads and writes the inputs; `result` reads the result, and is None where JSON is the result already."""

    plan: Plan
    tools: Mapping[str, Tool[..., Any]]
    inputs: Mapping[str, Adapter]
    result: Adapter | None


def define(function: Callable[..., Any], name: str, version: str) -> WorkflowDefinition:
    """Raises `WorkflowInvalid` with everything that is wrong."""
    trace = Trace(name)
    scope = Scope(trace)
    definition = _Definition(function, trace, scope)
    try:
        plan = definition.plan(version)
    except TraceStopped:
        plan = None
    finally:
        trace.closed = True
    if trace.problems or plan is None:
        raise WorkflowInvalid(name, trace.problems) from definition.cause
    return WorkflowDefinition(
        plan, MappingProxyType(trace.tools), MappingProxyType(definition.adapters), definition.result_adapter()
    )


class _Definition:
    def __init__(self, function: Callable[..., Any], trace: Trace, scope: Scope) -> None:
        self.function = function
        self.trace = trace
        self.scope = scope
        self.where = of_function(function)
        self.hints = self._hints()
        self.adapters: dict[str, Adapter] = {}
        self.cause: BaseException | None = None

    def plan(self, version: str) -> Plan:
        arguments = self._arguments()
        result = None
        if self._is_plain():
            with self.scope.entered():
                value = self._call(arguments)
                with self.trace.at(of_result(self.function)):
                    result = lower(value, self.scope)
        if result is None or self.trace.problems:
            raise TraceStopped
        plan = self.scope.plan(self.trace.name, result, version)
        for problem in check(plan):
            self.trace.report(f"{problem.where} {problem.what}", problem.fix, self.where)
        return plan

    def result_adapter(self) -> Adapter | None:
        hint = self.hints.get("return")
        return adapter_for(hint) if holds_class(hint) else None

    def _call(self, arguments: inspect.BoundArguments) -> Any:
        try:
            return self.function(*arguments.args, **arguments.kwargs)
        except RecursionError as error:
            self._report_failure(error, "a function goes round in a cycle through itself",
                                 "repeat with halo.loop(function, initial, until=..., max_rounds=...)")  # fmt: skip
        except Exception as error:  # noqa: BLE001 - user code runs here, and may raise anything
            if not self.trace.problems:  # else it is most likely a consequence of these
                self._report_failure(error, *_explained(error))
        raise TraceStopped

    def _report_failure(self, error: Exception, what: str, fix: str) -> None:
        self.cause = error
        self.trace.report(what, fix, of_error(error, self.where))

    def _is_plain(self) -> bool:
        if inspect.iscoroutinefunction(self.function) or inspect.isgeneratorfunction(self.function):
            self.trace.report(
                "a workflow is a plain function: it is run once, to be written down as a plan",
                "write a plain def, without await and yield; steps that do not need each other run at once",
                self.where,
            )
            return False
        return True

    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.function, localns=caller_locals(), include_extras=True)
        except (NameError, TypeError, AttributeError) as error:
            fix = "import the type, or define it above the workflow"
            self.trace.report(f"its type hints cannot be read: {error}", fix, self.where)
            return {}

    def _arguments(self) -> inspect.BoundArguments:
        signature = inspect.signature(self.function)
        found = signature.bind_partial()
        for parameter in signature.parameters.values():
            found.arguments[parameter.name] = self._input(parameter)
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                del found.arguments[parameter.name]
        return found

    def _input(self, parameter: inspect.Parameter) -> Symbolic:
        where, name = of_parameter(self.function, parameter.name), parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            self.trace.report(f"input `{parameter}` is not one input", "name each input", where)
        if name in RESERVED:
            self.trace.report(f"an input cannot be called {name!r}: run() and submit() use it", "rename it", where)
        adapter = self._adapter(name, where)
        self.adapters[name] = adapter
        column = self.scope.add_input(name, adapter.schema, self._default(parameter, adapter, where))
        return input_value(self.scope, column, adapter)

    def _adapter(self, name: str, where: str) -> Adapter:
        try:
            return adapter_for(self.hints.get(name, Any))
        except NoJsonForm as error:
            fix = "use JSON types, dataclasses or pydantic models; open other things inside a @halo.tool"
            self.trace.report(f"input {name!r} has no JSON form: {error}", fix, where)
            return adapter_for(Any)

    def _default(self, parameter: inspect.Parameter, adapter: Adapter, where: str) -> Fallback | None:
        if parameter.default is parameter.empty:
            return None
        kind = type(parameter.default).__name__
        try:
            data = constant(parameter.default)
            if not _round_trips(data):
                raise NoJsonForm(kind)
            adapter.read(data)
        except NoJsonForm:
            self.trace.report(
                f"the default of input {parameter.name!r} is of type {kind}, which cannot be written as JSON",
                f"give a JSON value, or None and make the {kind} inside a @halo.tool",
                where,
            )
            return None
        except Misfit as misfit:
            what = f"the default of input {parameter.name!r} does not fit its type: {misfit}"
            self.trace.report(what, "change the default or the type", where)
            return None
        return Fallback(data)


def _round_trips(data: Any) -> bool:
    return bool(json.loads(json.dumps(data)) == data)


def _explained(error: Exception) -> tuple[str, str]:
    """What to say of an exception that came out of the workflow's function."""
    text = str(error)
    if "JSON serializable" in text and Symbolic.__name__ in text:
        return (
            "json.dumps is given a value that is known only when the program runs",
            'put the value into an f-string: f"{value}" writes it as JSON; or do it in a @halo.tool',
        )
    if type(error).__module__.startswith("pydantic") and Symbolic.__name__ in text:
        return (
            "a pydantic model checks its fields, but the value is known only when the program runs",
            "build it with .model_construct(...); the checks come when the result is read",
        )
    if isinstance(error, TypeError) and Symbolic.__name__ in text:
        return (
            f"Python needs a value that is known only when the program runs ({text})",
            'put it into an f-string, f"{value}", or do it in a @halo.tool',
        )
    return f"the workflow's function raised {type(error).__name__}: {text}", "see the cause above this error"
