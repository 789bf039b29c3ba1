"""Plans as a tree: bodies below their stages, and beside each stage what it reads and what is said of it."""

from collections.abc import Iterator, Mapping, Sequence

from planner.ir.plan import Plan, Stage
from planner.ir.reads import stages_read
from planner.ir.sites import bodies_at


def tree(plans: Sequence[Plan], titles: Sequence[str], labels: Sequence[Mapping[str, str]]) -> str:
    """`labels[i]` says something of each stage of `plans[i]`, by its path (see `planner.ir.sites`)."""
    lines: list[str] = []
    for plan, title, texts in zip(plans, titles, labels, strict=True):
        lines += [title, *_lines(_branches(plan, ""), texts, "")]
    return "\n".join(lines) + "\n"


_Branch = tuple[str, Stage]


def _branches(plan: Plan, prefix: str) -> list[_Branch]:
    return [(prefix + stage.id, stage) for stage in plan.stages]


def _lines(branches: Sequence[_Branch], texts: Mapping[str, str], margin: str) -> Iterator[str]:
    for place, (path, stage) in enumerate(branches):
        is_last = place == len(branches) - 1
        yield f"{margin}{'└─' if is_last else '├─'} {_stage_line(path, stage, texts)}"
        inside = [branch for prefix, body in bodies_at(path, stage) for branch in _branches(body.plan, prefix)]
        yield from _lines(inside, texts, margin + ("   " if is_last else "│  "))


def _stage_line(path: str, stage: Stage, texts: Mapping[str, str]) -> str:
    read = ", ".join(dict.fromkeys(stages_read(stage)))
    said = " ".join(texts.get(path, stage.kind).split("\n"))
    return f"{stage.id}{f' (of {read})' if read else ''}: {said}"
