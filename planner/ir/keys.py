"""What names a plan, a stage's work and a value by their content. Equal content, equal key; nothing else enters.

Keys are BLAKE2b digests of 16 bytes: two different contents meet in a key with a chance of about 1 in 10^20 for a
billion keys. Each kind of content is hashed under its own personalisation, so that kinds never meet.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b

from planner.ir.expressions import Column, Const, Expr, Output, Path, leaves
from planner.ir.ids import ContentKey, StageId
from planner.ir.plain import as_data
from planner.ir.plan import Agent, Effect, Generate, Plan, Stage, Tool
from planner.ir.reads import bodies_of, expressions_of
from planner.ir.rewrite import Leaf, replace_bodies, replace_leaves, replace_reads
from planner.ir.values import Json, canonical_json, ordered_json

KEY_BYTES = 16

#: Stands where a stage reads something. No input has an empty name, so no stage can be mistaken for it.
_HOLE = Column("")


def content_hash(plan: Plan) -> str:
    """The name of a plan by all that stands in it, ids, version and the order of names in its schemas included."""
    return _digest(b"plan", ordered_json(as_data(plan)))


def is_fixed(stage: Stage) -> bool:
    """True when equal inputs must give equal answers, so that the work may be done once (DESIGN section 4).

    Greedy or seeded calls, pure tools, joins; bodies when all in them is fixed.
    """
    match stage:
        case Generate():
            return stage.sampling.fixed
        case Tool():
            return stage.tool.effect is Effect.PURE
        case Agent():
            return stage.sampling.fixed and all(tool.effect is Effect.PURE for tool in stage.tools)
        case _:
            return all(is_fixed(inner) for body in bodies_of(stage) for inner in body.plan.stages)


def operator_key(stage: Stage) -> str:
    """What a stage does, without its id and without what it reads. Ids inside its bodies do not matter either.

    Literal text is part of it, and so is the order of names in a schema: the answer's fields come in that order. Two
    stages do equal work when these keys and what `operands` read are equal.
    """
    holed = replace_reads(stage, lambda leaf: leaf if isinstance(leaf, Const) else _HOLE)
    anonymous = replace_bodies(holed, lambda body: replace(body, plan=_without_names(body.plan)))
    return _digest(b"operator", ordered_json(as_data(replace(anonymous, id=StageId("")))))


def operands(stage: Stage) -> tuple[Column | Output, ...]:
    """What a stage reads, in the order of the holes in its operator; the same one twice where it is read twice."""
    return tuple(leaf for expr in expressions_of(stage) for leaf in leaves(expr) if not isinstance(leaf, Const))


def value_key(data: Json) -> str:
    """The key of a value that a column holds. `1`, `1.0` and `True` are three values: they read differently."""
    return _digest(b"value", canonical_json(data))


def work_key(operator: str, inputs: Iterable[str]) -> ContentKey:
    """The key of a stage's work: its operator applied to these inputs, each named by its key."""
    return ContentKey(_digest(b"work", operator + "".join(inputs)))


def output_key(work: ContentKey, path: Path) -> str:
    """The key of what `path` finds in the output of the work named `work`."""
    return _digest(b"output", work + canonical_json(path)) if path else work


def _digest(kind: bytes, text: str) -> str:
    return blake2b(text.encode(), digest_size=KEY_BYTES, person=kind).hexdigest()


def _without_names(plan: Plan) -> Plan:
    """The plan with its stages numbered; its columns keep their names, for bindings and `item` and `state` use them."""
    number = {stage.id: StageId(str(index)) for index, stage in enumerate(plan.stages)}
    stages = tuple(_numbered(stage, number) for stage in plan.stages)
    result = replace_leaves(plan.result, lambda leaf: _renumber(leaf, number))
    return Plan("", plan.inputs, stages, result, "")


def _numbered(stage: Stage, number: Mapping[StageId, StageId]) -> Stage:
    renamed = replace(replace_reads(stage, lambda leaf: _renumber(leaf, number)), id=number[stage.id])
    return replace_bodies(renamed, lambda body: replace(body, plan=_without_names(body.plan)))


def _renumber(leaf: Leaf, number: Mapping[StageId, StageId]) -> Expr:
    return replace(leaf, stage=number[leaf.stage]) if isinstance(leaf, Output) else leaf
