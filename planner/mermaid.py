"""Plans as a Mermaid flowchart: stages as boxes, what they read as arrows, bodies as boxes around boxes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from planner.ir.expressions import Column, leaves
from planner.ir.plan import Plan, Stage
from planner.ir.reads import expressions_of, stages_read
from planner.ir.sites import bodies_at, walk

_ESCAPES = {'"': "#quot;", "<": "#lt;", ">": "#gt;", "\n": "<br/>"}


def mermaid(plans: Sequence[Plan], labels: Sequence[Mapping[str, str]]) -> str:
    """`labels[i]` gives what is written under each stage of `plans[i]`, by its path (see `planner.ir.sites`)."""
    lines = ["flowchart TD"]
    for number, (plan, texts) in enumerate(zip(plans, labels, strict=True)):
        drawing = _Drawing(f"p{number}", plan, texts)
        lines += _indented(_box(f"p{number}", plan.name, drawing.outermost(plan)))
    return "\n".join(lines) + "\n"


class _Drawing:
    """The lines of one plan. Stages and columns are numbered, for their own names may hold anything."""

    def __init__(self, name: str, plan: Plan, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._stages = {site.path: f"{name}s{index}" for index, site in enumerate(walk(plan))}
        self._columns = {given.name: f"{name}c{index}" for index, given in enumerate(plan.inputs)}

    def outermost(self, plan: Plan) -> Iterator[str]:
        """The plan with its columns."""
        for column, name in self._columns.items():
            yield f'{name}(["{_escape(column)}"])'
        yield from self._plan(plan, "")
        for stage in plan.stages:
            for column in _columns_read(stage):
                yield f"{self._columns[column]} --> {self._stages[stage.id]}"

    def _plan(self, plan: Plan, prefix: str) -> Iterator[str]:
        for stage in plan.stages:
            yield from self._stage(stage, prefix + stage.id)
        for stage in plan.stages:
            for source in stages_read(stage):
                yield f"{self._stages[prefix + source]} --> {self._stages[prefix + stage.id]}"

    def _stage(self, stage: Stage, path: str) -> Iterator[str]:
        name, text = self._stages[path], f"{stage.id}\n{self._texts.get(path, stage.kind)}"
        bodies = bodies_at(path, stage)
        if not any(body.plan.stages for _, body in bodies):
            yield f'{name}["{_escape(text)}"]'
            return
        yield from _box(name, text, (line for prefix, body in bodies for line in self._plan(body.plan, prefix)))


def _box(name: str, text: str, inside: Iterable[str]) -> Iterator[str]:
    yield f'subgraph {name}["{_escape(text)}"]'
    yield from _indented(inside)
    yield "end"


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _columns_read(stage: Stage) -> tuple[str, ...]:
    names = (leaf.name for expr in expressions_of(stage) for leaf in leaves(expr) if isinstance(leaf, Column))
    return tuple(dict.fromkeys(names))


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
