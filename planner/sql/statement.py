"""A parameterised read, and whether it is made only of what can be merged."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from planner.sql.catalog import Catalog, Kind, Table


class Dialect(StrEnum):
    SQLITE = "sqlite"
    POSTGRES = "postgres"


class Unmergeable(Exception):
    """Why instances of a read must stay statements of their own, as users are told."""


@dataclass(frozen=True, slots=True)
class ColumnRef:
    """A column by the name its table goes by in the statement."""

    table: str
    name: str


#: Names of ours in merged statements begin so.
OWN = "halo_"
AGGREGATES = (exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max)
COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One SELECT over tables that are known. `tables` are in the order of FROM, by the names they go by."""

    select: exp.Select
    dialect: Dialect
    tables: dict[str, Table]

    @property
    def parameters(self) -> list[str]:
        """The names that stand for values, each once."""
        return list(dict.fromkeys(str(place.this) for place in self.select.find_all(exp.Placeholder)))

    @property
    def joins(self) -> list[exp.Join]:
        return list(self.select.args.get("joins") or ())

    @property
    def group(self) -> list[exp.Expr]:
        """The GROUP BY terms."""
        return _terms(self.select, "group")

    @property
    def order(self) -> list[exp.Expr]:
        """The ORDER BY terms, without their directions. An alias or a number stands for what it names."""
        return [self._projection(term.this) or term.this for term in _terms(self.select, "order")]

    @property
    def aggregated(self) -> bool:
        return bool(self.group) or any(isinstance(node, AGGREGATES) for node in self.select.walk())

    @property
    def answers_once(self) -> bool:
        """An aggregate over everything: it has one row even where there is nothing to aggregate."""
        return self.aggregated and not self.group

    @property
    def aliases(self) -> dict[str, exp.Expr]:
        return {one.alias.lower(): one.this for one in self.select.expressions if isinstance(one, exp.Alias)}

    def ref(self, column: exp.Column) -> ColumnRef:
        """Raises `Unmergeable` for a column of no known table."""
        name, table = column.name.lower(), column.table.lower()
        if table:
            owners = [table] if table in self.tables and name in self.tables[table].columns else []
        else:
            owners = [owner for owner, known in self.tables.items() if name in known.columns]
        if not owners or (len(owners) > 1 and name not in self._used_to_join):
            raise Unmergeable(f"the column {column.sql()} is of no one known table")
        return ColumnRef(owners[0], name)

    def kind(self, ref: ColumnRef) -> Kind:
        return self.tables[ref.table].columns[ref.name]

    @property
    def _used_to_join(self) -> set[str]:
        return {one.name.lower() for join in self.joins for one in join.args.get("using") or ()}

    def _projection(self, term: exp.Expr) -> exp.Expr | None:
        if isinstance(term, exp.Column) and not term.table:
            return self.aliases.get(term.name.lower())
        if isinstance(term, exp.Literal) and not term.is_string:
            number = int(term.this) if term.this.isdigit() else 0
            if not 0 < number <= len(self.select.expressions):
                raise Unmergeable(f"ORDER BY {term.this} names no column")
            return _unaliased(self.select.expressions[number - 1])
        return None


def read_statement(sql: str, dialect: Dialect, catalog: Catalog) -> Statement:
    """The statement, of parts that merging understands. Raises `Unmergeable`."""
    select = _parsed(sql, dialect)
    _check_clauses(select)
    statement = Statement(select, dialect, dict(_tables(select, catalog)))
    for join in statement.joins:
        _check_join(join, dialect)
    for node in select.walk():
        _check_node(node, statement)
    _check_names(statement)
    return statement


def _parsed(sql: str, dialect: Dialect) -> exp.Select:
    try:
        statements = [one for one in sqlglot.parse(sql, read=dialect.value) if one is not None]
    except (SqlglotError, RecursionError):
        raise Unmergeable("it cannot be read") from None
    if len(statements) != 1:
        raise Unmergeable("it is not one statement")
    if not isinstance(statements[0], exp.Select):
        kind = "a set operation" if isinstance(statements[0], exp.SetOperation) else "no SELECT"
        raise Unmergeable(f"it is {kind}")
    return statements[0]


_CLAUSES = {"expressions", "from_", "joins", "where", "group", "having", "order", "distinct"}
_SAID = {"into": "SELECT INTO", "locks": "FOR UPDATE", "with_": "WITH", "windows": "WINDOW", "offset": "OFFSET"}


def _check_clauses(select: exp.Select) -> None:
    """Of the rest none is understood, so none is let through."""
    for clause, given in select.args.items():
        if given and clause not in _CLAUSES:
            raise Unmergeable(f"it has {_SAID.get(clause, clause.strip('_').upper())}")
    if not select.args.get("from_"):
        raise Unmergeable("it reads no table")
    group, distinct = select.args.get("group"), select.args.get("distinct")
    if group and any(given for part, given in group.args.items() if part != "expressions"):
        raise Unmergeable("it groups by more than columns")
    if distinct and distinct.args.get("on"):
        raise Unmergeable("it has DISTINCT ON")


def _tables(select: exp.Select, catalog: Catalog) -> Iterator[tuple[str, Table]]:
    named: set[str] = set()
    for source in (select.args["from_"].this, *(join.this for join in select.args.get("joins") or ())):
        if not isinstance(source, exp.Table) or any(
            given for part, given in source.args.items() if part not in ("this", "alias")
        ):
            raise Unmergeable("it reads more than plain tables")
        known, name = catalog.get(source.name.lower()), source.alias_or_name.lower()
        if known is None or source.alias_column_names:
            raise Unmergeable(f"the table {source.name} is not known")
        if name in named:
            raise Unmergeable(f"two tables go by the name {name}")
        named.add(name)
        yield name, known


def _check_join(join: exp.Join, dialect: Dialect) -> None:
    """Each row of the other side must be looked for once for each instance, as a RIGHT or FULL join does not."""
    side, kind = (join.side or "").upper(), (join.kind or "").upper()
    if join.method or side not in ("", "LEFT") or kind not in ("", "INNER", "CROSS", "OUTER"):
        raise Unmergeable(f"it has a {' '.join(filter(None, (join.method, side, kind)))} JOIN")
    joined = join.args.get("on") or join.args.get("using") or kind == "CROSS"
    if not joined and dialect is Dialect.POSTGRES:
        raise Unmergeable("it joins tables with a comma")
    if dialect is Dialect.SQLITE and join.args.get("on") and join.args["on"].find(exp.Placeholder):
        raise Unmergeable("a value stands in ON; put it into WHERE")


_STRUCTURE = (
    *(exp.Select, exp.From, exp.Join, exp.Table, exp.TableAlias, exp.Where, exp.Group, exp.Having, exp.Order),
    *(exp.Ordered, exp.Distinct, exp.Alias, exp.Identifier),
)
_SCALARS = (
    *(exp.Column, exp.Literal, exp.Null, exp.Boolean, exp.Placeholder, exp.Paren, exp.And, exp.Or, exp.Not, exp.Is),
    *COMPARISONS,
    *(exp.Between, exp.In, exp.Like, exp.Add, exp.Sub, exp.Mul, exp.Neg, exp.DPipe, exp.Case, exp.If),
    *(exp.Lower, exp.Upper, exp.Length, exp.Abs, exp.Round, exp.Coalesce),
)
#: Division may fail in PostgreSQL, and whether it does depends on which rows are looked at first.
_SCALARS_OF_SQLITE = (exp.Div, exp.Mod, exp.Substring, exp.Trim)
#: SQLite's own functions that give the same each time.
_FUNCTIONS_OF_SQLITE = frozenset(["date", "time", "datetime", "julianday", "ltrim", "rtrim", "instr"])


def _check_node(node: exp.Expr, statement: Statement) -> None:
    sqlite = statement.dialect is Dialect.SQLITE
    if isinstance(node, exp.Star):
        if not isinstance(node.parent, exp.Count):
            raise Unmergeable("it selects *")
    elif isinstance(node, AGGREGATES):
        _check_aggregate(node, statement)
    elif isinstance(node, exp.Anonymous | exp.Date):
        if not (sqlite and _is_steady(node)):
            raise Unmergeable(f"it calls {_called(node)}")
    elif isinstance(node, exp.Placeholder) and not (isinstance(node.this, str) and node.this):
        raise Unmergeable("its places have no names")
    elif isinstance(node, exp.In) and not node.expressions:
        raise Unmergeable("it has IN without a list")
    elif not isinstance(node, (*_STRUCTURE, *_SCALARS, *(_SCALARS_OF_SQLITE if sqlite else ()))):
        raise Unmergeable(f"it has {node.key.upper()}")
    elif isinstance(node, exp.Select) and node is not statement.select:
        raise Unmergeable("it holds another SELECT")


def _is_steady(call: exp.Expr) -> bool:
    """Dates are steady where none can mean today; so no place may stand in one."""
    texts = {one.this.lower().strip() for one in call.find_all(exp.Literal)}
    told = any(isinstance(node, exp.Column) for node in call.walk()) and call.find(exp.Placeholder) is None
    return _called(call) in _FUNCTIONS_OF_SQLITE and told and not texts & {"now", "localtime", "utc"}


def _called(call: exp.Expr) -> str:
    return (call.name if isinstance(call, exp.Anonymous) else call.key).lower()


def _check_aggregate(node: exp.Expr, statement: Statement) -> None:
    argument = node.this
    if argument is None or any(given for part, given in node.args.items() if part not in ("this", "big_int")):
        raise Unmergeable(f"it has {node.key.upper()} of several values")
    if node.find_ancestor(*AGGREGATES):
        raise Unmergeable("it aggregates aggregates")
    if isinstance(node, exp.Count):
        return
    if isinstance(argument, exp.Distinct):
        raise Unmergeable(f"it has {node.key.upper()} DISTINCT")
    if isinstance(node, exp.Min | exp.Max):
        if not isinstance(argument, exp.Column) or not is_identity(statement.kind(statement.ref(argument))):
            raise Unmergeable(f"it has {node.key.upper()} of what may be equal and still read differently")
    elif not _sums_exactly(argument, statement):
        raise Unmergeable(f"it has {node.key.upper()} of fractions, whose last digits follow the order of rows")


def is_identity(kind: Kind) -> bool:
    """Whether equal values of this kind are the same bytes."""
    return kind not in (Kind.EXACT, Kind.OTHER)


_TRUTHS = (*COMPARISONS, exp.Is, exp.Between, exp.In, exp.Like, exp.And, exp.Or, exp.Not)


def _sums_exactly(node: exp.Expr, statement: Statement) -> bool:
    """Whole numbers, or decimals of PostgreSQL. SQLite adds whole numbers exactly as long as sums stay below 2**53."""
    match node:
        case exp.Column():
            exact = (Kind.WHOLE, Kind.EXACT) if statement.dialect is Dialect.POSTGRES else (Kind.WHOLE,)
            return statement.kind(statement.ref(node)) in exact
        case exp.Literal():
            return not node.is_string and (node.this.isdigit() or statement.dialect is Dialect.POSTGRES)
        case exp.Null():
            return True
        case exp.Paren() | exp.Neg():
            return _sums_exactly(node.this, statement)
        case exp.Add() | exp.Sub() | exp.Mul():
            return _sums_exactly(node.left, statement) and _sums_exactly(node.right, statement)
        case exp.Case():
            branches = [branch.args["true"] for branch in node.args["ifs"]]
            return all(_sums_exactly(one, statement) for one in (*branches, node.args.get("default") or exp.Null()))
        case _:
            return isinstance(node, _TRUTHS)


def _check_names(statement: Statement) -> None:
    """Names of ours are ours alone, and every column of the answer keeps its name."""
    if any(one.name.lower().startswith(OWN) for one in statement.select.find_all(exp.Identifier)):
        raise Unmergeable(f"it uses a name that begins with {OWN}")
    if any(name.startswith(OWN) for table in statement.tables.values() for name in table.columns):
        raise Unmergeable(f"a table of it has a column that begins with {OWN}")
    for one in statement.select.expressions:
        if not isinstance(one, exp.Alias | exp.Column):
            raise Unmergeable(f"{one.sql(dialect=statement.dialect.value)} has no name; give it one with AS")
    columns = {name for table in statement.tables.values() for name in table.columns}
    for one in statement.select.find_all(exp.Column):
        if not one.table and one.name.lower() in columns & set(statement.aliases) and _could_be_either(one):
            raise Unmergeable(f"{one.name} may be a column or what is selected under that name")


def _could_be_either(column: exp.Column) -> bool:
    """Alone in ORDER BY it is what is selected; before grouping it is the column."""
    return column.find_ancestor(exp.Having) is not None or (
        column.find_ancestor(exp.Order) is not None and not isinstance(column.parent, exp.Ordered)
    )


def _unaliased(node: exp.Expr) -> exp.Expr:
    return node.this if isinstance(node, exp.Alias) else node


def _terms(select: exp.Select, clause: str) -> list[exp.Expr]:
    found = select.args.get(clause)
    return list(found.expressions) if found else []
