"""Every stage of a plan and where it stands, bodies included."""

from collections.abc import Iterator
from dataclasses import dataclass

from planner.ir.paths import branch_prefix
from planner.ir.plan import Body, Choose, Loop, Map, Plan, Stage
from planner.ir.reads import bodies_of


@dataclass(frozen=True, slots=True)
class Site:
    """A stage and the way to it: `draft[*]/write` is the stage `write` of each item of `draft`.

    `[*]` stands for any item of a Map, `#*` for any round of a Loop, `?1` for the second branch of a Choose.
    """

    path: str
    stage: Stage
    depth: int


def walk(plan: Plan, prefix: str = "", depth: int = 0) -> Iterator[Site]:
    """Outer stages before the stages of their bodies, in the plan's order."""
    for stage in plan.stages:
        yield Site(prefix + stage.id, stage, depth)
        for body_prefix, body in bodies_at(prefix + stage.id, stage):
            yield from walk(body.plan, body_prefix, depth + 1)


def bodies_at(path: str, stage: Stage) -> tuple[tuple[str, Body], ...]:
    """The bodies of the stage at `path`, each with the prefix of its own stages."""
    match stage:
        case Choose():
            return tuple((branch_prefix(path, index), body) for index, body in enumerate(bodies_of(stage)))
        case Map(body=body):
            return ((f"{path}[*]/", body),)
        case Loop(body=body):
            return ((f"{path}#*/", body),)
        case _:
            return ()


def given_input(stage: Stage) -> str | None:
    """The column a stage gives its body beside the bindings."""
    match stage:
        case Map():
            return "item"
        case Loop():
            return "state"
        case _:
            return None
