"""Ways in which a model's SQL differs from the gold SQL: in style only, in meaning, or so that it does not run.

Each function gives new statements and leaves the given one alone. Whether a variant truly is right, wrong or broken is
not known here; `make_recorded_answers` runs it.
"""

from collections.abc import Callable, Iterator

from sqlglot import exp

Statement = exp.Expr
Change = Callable[[exp.Expr], exp.Expr]
Rename = Callable[[str], str]


def restyled(gold: Statement) -> Iterator[str]:
    """The same query as others would have written it."""
    yield gold.sql(dialect="sqlite", normalize_functions="upper")
    yield gold.sql(dialect="sqlite", pretty=True)
    yield _with_aliases(gold, "T{0}").sql(dialect="sqlite")
    yield _with_aliases(gold, "{1}_{0}").sql(dialect="sqlite", normalize_functions="lower")
    yield _with_named_outputs(gold).sql(dialect="sqlite")
    yield _transformed(gold, exp.Count, _counting_ones).sql(dialect="sqlite")


def _with_aliases(gold: Statement, pattern: str) -> Statement:
    """Table aliases renamed: {0} is the number of the table, {1} its first letter."""
    statement = gold.copy()
    tables = [table for table in statement.find_all(exp.Table) if table.alias]
    names = {table.alias: pattern.format(number, table.name[0]) for number, table in enumerate(tables, 1)}
    for table in tables:
        table.set("alias", exp.TableAlias(this=exp.to_identifier(names[table.alias])))
    for column in statement.find_all(exp.Column):
        if column.table in names:
            column.set("table", exp.to_identifier(names[column.table]))
    return statement


def _with_named_outputs(gold: Statement) -> Statement:
    statement = gold.copy()
    if isinstance(statement, exp.Select):
        named = [
            exp.alias_(output, f"{output.key}_{at}") if isinstance(output, exp.AggFunc) else output
            for at, output in enumerate(statement.expressions, 1)
        ]
        statement.set("expressions", named)
    return statement


def _counting_ones(count: exp.Expr) -> exp.Expr:
    return _with_value(count, "this", exp.Literal.number(1)) if isinstance(count.this, exp.Star) else count


def misread(gold: Statement) -> Iterator[str]:
    """Queries that run and answer another question: the mistakes models make."""
    for statement in (
        *_without_conditions(gold),
        *_with_other_aggregates(gold),
        *_with_other_comparisons(gold),
        *_with_other_order(gold),
        *_with_other_literals(gold),
        *_without_parts(gold),
    ):
        yield statement.sql(dialect="sqlite")


def _without_conditions(gold: Statement) -> Iterator[Statement]:
    """One of several conditions forgotten, or the only one."""
    for at, where in enumerate(gold.find_all(exp.Where)):
        if isinstance(where.this, exp.And):
            for side in ("this", "expression"):
                statement = gold.copy()
                place = list(statement.find_all(exp.Where))[at]
                place.set("this", place.this.args[side])
                yield statement
        else:
            statement = gold.copy()
            list(statement.find_all(exp.Where))[at].pop()
            yield statement


def _with_other_aggregates(gold: Statement) -> Iterator[Statement]:
    for old, new in ((exp.Avg, exp.Max), (exp.Sum, exp.Avg), (exp.Max, exp.Avg), (exp.Min, exp.Max)):
        if gold.find(old):
            yield _transformed(gold, old, _replaced_by(new))


def _with_other_comparisons(gold: Statement) -> Iterator[Statement]:
    swaps = ((exp.GT, exp.GTE), (exp.GTE, exp.GT), (exp.LT, exp.LTE), (exp.GT, exp.LT), (exp.LT, exp.GT))
    for old, new in swaps:
        if gold.find(old):
            yield _transformed(gold, old, _replaced_by(new))


def _replaced_by(kind: type[exp.Expr]) -> Change:
    """The same operands under another operator or function."""
    return lambda node: kind(**{name: value.copy() for name, value in node.args.items() if isinstance(value, exp.Expr)})


def _with_other_order(gold: Statement) -> Iterator[Statement]:
    if gold.find(exp.Ordered):
        yield _transformed(gold, exp.Ordered, lambda node: _with_value(node, "desc", not node.args.get("desc")))


def _with_other_literals(gold: Statement) -> Iterator[Statement]:
    """The wrong case of a text, which finds nothing; another limit."""
    for literal in gold.find_all(exp.Literal):
        if literal.is_string and literal.this != literal.this.lower():
            yield _transformed(
                gold, exp.Literal, lambda node: exp.Literal.string(node.this.lower()) if node.is_string else node
            )
            break
    if gold.find(exp.Limit):
        yield _transformed(gold, exp.Limit, lambda node: _with_value(node, "expression", exp.Literal.number(10)))


def _without_parts(gold: Statement) -> Iterator[Statement]:
    for part in ("having", "distinct", "limit"):
        if gold.args.get(part):
            yield _with_value(gold.copy(), part, None)
    if isinstance(gold, exp.Select) and len(gold.expressions) > 1:
        yield _with_value(gold.copy(), "expressions", [output.copy() for output in gold.expressions[:-1]])
        yield _with_value(gold.copy(), "expressions", [output.copy() for output in reversed(gold.expressions)])


def broken(gold: Statement) -> Iterator[str]:
    """Queries that SQLite or the guard refuses: names that are not there, functions of other databases."""
    columns = dict.fromkeys(column.name for column in gold.find_all(exp.Column))
    for name in columns:
        for rename in MISSPELLINGS:
            yield _renamed(gold, exp.Column, name, rename).sql(dialect="sqlite")
    for name in dict.fromkeys(table.name for table in gold.find_all(exp.Table)):
        yield _renamed(gold, exp.Table, name, lambda old: f"{old}s").sql(dialect="sqlite")
    text = gold.sql(dialect="sqlite")
    for known, foreign in (("JULIANDAY(", "TO_DAYS("), ("STRFTIME('%m', ", "MONTH("), ("LIMIT ", "FETCH FIRST ")):
        if known in text:
            yield text.replace(known, foreign)
    yield _unqualified(gold).sql(dialect="sqlite")


def _unqualified(gold: Statement) -> Statement:
    """Column names without their tables, which a join mostly makes ambiguous."""
    return _transformed(gold, exp.Column, lambda node: _with_value(node, "table", None))


MISSPELLINGS: tuple[Rename, ...] = (
    lambda name: name.replace("_", ""),
    lambda name: f"{name}_name",
    lambda name: name.rsplit("_", 1)[0] + "_at",
    lambda name: "".join(part.title() for part in name.split("_")) + "Value",
)


def _renamed(gold: Statement, kind: type[exp.Expr], name: str, rename: Rename) -> Statement:
    def change(node: exp.Expr) -> exp.Expr:
        return _with_value(node, "this", exp.to_identifier(rename(name))) if node.name == name else node

    return _transformed(gold, kind, change)


def _transformed(gold: Statement, kind: type[exp.Expr], change: Change) -> Statement:
    return gold.copy().transform(lambda node: change(node) if isinstance(node, kind) else node)


def _with_value(node: exp.Expr, name: str, value: object) -> exp.Expr:
    node.set(name, value)
    return node
