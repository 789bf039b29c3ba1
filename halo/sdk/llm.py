"""`@halo.llm`: a function that writes a prompt becomes an LLM call."""

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from halo.sdk.errors import LlmInvalid, OutsideWorkflow
from halo.sdk.location import caller, of_function
from halo.sdk.messages import Prompt, as_messages, lower_prompt
from halo.sdk.options import CallSettings, LlmOptions, read_options
from halo.sdk.schemas import Adapter, NoJsonForm, adapter_for
from halo.sdk.scope import current_scope
from halo.sdk.shapes import TEXT, Shape, shape_of
from halo.sdk.symbolic import Symbolic, lifted
from planner.errors import Problem
from planner.ir.plan import Generate

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")


class Llm(Generic[P, R]):
    """An LLM call. Inside a workflow, calling it adds a stage and gives the answer's symbolic value."""

    def __init__(
        self, function: Callable[P, Prompt], settings: CallSettings, answer: Adapter | None, step: str | None = None
    ) -> None:
        self.function = function
        self.settings = settings
        self.answer = answer
        self.name = function.__name__
        self.step = step or self.name
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Raises `OutsideWorkflow` when no workflow is being defined; `prompt` works everywhere."""
        scope = current_scope()
        if scope is None:
            raise OutsideWorkflow(
                f"{caller()}: `{self.name}` is an LLM call, and this is outside of a @halo.workflow;"
                f" call it inside one, or see what it would send with {self.name}.prompt(...)"
            )
        prompt = self.function(*lifted(args), **lifted(kwargs))
        stage = Generate(
            id=scope.new_id(self.step),
            model=self.settings.model,
            messages=lower_prompt(prompt, scope, f"`{self.name}`"),
            sampling=self.settings.sampling,
            schema=self.answer.schema if self.answer else None,
            timeout_s=self.settings.timeout_s,
            retries=self.settings.retries,
            fallback=self.settings.fallback,
        )
        return cast(R, Symbolic(scope.add(stage), scope, self._shape()))

    def options(self, **changes: Unpack[LlmOptions]) -> "Llm[P, R]":
        """The same call with other options: `draft.options(seed=1, temperature=0.8)(question)`."""
        problems: list[Problem] = []
        where, scope = caller(), current_scope()

        def report(what: str, fix: str) -> None:
            if scope is not None:
                return scope.trace.report(what, fix)
            return problems.append(Problem(where, what, fix))

        settings = read_options(changes, self.settings, self.answer, report)
        if problems:
            raise LlmInvalid(self.name, problems)
        return Llm(self.function, settings, self.answer, self.step)

    def named(self, step: str) -> "Llm[P, R]":
        """The same call under another name in the plan: `draft.named("first_draft")(question)`.

        EXPLAIN, events and errors then say `first_draft`; without, its calls are `draft`, `draft_2`, ...
        """
        return Llm(self.function, self.settings, self.answer, step)

    def prompt(self, *args: P.args, **kwargs: P.kwargs) -> list[dict[str, str]]:
        """The chat messages it would send for these values. Raises `TypeError` when the function gives no prompt."""
        messages = as_messages(self.function(*args, **kwargs))
        if messages is None:
            raise TypeError(f"{self.name} must return a text or a list of halo.system/user/assistant messages")
        return [{"role": message.role, "content": message.content} for message in messages]

    def _shape(self) -> Shape:
        return shape_of(self.answer.schema) if self.answer else TEXT


@overload
def llm(*, output: None = None, **options: Unpack[LlmOptions]) -> Callable[[Callable[P, Prompt]], Llm[P, str]]: ...


@overload
def llm(*, output: type[M], **options: Unpack[LlmOptions]) -> Callable[[Callable[P, Prompt]], Llm[P, M]]: ...


def llm(*, output: Any = None, **options: Unpack[LlmOptions]) -> Callable[[Callable[P, Prompt]], Llm[P, Any]]:
    """Make a prompt function an LLM call of `model`.

    The function takes values and returns a text (one user message) or a list of `halo.system/user/assistant` messages,
    written as plain f-strings. `output` is a pydantic model (or any type with a JSON schema): the engine decodes under
    its schema, and the answer's fields can be read. Raises `LlmInvalid` with everything that is wrong.
    """

    def decorate(function: Callable[P, Prompt]) -> Llm[P, Any]:
        where, problems = of_function(function), list[Problem]()

        def report(what: str, fix: str) -> None:
            problems.append(Problem(where, what, fix))

        _check_function(function, report)
        if "model" not in options:
            report("no model is named", '@halo.llm(model="qwen3-8b")')
        answer = _answer(output, report)
        settings = read_options(options, CallSettings(), answer, report)
        if problems:
            raise LlmInvalid(function.__name__, problems)
        return Llm(function, settings, answer)

    return decorate


def _check_function(function: Callable[..., Any], report: Callable[[str, str], None]) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        report(f"`{function.__name__}` is an async or generator function", "write a plain def that returns the prompt")


def _answer(output: Any, report: Callable[[str, str], None]) -> Adapter | None:
    if output is None or output is str:
        return None
    try:
        return adapter_for(output)
    except NoJsonForm as error:
        report(f"output={output!r} has no JSON schema: {error}", "give a pydantic model, or a dataclass of JSON types")
        return None
