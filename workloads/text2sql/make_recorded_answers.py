"""Makes `workloads/data/recorded_answers.jsonl`: `python -m workloads.text2sql.make_recorded_answers [FILE]`.

Every answer is made from the gold SQL by `mutations`, run, and kept only if it is what it is meant to be. How often a
question is answered rightly is drawn from its id, so the same file comes out each time.
"""

import json
import sys
import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp

from workloads.text2sql.datasets import Question, read_own
from workloads.text2sql.make_databases import make_databases
from workloads.text2sql.mutations import broken, misread, restyled
from workloads.text2sql.recorded import RECORDED_ANSWERS
from workloads.text2sql.sample_databases.words import Draw
from workloads.text2sql.schema import DatabaseSchema, read_schema
from workloads.text2sql.score import execution_match

CANDIDATES = 4


@dataclass(frozen=True, slots=True)
class Ability:
    """How likely a candidate is right, or runs and is wrong; else it is broken. `mended`: its repair is right."""

    right: float
    wrong: float
    mended: float


EASY, MEDIUM, HARD = Ability(0.84, 0.04, 0.95), Ability(0.62, 0.16, 0.85), Ability(0.12, 0.66, 0.2)


@dataclass(frozen=True, slots=True)
class Variants:
    """What a model might have written: each list holds at least one query of its kind."""

    right: list[str]
    wrong: list[str]
    broken: list[str]


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED_ANSWERS
    with tempfile.TemporaryDirectory() as folder:
        records = recorded_answers(Path(folder))
    path.write_text("".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records), encoding="utf-8")
    print(f"{path}: {len(records)} answers")


def recorded_answers(folder: Path) -> list[dict[str, Any]]:
    """The records, made with the sample databases, which are written into `folder`."""
    make_databases(folder)
    dataset = read_own(folder)
    variants: dict[str, Variants] = {}
    schemas = {db_id: read_schema(path, examples=0) for db_id, path in dataset.databases.items()}
    for question in dataset.questions:
        if question.base_id not in variants:
            variants[question.base_id] = _variants_of(question, dataset.databases[question.db_id])
    return [_record(question, variants[question.base_id], schemas[question.db_id]) for question in dataset.questions]


def _variants_of(question: Question, database: Path) -> Variants:
    gold = sqlglot.parse_one(question.gold_sql, read="sqlite")
    found: dict[str, list[str]] = {"match": [question.gold_sql], "different": [], "failed": []}
    for sql in dict.fromkeys([*restyled(gold), *misread(gold), *broken(gold)]):
        found[execution_match(database, question.gold_sql, sql).verdict].append(sql)
    assert all(found.values()), question.id
    return Variants(found["match"], found["different"], found["failed"])


def _record(question: Question, variants: Variants, schema: DatabaseSchema) -> dict[str, Any]:
    """One line of the file. A question that is hard in one wording is mostly hard in the others."""
    draw = Draw(zlib.crc32(question.id.encode()))
    ability = _ability_for(Draw(zlib.crc32(question.base_id.encode())) if draw.chance(0.8) else draw)
    favourite = draw.one(variants.wrong)
    candidates = [_candidate(draw, ability, variants, favourite) for _ in range(CANDIDATES)]
    repairs = {
        sql: draw.one(variants.right) if draw.chance(ability.mended) else favourite
        for sql in dict.fromkeys(candidates)
        if sql in variants.broken
    }
    tables = _linked_tables(question.gold_sql, schema, draw)
    return {"question_id": question.id, "tables": tables, "candidates": candidates, "repairs": repairs}


def _ability_for(draw: Draw) -> Ability:
    if draw.chance(0.58):
        return EASY
    return MEDIUM if draw.chance(0.66) else HARD


def _candidate(draw: Draw, ability: Ability, variants: Variants, favourite: str) -> str:
    """A model that misreads a question mostly misreads it the same way each time."""
    if draw.chance(ability.right):
        return draw.one(variants.right)
    if draw.chance(ability.wrong / (1 - ability.right)):
        return favourite if draw.chance(0.8) else draw.one(variants.wrong)
    return draw.one(variants.broken)


def _linked_tables(gold_sql: str, schema: DatabaseSchema, draw: Draw) -> list[dict[str, Any]]:
    """The tables and columns the gold query uses; now and then one table more, as a cautious model names it."""
    statement = sqlglot.parse_one(gold_sql, read="sqlite")
    used = {table.name for table in statement.find_all(exp.Table)}
    named = {column.name for column in statement.find_all(exp.Column)}
    spare = [table.name for table in schema.tables if table.name not in used]
    if spare and draw.chance(0.25):
        used.add(draw.one(spare))
    return [
        {"table": table.name, "columns": _columns_used((column.name for column in table.columns), named)}
        for table in schema.tables
        if table.name in used
    ]


def _columns_used(columns: Iterable[str], named: set[str]) -> list[str]:
    """Those that are named, in the table's order; the first, its key, where none is."""
    known = list(columns)
    return [column for column in known if column in named] or known[:1]


if __name__ == "__main__":
    main()
