"""The plan and its stage kinds (DESIGN section 1). A plan is a template: N inputs do not make N graphs."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field as Tagged

from planner.ir.expressions import Concat, Expr, Object
from planner.ir.ids import StageId
from planner.ir.values import Json, added_later, value


class Effect(StrEnum):
    """What running a tool twice does. `unsafe` tools are never silently run again."""

    PURE = "pure"
    IDEMPOTENT = "idempotent"
    UNSAFE = "unsafe"


@value
class Sampling:
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int | None = None
    stop: tuple[str, ...] = ()

    @property
    def fixed(self) -> bool:
        """True when the same prompt must give the same answer: greedy, or seeded."""
        return self.temperature == 0.0 or self.seed is not None


@value
class Message:
    role: Literal["system", "user", "assistant"]
    content: Concat


@value
class ToolSpec:
    """What a plan says of a tool. The function itself is registered under `name` where the program runs.

    `parameters` is a JSON schema of the arguments. `concurrency` bounds what runs at once in one process: calls, or
    batches of up to `max_batch` calls where the tool has a body for many.
    """

    name: str
    effect: Effect = Effect.IDEMPOTENT
    description: str = ""
    parameters: Json = None
    timeout_s: float = 30.0
    retries: int = 0
    concurrency: int = 8
    max_batch: int = added_later(default=1)

    @property
    def most_in_flight(self) -> int:
        """How many calls may be handed over before one has ended."""
        return self.concurrency * self.max_batch


@value
class Fallback:
    """What a stage answers when it failed for good; without one the program fails."""

    value: Json


@value
class Generate:
    """One LLM call. `schema`, a JSON schema, makes the engine decode under it; the output is then the parsed answer."""

    id: StageId
    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    schema: Json = None
    timeout_s: float = 300.0
    retries: int = 2
    fallback: Fallback | None = None
    kind: Literal["generate"] = "generate"


@value
class Tool:
    id: StageId
    tool: ToolSpec
    arguments: Object
    fallback: Fallback | None = None
    kind: Literal["tool"] = "tool"


@value
class Binding:
    """An input of a body and the value the surrounding plan gives it."""

    name: str
    value: Expr


@value
class Body:
    """A plan inside a plan. `bindings` give its inputs, except those its stage gives itself (`item`, `state`)."""

    plan: "Plan"
    bindings: tuple[Binding, ...] = ()


@value
class Case:
    """A branch of `Choose`: taken when the value equals `equals`."""

    equals: Json
    body: Body


@value
class Choose:
    """Runs the first case equal to `value`, else `otherwise`; its output is that body's result."""

    id: StageId
    value: Expr
    cases: tuple[Case, ...]
    otherwise: Body
    kind: Literal["choose"] = "choose"


@value
class Map:
    """Runs `body` once for each item of the list `over` (its input `item`); the output is the list of results."""

    id: StageId
    over: Expr
    body: Body
    max_items: int = 1000
    kind: Literal["map"] = "map"


@value
class Loop:
    """`state = initial; while not until(state) and rounds < max_rounds: state = body(state)`; the output is `state`.

    `until` reads one column, `state`.
    """

    id: StageId
    initial: Expr
    until: Expr
    body: Body
    max_rounds: int
    kind: Literal["loop"] = "loop"


@value
class Agent:
    """A model-tool loop: call the model, run the tools it asks for, until it asks for none.

    Output: `{"text": str, "turns": int, "stopped": "answered" | "max_turns"}`.
    """

    id: StageId
    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    max_turns: int = 20
    sampling: Sampling = Sampling()
    timeout_s: float = 300.0
    retries: int = 2
    fallback: Fallback | None = None
    kind: Literal["agent"] = "agent"


@value
class Join:
    """Gathers values under one name; costs nothing."""

    id: StageId
    value: Expr
    kind: Literal["join"] = "join"


Stage = Annotated[Generate | Tool | Choose | Map | Loop | Agent | Join, Tagged(discriminator="kind")]


@value
class Input:
    """A column the plan reads. `schema` is a JSON schema of its values."""

    name: str
    schema: Json = None
    default: Fallback | None = None


@value
class Plan:
    """A compiled workflow. `stages` stand in an order in which each reads only earlier ones."""

    name: str
    inputs: tuple[Input, ...]
    stages: tuple[Stage, ...]
    result: Expr
    version: str = "1"

    def _repr_html_(self) -> str:
        """How a notebook shows the plan."""
        from planner.ir.render import render_html

        return render_html(self)
