"""Whether the rows of an answer, and their order, follow from the data alone: then a merged statement gives the same.

Functional dependencies, as in any textbook: a key determines its table's columns, an equality determines either side.
"""

from collections.abc import Iterable, Iterator

from sqlglot import exp

from planner.sql.catalog import Kind
from planner.sql.statement import AGGREGATES, ColumnRef, Statement, Unmergeable, is_identity


def check_determined(statement: Statement) -> None:
    """Raises `Unmergeable` where the answer may come in more than one order, or hold a row picked out of many."""
    if statement.answers_once:
        if _outside_aggregates(statement):
            raise Unmergeable("it aggregates everything, and selects a column beside")
        return
    known = _closure(statement, _constants(statement) | set(_plain(statement, statement.order)))
    if statement.aggregated:
        _check_groups(statement, known)
    elif statement.select.args.get("distinct"):
        _check_distinct(statement, known)
    else:
        _check_covered(statement, known, _read(statement, statement.select.expressions))


def check_looked_up(statement: Statement) -> None:
    """Raises `Unmergeable` where no equality leads from a row to the instances that want it."""
    if not any(True for _ in looked_up(statement)):
        raise Unmergeable("no column has to equal a parameter, so one statement would look at as many rows as many do")


def looked_up(statement: Statement) -> Iterator[tuple[exp.Column, str]]:
    """The columns that have to equal a parameter, and its name."""
    for left, right in _equalities(statement):
        for column, place in ((left, right), (right, left)):
            if isinstance(column, exp.Column) and isinstance(place, exp.Placeholder):
                yield column, str(place.this)


def _check_groups(statement: Statement, known: set[ColumnRef]) -> None:
    for term in statement.group:
        if not isinstance(term, exp.Column) or (not term.table and term.name.lower() in statement.aliases):
            raise Unmergeable("it groups by more than columns")
        if not is_identity(statement.kind(statement.ref(term))):
            raise Unmergeable(f"it groups by {term.sql()}, whose equal values may read differently")
    keys = {statement.ref(term) for term in statement.group if isinstance(term, exp.Column)}
    loose = _outside_aggregates(statement) - _closure(statement, _constants(statement) | keys)
    if loose:
        raise Unmergeable(f"{_said(loose)} is picked out of many rows of a group")
    _check_covered(statement, known, keys)


def _check_distinct(statement: Statement, known: set[ColumnRef]) -> None:
    projected = [one.unalias() for one in statement.select.expressions]
    if not all(isinstance(one, exp.Column | exp.Placeholder | exp.Literal) for one in projected):
        raise Unmergeable("it has DISTINCT over more than columns")
    if any(term not in projected for term in statement.order):
        raise Unmergeable("it has DISTINCT, and is ordered by what it does not select")
    columns = _read(statement, projected)
    if not all(is_identity(statement.kind(column)) for column in columns):
        raise Unmergeable("it has DISTINCT over values that may be equal and still read differently")
    _check_covered(statement, known, columns)


def _check_covered(statement: Statement, known: set[ColumnRef], wanted: set[ColumnRef]) -> None:
    """Rows that stand level in the order must be the same row; else each statement has an order of its own for them."""
    if missing := wanted - known:
        what = "its ORDER BY leaves ties" if statement.order else "it has no ORDER BY"
        raise Unmergeable(f"{what}: add {_said(missing)}, or a key that determines it")


def _outside_aggregates(statement: Statement) -> set[ColumnRef]:
    """The columns read once for each group."""
    having = statement.select.args.get("having")
    parts = [*statement.select.expressions, *statement.order, *([having] if having else [])]
    return _read(statement, parts)


def _read(statement: Statement, parts: Iterable[exp.Expr]) -> set[ColumnRef]:
    return {
        statement.ref(column)
        for part in parts
        for column in part.find_all(exp.Column)
        if not column.find_ancestor(*AGGREGATES) and not _is_alias(statement, column)
    }


def _is_alias(statement: Statement, column: exp.Column) -> bool:
    """Whether it stands for a selected value, outside of what is selected."""
    named = not column.table and column.name.lower() in statement.aliases
    return named and column.find_ancestor(exp.Having, exp.Order) is not None


def _plain(statement: Statement, terms: Iterable[exp.Expr]) -> Iterator[ColumnRef]:
    for term in terms:
        if isinstance(term, exp.Column) and is_identity(statement.kind(statement.ref(term))):
            yield statement.ref(term)


def _constants(statement: Statement) -> set[ColumnRef]:
    """Columns that hold one value within an instance: they equal a literal or a parameter."""
    found = set()
    for left, right in _equalities(statement):
        for column, other in ((left, right), (right, left)):
            if isinstance(column, exp.Column) and _fixes(other, statement.kind(statement.ref(column))):
                found.add(statement.ref(column))
    return found


def _fixes(other: exp.Expr, kind: Kind) -> bool:
    if isinstance(other, exp.Literal):
        return kind is Kind.TEXT if other.is_string else kind in (Kind.WHOLE, Kind.NUMBER)
    return isinstance(other, exp.Placeholder) and is_identity(kind)


def _closure(statement: Statement, known: set[ColumnRef]) -> set[ColumnRef]:
    """All columns whose values follow from those of `known`."""
    pairs = list(_equal_columns(statement))
    while True:
        more = {other for one, other in pairs if one in known} | set(_by_keys(statement, known))
        if more <= known:
            return known
        known = known | more


def _by_keys(statement: Statement, known: set[ColumnRef]) -> Iterator[ColumnRef]:
    for name, table in statement.tables.items():
        if any(all(ColumnRef(name, column) in known for column in key) for key in table.keys):
            yield from (ColumnRef(name, column) for column in table.columns)


def _equal_columns(statement: Statement) -> Iterator[tuple[ColumnRef, ColumnRef]]:
    """Pairs of which either gives the other, both ways round: within a column, equal values are the same bytes."""
    for left, right in (*_equal_refs(statement), *_using(statement)):
        kinds = {statement.kind(left), statement.kind(right)}
        if kinds <= {Kind.WHOLE, Kind.NUMBER} or kinds in ({Kind.TEXT}, {Kind.DAY}):
            yield left, right
            yield right, left


def _equal_refs(statement: Statement) -> Iterator[tuple[ColumnRef, ColumnRef]]:
    for left, right in _equalities(statement):
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            yield statement.ref(left), statement.ref(right)


def _using(statement: Statement) -> Iterator[tuple[ColumnRef, ColumnRef]]:
    names = list(statement.tables)
    for at, join in enumerate(statement.joins, 1):
        for one in () if join.side else join.args.get("using") or ():
            name = one.name.lower()
            left = next((table for table in names[:at] if name in statement.tables[table].columns), None)
            if left is None or name not in statement.tables[names[at]].columns:
                raise Unmergeable(f"USING ({name}) is of no known tables")
            yield ColumnRef(left, name), ColumnRef(names[at], name)


def _equalities(statement: Statement) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    """What every row of the answer satisfies: of an outer join's ON that cannot be said."""
    where = statement.select.args.get("where")
    conditions = [where.this] if where else []
    conditions += [join.args["on"] for join in statement.joins if join.args.get("on") and not join.side]
    for condition in conditions:
        parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
        for part in parts:
            if isinstance(part.unnest(), exp.EQ):
                yield part.unnest().this, part.unnest().expression


def _said(columns: Iterable[ColumnRef]) -> str:
    return ", ".join(sorted(f"{column.table}.{column.name}" for column in columns))
