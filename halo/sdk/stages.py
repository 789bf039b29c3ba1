"""The steps of a plan that are neither one call nor one tool: branch, fan out, repeat, agent, join."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar, Unpack, cast, overload

from halo.sdk.bodies import Traced, named, require_scope, trace_body, trace_condition
from halo.sdk.lower import lower, shape_of_value
from halo.sdk.messages import Message, lower_prompt
from halo.sdk.options import CallSettings, LlmOptions, read_count, read_options
from halo.sdk.schemas import adapter_for
from halo.sdk.scope import Placed, Scope
from halo.sdk.shapes import ANYTHING, TEXT, Fields, FromSchema, ListOf, Shape, kind_name
from halo.sdk.symbolic import Symbolic, truth
from halo.sdk.tool import Tool
from planner.ir.expressions import Const
from planner.ir.plan import Agent, Case, Choose, Join, Loop, Map, ToolSpec
from planner.ir.values import Json

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

_UNSET: Any = object()


class AgentAnswer(Protocol):
    """What `halo.agent` gives. `stopped` is "answered", or "max_turns" when the model never ceased to ask for tools."""

    @property
    def text(self) -> str: ...

    @property
    def turns(self) -> int: ...

    @property
    def stopped(self) -> str: ...


@overload
def choose(condition: object, /, *, then: Callable[[], R], otherwise: Callable[[], R], name: str = ...) -> R: ...


@overload
def choose(
    value: object, /, *, cases: Mapping[Any, Callable[[], R]], otherwise: Callable[[], R], name: str = ...
) -> R: ...


def choose(
    value: object,
    /,
    *,
    then: Any = _UNSET,
    cases: Mapping[Any, Any] | None = None,
    otherwise: Any = _UNSET,
    name: str = "choose",
) -> Any:
    """Branch on a value known only at run time; only the branch taken is run.

    Either `choose(condition, then=..., otherwise=...)`, or `choose(value, cases={constant: ...}, otherwise=...)`.
    Branches are functions without parameters; they may use every value around them. Gives the result of the one taken.
    """
    scope = require_scope("halo.choose")
    if (then is _UNSET) == (cases is None) or otherwise is _UNSET:
        scope.trace.report(
            "halo.choose needs two ways to go",
            "halo.choose(condition, then=fn, otherwise=fn) or halo.choose(value, cases={'a': fn}, otherwise=fn)",
        )
        return Symbolic(Const(None), scope)
    stage_id = scope.new_id(name)
    if cases is None:
        taken: tuple[_Branch, ...] = (_Branch(True, trace_body("then", then, {}, scope)),)
        value = truth(value) if isinstance(value, Placed) else bool(value)
    else:
        taken = tuple(_case(key, branch, value, scope) for key, branch in cases.items())
    other = trace_body("otherwise", otherwise, {}, scope)
    stage = Choose(stage_id, lower(value, scope), tuple(Case(one.key, one.traced.body) for one in taken), other.body)
    return Symbolic(scope.add(stage), scope, _common([*(one.traced.result for one in taken), other.result]))


def map(fn: Callable[[T], R], /, over: Iterable[T], *, max_items: int = 1000, name: str | None = None) -> list[R]:
    """Run `fn` once for each item of a list, all at once; gives the list of results in the same order.

    At run time, a value that is no list or has more than `max_items` items fails the program.
    """
    scope = require_scope("halo.map")
    stage_id = scope.new_id(name or named(fn, "map"))
    items = shape_of_value(over)
    traced = trace_body("fn", fn, {"item": _item(items)}, scope, "each")
    if items.kind is not None and items.kind != "array":
        scope.trace.report(f"halo.map goes over a list, and is given {kind_name(items.kind)}", "give over= a list")
    stage = Map(stage_id, lower(over, scope), traced.body, read_count("max_items", max_items, scope.trace.report))
    return cast(list[R], Symbolic(scope.add(stage), scope, ListOf(traced.result)))


def loop(
    fn: Callable[[S], S],
    /,
    initial: S,
    *,
    until: Callable[[S], object],
    max_rounds: int,
    name: str | None = None,
) -> S:
    """`state = initial`, then `state = fn(state)` until `until(state)` holds or `max_rounds` are over; gives the state.

    `until` is asked before each round and sees only the state.
    """
    scope = require_scope("halo.loop")
    stage_id = scope.new_id(name or named(fn, "loop"))
    # A state built here may gain fields in later rounds, so nothing is refused of it.
    state = initial._halo_shape if isinstance(initial, Placed) else ANYTHING
    start = lower(initial, scope)
    traced = trace_body("fn", fn, {"state": state}, scope, "round")
    condition = trace_condition("until", until, state, scope)
    rounds = read_count("max_rounds", max_rounds, scope.trace.report)
    result = scope.add(Loop(stage_id, start, condition, traced.body, rounds))
    return cast(S, Symbolic(result, scope, _common([state, traced.result])))


def agent(
    prompt: str | Sequence[Message] | None = None,
    /,
    *,
    messages: Sequence[Message] | None = None,
    tools: Sequence[Tool[..., Any]],
    max_turns: int = 20,
    name: str = "agent",
    **options: Unpack[LlmOptions],
) -> AgentAnswer:
    """Call the model, run the tools it asks for, tell it their results, until it asks for none or `max_turns` are over.

    `prompt` (or `messages`) opens the conversation; the options are those of `@halo.llm`. `fallback` is the whole
    answer (`{"text": ..., "turns": ..., "stopped": ...}`).
    """
    scope = require_scope("halo.agent")
    report = scope.trace.report
    stage_id = scope.new_id(name)
    if (prompt is None) == (messages is None):
        report("halo.agent needs one opening", "give either a prompt or messages=[...]")
    if "model" not in options:
        report("no model is named", 'halo.agent(..., model="qwen3-8b")')
    settings = read_options(options, CallSettings(), adapter_for(dict[str, Any]), report)
    stage = Agent(
        id=stage_id,
        model=settings.model,
        messages=lower_prompt(messages if prompt is None else prompt, scope, "the agent's opening"),
        tools=_specs(tools, scope),
        max_turns=read_count("max_turns", max_turns, report),
        sampling=settings.sampling,
        timeout_s=settings.timeout_s,
        retries=settings.retries,
        fallback=settings.fallback,
    )
    return cast(AgentAnswer, Symbolic(scope.add(stage), scope, _AGENT_ANSWER))


def join(value: T, *, name: str = "join") -> T:
    """Gather values under one name, so that they can be put into a text or handed on as one. Costs nothing."""
    scope = require_scope("halo.join")
    stage = Join(scope.new_id(name), lower(value, scope))
    return cast(T, Symbolic(scope.add(stage), scope, shape_of_value(value)))


_AGENT_ANSWER = Fields({"text": TEXT, "turns": FromSchema({"type": "integer"}), "stopped": TEXT})


@dataclass(frozen=True, slots=True)
class _Branch:
    key: Json
    traced: Traced


def _case(key: Any, branch: Any, value: object, scope: Scope) -> _Branch:
    key = key.value if isinstance(key, Enum) else key
    if not isinstance(key, str | int | float | bool | None):
        scope.trace.report(f"the case {key!r} is no constant", "use texts, numbers, booleans or None as cases")
        key = None
    choices = shape_of_value(value).choices
    if choices is not None and key not in choices and isinstance(value, Placed):
        known = ", ".join(repr(choice) for choice in choices)
        scope.trace.report(
            f"the case {key!r} can never be: the value is one of {known}", "use one of these as the case"
        )
    return _Branch(key, trace_body(f"case {key!r}", branch, {}, scope))


def _specs(tools: Sequence[Tool[..., Any]], scope: Scope) -> tuple[ToolSpec, ...]:
    found = []
    for tool in tools:
        if not isinstance(tool, Tool):
            name = getattr(tool, "__name__", repr(tool))
            scope.trace.report(f"{name} is not a tool", f"put @halo.tool over the definition of {name}")
            continue
        scope.trace.register(tool)
        found.append(tool.spec)
    return tuple(found)


def _item(items: Shape) -> Shape:
    """The shape of any item: known when the list says it of all."""
    if isinstance(items, ListOf):
        return items.item
    if isinstance(items, FromSchema) and items.length is None and items.kind == "array":
        return items.step(0)
    length = items.length
    return _common([items.step(index) for index in range(length)]) if length else ANYTHING


def _common(shapes: list[Shape]) -> Shape:
    return shapes[0] if all(shape == shapes[0] for shape in shapes) else ANYTHING
