"""A plan made ready to be run many times: who waits for whom, as indices."""

from dataclasses import dataclass

from planner.ir.plan import Plan, Stage
from planner.ir.reads import stages_read


@dataclass(frozen=True, slots=True)
class Template:
    """`needs[i]` counts the stages that stage `i` waits for; `feeds[i]` are those that wait for it."""

    stages: tuple[Stage, ...]
    needs: tuple[int, ...]
    feeds: tuple[tuple[int, ...], ...]


class Templates:
    """One `Template` for each plan object of a job; bodies are met again for every row."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Plan, Template]] = {}  # the plan is kept so that its id is not given away

    def of(self, plan: Plan) -> Template:
        known = self._made.get(id(plan))
        if known is None:
            known = self._made[id(plan)] = (plan, make_template(plan))
        return known[1]


def make_template(plan: Plan) -> Template:
    index = {stage.id: i for i, stage in enumerate(plan.stages)}
    reads = [tuple(index[name] for name in stages_read(stage)) for stage in plan.stages]
    feeds: list[list[int]] = [[] for _ in plan.stages]
    for reader, sources in enumerate(reads):
        for source in sources:
            feeds[source].append(reader)
    return Template(plan.stages, tuple(map(len, reads)), tuple(map(tuple, feeds)))
