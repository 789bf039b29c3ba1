"""N instances of one parameterised read as one statement over a list of their values (set-oriented execution).

SELECT title FROM film WHERE genre = :genre ORDER BY film_id

WITH halo_instances(halo_instance, halo_genre) AS (VALUES (0, 'Drama'), (1, 'Comedy'))
SELECT title, halo_instances.halo_instance AS halo_instance FROM halo_instances, film
WHERE genre = halo_instances.halo_genre ORDER BY halo_instances.halo_instance, film_id
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlglot import exp

from planner.sql.catalog import Catalog
from planner.sql.determined import check_determined, check_looked_up, looked_up
from planner.sql.instances import INSTANCE, INSTANCES, Value, check_values, list_of_instances, value_of
from planner.sql.statement import Dialect, Statement, Unmergeable, read_statement

Cell = TypeVar("Cell")


@dataclass(frozen=True, slots=True)
class Merged:
    """One statement for all instances. Its last column says which instance a row belongs to: 0, 1, ...

    `answers_once` where an instance always has one row of its own, even when nothing is found for it.
    """

    sql: str
    instances: int
    answers_once: bool

    def split(self, rows: Sequence[Sequence[Cell]]) -> list[list[tuple[Cell, ...]] | None]:
        """The rows of each instance, in its order, as it would have got them by itself.

        None for an instance that must be asked by itself: an aggregate over nothing, which merging cannot answer.
        """
        answers: list[list[tuple[Cell, ...]]] = [[] for _ in range(self.instances)]
        for row in rows:
            number = row[-1]
            assert isinstance(number, int)
            answers[number].append(tuple(row[:-1]))
        return [None if self.answers_once and not answer else answer for answer in answers]


@dataclass(frozen=True, slots=True)
class NotMerged:
    """The instances stay statements of their own. `reason` reads on from "not merged: "."""

    reason: str


def merge(sql: str, instances: Sequence[Mapping[str, Value]], dialect: Dialect, catalog: Catalog) -> Merged | NotMerged:
    """One statement that answers them all; `:name` in `sql` stands for `instance["name"]`, written as a literal.

    Only where each instance provably gets the rows it would get alone, in the same order: one SELECT over known tables,
    inner and left joins, exact aggregates, and an order without ties. And only where a column must equal a parameter:
    by that instances are told apart in one scan; ranges and patterns would be tried for each of them anyway.

    What an instance would fail with by itself (a sum beyond 64 bits) fails the merged statement: run them one by one
    then. `catalog` must be true of the database.
    """
    try:
        statement = read_statement(sql, dialect, catalog)
        check_determined(statement)
        check_values(statement, instances)
        check_looked_up(statement)
    except Unmergeable as refusal:
        return NotMerged(str(refusal))
    return Merged(_written(statement, instances), len(instances), statement.answers_once)


def _written(statement: Statement, instances: Sequence[Mapping[str, Value]]) -> str:
    select = statement.select.copy()
    for place in list(select.find_all(exp.Placeholder)):
        place.replace(value_of(statement, str(place.this)))
    select.append("expressions", exp.alias_(exp.column(INSTANCE, table=INSTANCES), INSTANCE))
    if statement.aggregated:
        _prepend(select, exp.Group, "group", _grouped_by(statement))
    usual_nulls = statement.dialect is Dialect.SQLITE
    by_instance = exp.Ordered(this=exp.column(INSTANCE, table=INSTANCES), nulls_first=usual_nulls)
    _prepend(select, exp.Order, "order", [by_instance])
    _join_instances(select, statement)
    select.set("with_", exp.With(expressions=[list_of_instances(statement, instances)]))
    return select.sql(dialect=statement.dialect.value)


def _join_instances(select: exp.Select, statement: Statement) -> None:
    """PostgreSQL joins as it finds best. SQLite would scan the tables once for each instance, as it thinks little of a
    list; told to look instances up last, and which rows any of them wants, it scans once for all."""
    joins = select.args.get("joins") or []
    if statement.dialect is Dialect.POSTGRES:
        select.set("joins", [exp.Join(this=select.args["from_"].this, kind="CROSS"), *joins])
        select.set("from_", exp.From(this=exp.to_table(INSTANCES)))
        return
    select.set("joins", [*joins, exp.Join(this=exp.to_table(INSTANCES), kind="CROSS")])
    for column, name in looked_up(statement):
        wanted = exp.select(value_of(statement, name)).from_(INSTANCES)
        select.where(exp.In(this=column.copy(), query=exp.Subquery(this=wanted)), copy=False)


def _grouped_by(statement: Statement) -> list[exp.Expr]:
    """PostgreSQL wants to be told that an instance's values belong to it."""
    values = statement.parameters if statement.dialect is Dialect.POSTGRES else []
    return [exp.column(INSTANCE, table=INSTANCES), *(value_of(statement, name) for name in values)]


def _prepend(select: exp.Select, clause: type[exp.Expr], name: str, terms: list[exp.Expr]) -> None:
    before = select.args.get(name)
    select.set(name, clause(expressions=[*terms, *(before.expressions if before else ())]))
