"""The values of instances: where they may stand, and the list that holds them."""

import math
from collections.abc import Iterator, Mapping, Sequence

from sqlglot import exp

from planner.sql.catalog import Kind
from planner.sql.statement import COMPARISONS, OWN, Dialect, Statement, Unmergeable

Value = str | int | float | None

#: The list of instances, and the column that says which one a row belongs to.
INSTANCES = f"{OWN}instances"
INSTANCE = f"{OWN}instance"

_LARGEST = 2**63 - 1
_MATCHING: Mapping[type, tuple[Kind, ...]] = {
    str: (Kind.TEXT,),
    int: (Kind.WHOLE, Kind.NUMBER, Kind.EXACT),
    float: (Kind.WHOLE, Kind.NUMBER, Kind.EXACT),
}
#: Where PostgreSQL takes a value of a column as it takes the value itself.
_UNTYPED_PARENTS = (exp.Like, exp.DPipe, exp.Add, exp.Sub, exp.Mul, exp.Paren, exp.Alias)


def check_values(statement: Statement, instances: Sequence[Mapping[str, Value]]) -> None:
    """A value must do as a column of a list what it does as a literal: no text against numbers, and one type for all.

    SQLite converts before it compares, and converts a column otherwise than a literal; PostgreSQL guesses a literal's
    type from what stands beside it. Raises `Unmergeable`.
    """
    for name in statement.parameters:
        values = [_given(instance, name) for instance in instances]
        for value in values:
            _check_value(name, value, statement.dialect)
        types = {type(value) for value in values}
        if statement.dialect is Dialect.POSTGRES and len(types) > 1:
            raise Unmergeable(f":{name} is of several types")
        for place in _places(statement, name):
            _check_place(statement, place, types - {type(None)})


def list_of_instances(statement: Statement, instances: Sequence[Mapping[str, Value]]) -> exp.CTE:
    """`halo_instances(halo_instance, halo_value_0, ...) AS (VALUES (0, ...), ...)`: the number, and each parameter."""
    names = statement.parameters
    days = {name for name in names if any(_is_day(statement, place) for place in _places(statement, name))}
    rows = [
        exp.Tuple(expressions=[exp.convert(number), *(_literal(one[name], name in days) for name in names)])
        for number, one in enumerate(instances)
    ]
    columns = [exp.to_identifier(INSTANCE), *(exp.to_identifier(value_of(statement, name).name) for name in names)]
    alias = exp.TableAlias(this=exp.to_identifier(INSTANCES), columns=columns)
    return exp.CTE(this=exp.Values(expressions=rows), alias=alias)


def value_of(statement: Statement, name: str) -> exp.Column:
    """What stands in the merged statement where the parameter stood."""
    return exp.column(f"{OWN}value_{statement.parameters.index(name)}", table=INSTANCES)


def _given(instance: Mapping[str, Value], name: str) -> Value:
    if name not in instance:
        raise Unmergeable(f"there is no value for :{name}")
    return instance[name]


def _check_value(name: str, value: Value, dialect: Dialect) -> None:
    if value is None and dialect is Dialect.SQLITE:
        return
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unmergeable(f":{name} is neither text nor a number")
    if isinstance(value, str) and not _is_plain_text(value):
        raise Unmergeable(f":{name} holds a character that SQL cannot")
    if isinstance(value, float) and (not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0)):
        raise Unmergeable(f":{name} is {value}")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise Unmergeable(f":{name} is a larger number than a column holds")


def _is_plain_text(text: str) -> bool:
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def _places(statement: Statement, name: str) -> Iterator[exp.Expr]:
    """Where it stands, brackets around it included."""
    for place in statement.select.find_all(exp.Placeholder):
        outer: exp.Expr = place
        while isinstance(outer.parent, exp.Paren):
            outer = outer.parent
        if place.this == name:
            yield outer


def _named(place: exp.Expr) -> str:
    return f":{place.unnest().this}"


def _check_place(statement: Statement, place: exp.Expr, types: set[type]) -> None:
    parent = place.parent
    assert parent is not None
    if isinstance(parent, exp.Ordered | exp.Group):
        raise Unmergeable(f"{_named(place)} says what to order or group by")
    if _is_compared_by_case(place):
        raise Unmergeable(f"{_named(place)} is compared by CASE")
    if isinstance(parent, (*COMPARISONS, exp.Between, exp.In)):
        for other in _beside(place):
            _check_compared(statement, place, other, types)
    elif statement.dialect is Dialect.POSTGRES and not isinstance(parent, _UNTYPED_PARENTS):
        raise Unmergeable(f"{_named(place)} stands where PostgreSQL would guess its type")


def _is_compared_by_case(place: exp.Expr) -> bool:
    tested = place.parent if isinstance(place.parent, exp.If) else place
    case = tested.parent
    return place.arg_key == "this" and isinstance(case, exp.Case) and case.this is not None


def _beside(place: exp.Expr) -> list[exp.Expr]:
    """What it is compared with."""
    parent = place.parent
    assert parent is not None
    if isinstance(parent, exp.Between | exp.In):
        tested = parent.this
        return [one for one in parent.iter_expressions() if one is not place] if tested is place else [tested]
    return [parent.expression if parent.this is place else parent.this]


def _check_compared(statement: Statement, place: exp.Expr, other: exp.Expr, types: set[type]) -> None:
    name, beside = _named(place), other.unnest()
    if isinstance(beside, exp.Column):
        kind = statement.kind(statement.ref(beside))
        for one in types:
            day = kind is Kind.DAY and one is str and statement.dialect is Dialect.POSTGRES
            if kind not in _MATCHING[one] and not day:
                raise Unmergeable(f"{name} is {_SAID[one]}, and is compared with {beside.sql()}, which is not")
    elif isinstance(beside, exp.Cast | exp.Placeholder) or statement.dialect is Dialect.POSTGRES:
        raise Unmergeable(f"{name} is compared with something whose type is not known")


_SAID: Mapping[type, str] = {str: "text", int: "a number", float: "a number"}


def _is_day(statement: Statement, place: exp.Expr) -> bool:
    if not isinstance(place.parent, (*COMPARISONS, exp.Between, exp.In)):
        return False
    columns = [one.unnest() for one in _beside(place)]
    return any(isinstance(one, exp.Column) and statement.kind(statement.ref(one)) is Kind.DAY for one in columns)


def _literal(value: Value, day: bool) -> exp.Expr:
    return exp.cast(exp.convert(value), "date") if day else exp.convert(value)
