"""What a stage reads: every expression in it, those that feed its bodies included."""

from collections.abc import Iterator

from planner.ir.expressions import Expr, Output, leaves
from planner.ir.ids import StageId
from planner.ir.plan import Agent, Body, Choose, Generate, Join, Loop, Map, Stage, Tool


def expressions_of(stage: Stage) -> Iterator[Expr]:
    """The expressions evaluated in the surrounding plan; a body's own are not among them."""
    match stage:
        case Generate(messages=messages) | Agent(messages=messages):
            yield from (message.content for message in messages)
        case Tool(arguments=arguments):
            yield arguments
        case Choose(value=chosen):
            yield chosen
        case Map(over=over):
            yield over
        case Loop(initial=initial):
            yield initial
        case Join(value=joined):
            yield joined
    for body in bodies_of(stage):
        yield from (binding.value for binding in body.bindings)


def bodies_of(stage: Stage) -> tuple[Body, ...]:
    match stage:
        case Choose(cases=cases, otherwise=otherwise):
            return (*(case.body for case in cases), otherwise)
        case Map(body=body) | Loop(body=body):
            return (body,)
        case _:
            return ()


def stages_read(stage: Stage) -> tuple[StageId, ...]:
    """The earlier stages a stage waits for, each once, in the order they are first read."""
    found = (leaf.stage for expr in expressions_of(stage) for leaf in leaves(expr) if isinstance(leaf, Output))
    return tuple(dict.fromkeys(found))
