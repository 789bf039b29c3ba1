"""Random valid plans, rows for them, and a world to run them in. Any test may import this module.

Everything is drawn from small pools, so that equal stages, equal rows and equal prompts are common.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from hypothesis import strategies as st

from planner.interpret import StageFailed
from planner.ir.conversation import Reply, ToolCall
from planner.ir.expressions import Array, Blocks, Column, Compare, Concat, Const, Expr, Field, Object, Output
from planner.ir.ids import StageId
from planner.ir.plan import (
    Agent,
    Binding,
    Body,
    Case,
    Choose,
    Effect,
    Fallback,
    Generate,
    Input,
    Join,
    Loop,
    Map,
    Message,
    Plan,
    Sampling,
    Stage,
    Tool,
    ToolSpec,
)
from planner.ir.values import Json, canonical_json

Draw = Callable[..., Json]

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 10**12) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT
)
JSON_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3), max_leaves=6
)
_LITERALS = st.sampled_from(["You are an analyst.\n", "Question: ", "\nSchema: ", "a", ""])
_CONSTANTS = st.one_of(_LITERALS, _LITERALS, JSON_VALUES).map(Const)
_MODELS = st.sampled_from(["small", "large"])
_SAMPLINGS = st.sampled_from(
    [Sampling(), Sampling(), Sampling(temperature=0.7), Sampling(temperature=1.0, seed=3, stop=("\n",), max_tokens=9)]
)
_SCHEMA: Json = {"type": "object", "properties": {"score": {"type": "number"}}}
_TOOLS = st.sampled_from(
    [
        ToolSpec("lookup", Effect.PURE, "Finds a table.", {"type": "object"}),
        ToolSpec("search", Effect.IDEMPOTENT, retries=2),
        ToolSpec("send", Effect.UNSAFE, timeout_s=5.0),
    ]
)
#: One pool of values for every column, so that rows agree often; `items` is always a list.
_CELLS = st.sampled_from(["cats", "dogs", "", "1", 1, 1.0, True, None, ["cats", 2], {"k": "v"}])
_LISTS = st.sampled_from([[], ["cats"], ["cats", "dogs"], [1, 1]])


@dataclass(frozen=True)
class _Scope:
    columns: tuple[str, ...]
    stages: tuple[StageId, ...] = ()


@st.composite
def plans(draw: Draw, max_stages: int = 6, depth: int = 2) -> Plan:
    """Valid plans of all stage kinds, bodies nested up to `depth`."""
    names = draw(st.lists(st.sampled_from(["question", "schema", "db"]), unique=True, max_size=3))
    inputs = [Input(name, default=draw(st.none() | JSON_VALUES.map(Fallback))) for name in names]
    inputs.append(Input("items", {"type": "array"}))
    return draw(_plans(tuple(inputs), max_stages, depth))


@st.composite
def rows_for(draw: Draw, plan: Plan, max_rows: int = 6) -> list[dict[str, Json]]:
    names = [given.name for given in plan.inputs]
    row = st.fixed_dictionaries({name: _LISTS if name == "items" else _CELLS for name in names})
    rows: list[dict[str, Json]] = draw(st.lists(row, max_size=max_rows))
    return rows


@dataclass
class FakeWorld:
    """Answers fixed calls by what they ask, and all others by where they stand too. Remembers who called."""

    called: list[str] = field(default_factory=list)

    def generate(self, path: str, stage: Generate | Agent, messages: list[Json]) -> Reply:
        self.called.append(path)
        asked = [stage.model, str(stage.sampling), messages, "" if stage.sampling.fixed else path]
        digest = _digest(asked)
        if isinstance(stage, Agent):
            call = ToolCall("c", stage.tools[0].name, "{}") if stage.tools and digest[0] in "01234567" else None
            return Reply(digest[:4], (call,) if call else ())
        return Reply(digest[:4] if stage.schema is None else canonical_json({"score": int(digest[0], 16)}))

    def tool(self, path: str, spec: ToolSpec, arguments: dict[str, Json]) -> Json:
        self.called.append(path)
        digest = _digest([spec.name, arguments, "" if spec.effect is Effect.PURE else path])
        if digest[0] == "0":
            raise StageFailed("tool_failed", spec.name)
        return {"rows": [digest[:3]], "k": "v"}


def _digest(asked: Json) -> str:
    return hashlib.blake2b(canonical_json(asked).encode(), digest_size=8).hexdigest()


@st.composite
def _plans(draw: Draw, inputs: tuple[Input, ...], max_stages: int, depth: int) -> Plan:
    scope = _Scope(tuple(given.name for given in inputs))
    stages: list[Stage] = []
    for number in range(draw(st.integers(0, max_stages))):
        stage = draw(_stages(scope, StageId(f"s{number}"), depth))
        stages.append(stage)
        scope = replace(scope, stages=(*scope.stages, stage.id))
    return Plan(draw(st.sampled_from(["p", "q"])), inputs, tuple(stages), draw(_exprs(scope)))


@st.composite
def _stages(draw: Draw, scope: _Scope, stage: StageId, depth: int) -> Stage:
    kinds: list[Callable[[_Scope, StageId, int], st.SearchStrategy[Stage]]] = [
        _generate,
        _generate,
        _tool,
        _join,
        _agent,
    ]
    if depth > 0:
        kinds += [_choose, _map, _loop]
    made: Stage = draw(draw(st.sampled_from(kinds))(scope, stage, depth))
    return made


@st.composite
def _generate(draw: Draw, scope: _Scope, stage: StageId, depth: int) -> Generate:
    schema = draw(st.sampled_from([None, None, _SCHEMA]))
    fallback = draw(st.sampled_from([None, Fallback("none")]))
    return Generate(stage, draw(_MODELS), draw(_messages(scope)), draw(_SAMPLINGS), schema, fallback=fallback)


@st.composite
def _agent(draw: Draw, scope: _Scope, stage: StageId, depth: int) -> Agent:
    tools = draw(st.lists(_TOOLS, unique_by=lambda tool: tool.name, max_size=2))
    return Agent(stage, draw(_MODELS), draw(_messages(scope)), tuple(tools), draw(st.integers(1, 3)), draw(_SAMPLINGS))


@st.composite
def _tool(draw: Draw, scope: _Scope, stage: StageId, depth: int) -> Tool:
    names = draw(st.lists(st.sampled_from(["x", "y"]), unique=True, max_size=2))
    fields = tuple(Field(name, draw(_exprs(scope))) for name in names)
    return Tool(stage, draw(_TOOLS), Object(fields), draw(st.sampled_from([Fallback(None), Fallback(0), None])))


@st.composite
def _join(draw: Draw, scope: _Scope, stage: StageId, depth: int) -> Join:
    return Join(stage, draw(_exprs(scope)))


@st.composite
def _choose(draw: Draw, scope: _Scope, stage: StageId, depth: int) -> Choose:
    values = draw(st.lists(st.sampled_from(["cats", 1, True, None]), max_size=2))
    cases = tuple(Case(value, draw(_bodies(scope, None, depth))) for value in values)
    return Choose(stage, draw(_exprs(scope)), cases, draw(_bodies(scope, None, depth)))


@st.composite
def _map(draw: Draw, scope: _Scope, stage: StageId, depth: int) -> Map:
    lists: list[Expr] = [Array((Const("a"), Const("b"))), Array((draw(_exprs(scope)),))]
    if "items" in scope.columns:
        lists.append(Column("items"))
    return Map(
        stage, draw(st.sampled_from(lists)), draw(_bodies(scope, "item", depth)), draw(st.sampled_from([2, 1000]))
    )


@st.composite
def _loop(draw: Draw, scope: _Scope, stage: StageId, depth: int) -> Loop:
    until = draw(st.sampled_from([Const(False), Compare("==", Column("state"), Const("cats"))]))
    return Loop(stage, draw(_exprs(scope)), until, draw(_bodies(scope, "state", depth)), draw(st.integers(1, 2)))


@st.composite
def _bodies(draw: Draw, scope: _Scope, given: str | None, depth: int) -> Body:
    names = draw(st.lists(st.sampled_from(["question", "hint"]), unique=True, max_size=2))
    bindings = tuple(Binding(name, draw(_exprs(scope))) for name in names)
    inputs = tuple(Input(name) for name in ([given] if given else []) + names)
    return Body(draw(_plans(inputs, 3, depth - 1)), bindings)


@st.composite
def _messages(draw: Draw, scope: _Scope) -> tuple[Message, ...]:
    roles: Sequence[str] = draw(st.sampled_from([["user"], ["system", "user"]]))
    return tuple(Message(role, draw(_texts(scope))) for role in roles)  # type: ignore[arg-type]


@cache  # making a strategy costs more than drawing from it
def _texts(scope: _Scope) -> st.SearchStrategy[Concat]:
    return st.lists(_leaves(scope), max_size=3).map(lambda segments: Concat(tuple(segments)))


@cache
def _exprs(scope: _Scope) -> st.SearchStrategy[Expr]:
    return st.recursive(
        _leaves(scope),
        lambda inner: st.one_of(
            st.lists(inner, max_size=2).map(lambda items: Array(tuple(items))),
            inner.map(lambda value: Object((Field("k", value),))),
            st.tuples(st.sampled_from(["==", "!=", "and", "or", "<"]), inner, inner).map(lambda c: Compare(*c)),
            st.lists(inner, max_size=2).map(lambda segments: Concat(tuple(segments))),
            st.lists(inner, max_size=2).map(lambda blocks: Blocks(tuple(blocks))),
        ),
        max_leaves=3,
    )


@cache
def _leaves(scope: _Scope) -> st.SearchStrategy[Expr]:
    paths = st.sampled_from([(), (), (), ("k",), (0,)])
    kinds: list[st.SearchStrategy[Expr]] = [_CONSTANTS]
    if scope.columns:
        kinds.append(st.builds(Column, st.sampled_from(scope.columns), paths))
    if scope.stages:
        outputs = st.builds(Output, st.sampled_from(scope.stages), paths)
        kinds += [outputs, outputs]
    return st.one_of(kinds)
