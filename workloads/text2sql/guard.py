"""What a model wrote, before SQLite sees it: only one reading query gets through.

    refusal = refusal_of("SELECT 1; DROP TABLE film")   # QueryError(code="sql_many_statements", message="...")

This is the first of three layers: `sandbox` lets SQLite itself refuse what this might miss, and a killable process
bounds the rest. Its second use is a clear message, from which a model can mend its query.
"""

from collections.abc import Iterator
from itertools import pairwise

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import ParseError, TokenError

from workloads.text2sql.functions import ALLOWED_FUNCTIONS
from workloads.text2sql.sandbox import QueryError

MAX_CHARACTERS = 20_000
MAX_DEPTH = 60


def refusal_of(sql: str) -> QueryError | None:
    """None for a single SELECT (also WITH ... SELECT, UNION, INTERSECT, EXCEPT) that calls known functions only.

    Never raises, and takes time in proportion to `MAX_CHARACTERS` at most.
    """
    if refusal := _refusal_of_text(sql):
        return refusal
    try:
        tokens = sqlglot.tokenize(sql, read="sqlite")
        return _refusal_of_tokens(tokens) or _refusal_of_tree(sqlglot.parse_one(sql, read="sqlite"))
    except TokenError:
        return QueryError("sql_syntax", "The query cannot be read: a quote or a bracket is not closed.")
    except ParseError as error:
        return QueryError("sql_syntax", _place_of(error))
    except RecursionError:
        return TOO_DEEP


TOO_DEEP = QueryError("sql_too_deep", f"The query is nested too deeply. Use fewer than {MAX_DEPTH} levels of brackets.")


def _refusal_of_text(sql: str) -> QueryError | None:
    if not sql.strip():
        return QueryError("sql_empty", "There is no SQL here. Write one SELECT query.")
    if len(sql) > MAX_CHARACTERS:
        return QueryError(
            "sql_too_long", f"The query has {len(sql):,} characters; at most {MAX_CHARACTERS:,} are allowed."
        )
    if "\0" in sql:
        return QueryError("sql_syntax", "The query holds a NUL character. Remove it.")
    return None


def _refusal_of_tokens(tokens: list[Token]) -> QueryError | None:
    statement = [token for token in tokens if token.token_type is not TokenType.SEMICOLON]
    if not statement:
        return QueryError("sql_empty", "There is no SQL here. Write one SELECT query.")
    if _first_verb(statement) is not TokenType.SELECT:
        return NOT_SELECT
    if tokens[: len(statement)] != statement:
        return QueryError("sql_many_statements", "There is more than one statement. Send one SELECT query only.")
    if _deepest(statement) > MAX_DEPTH:
        return TOO_DEEP
    if any(_names_a_parameter(token) for token in statement):
        return PARAMETER
    if any(token.token_type is TokenType.L_BRACE for token in statement):
        return QueryError("sql_syntax", "The query holds curly brackets, which SQLite does not know.")
    return _refusal_of_functions(statement)


NOT_SELECT = QueryError("sql_not_select", "Only a SELECT query (or WITH ... SELECT) may run. Start with SELECT.")


def _first_verb(tokens: list[Token]) -> TokenType | None:
    """What the statement does: its first word, or the first after the tables of its WITH."""
    if tokens[0].token_type is not TokenType.WITH:
        return tokens[0].token_type
    depth = 0
    for token, following in pairwise(tokens):
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        ended = depth == 0 and token.token_type is TokenType.R_PAREN
        if ended and following.token_type not in (TokenType.COMMA, TokenType.ALIAS):
            return following.token_type
    return None


def _deepest(tokens: list[Token]) -> int:
    depth = most = 0
    for token in tokens:
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        most = max(most, depth)
    return most


def _refusal_of_functions(tokens: list[Token]) -> QueryError | None:
    """Names are taken from the text, as SQLite will read them; the parsed tree gives some functions other names."""
    for at, token in enumerate(tokens[:-1]):
        called = tokens[at + 1].token_type is TokenType.L_PAREN and _is_call(tokens, at)
        if called and token.text.lower() not in ALLOWED_FUNCTIONS:
            return QueryError(
                "sql_function", f"The function {token.text[:80]} may not be used. Write the query without it."
            )
    return None


def _names_a_parameter(token: Token) -> bool:
    """SQLite takes `$name` for a parameter, the parser takes it for a column."""
    return token.text.startswith("$") and token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER)


PARAMETER = QueryError("sql_parameter", "The query has an open parameter. Write the value itself.")

#: Words that may stand before a bracket without being called.
KEYWORDS = """
    ALL AND AS BETWEEN BY CASE DISTINCT ELSE ESCAPE EXCEPT EXISTS FILTER FROM HAVING IN INTERSECT IS JOIN LIKE LIMIT
    MATERIALIZED NOT OFFSET ON OR OVER SELECT THEN UNION USING VALUES WHEN WHERE
"""
NEVER_CALLED = frozenset(KEYWORDS.split())


def _is_call(tokens: list[Token], at: int) -> bool:
    token = tokens[at]
    if token.token_type is TokenType.STRING or not (token.text[:1].isalpha() or token.text[:1] == "_"):
        return token.token_type is TokenType.IDENTIFIER
    if token.token_type is not TokenType.IDENTIFIER and token.text.upper() in NEVER_CALLED:
        return False
    return not _names_a_common_table(tokens, at)


def _names_a_common_table(tokens: list[Token], at: int) -> bool:
    """Whether `name (column, ...) AS [NOT] [MATERIALIZED] (` starts here, which no call can be followed by."""
    depth, end = 0, at + 1
    for end in range(at + 1, len(tokens)):
        depth += (tokens[end].token_type is TokenType.L_PAREN) - (tokens[end].token_type is TokenType.R_PAREN)
        if depth == 0:
            break
    words = [token.text.upper() for token in tokens[end + 1 : end + 5]]
    while len(words) > 1 and words[1] in ("NOT", "MATERIALIZED"):
        del words[1]
    return words[:2] == ["AS", "("]


def _refusal_of_tree(statement: exp.Expr) -> QueryError | None:
    if not isinstance(statement, exp.Select | exp.SetOperation):
        return NOT_SELECT
    return next(_refusals_of_nodes(statement), None)


def _refusals_of_nodes(statement: exp.Expr) -> Iterator[QueryError]:
    for node in statement.walk():
        if isinstance(node, exp.DML | exp.DDL) and not isinstance(node, exp.Query):
            yield QueryError("sql_writes", "The query would change data. Only reading is allowed.")
        elif isinstance(node, exp.Placeholder | exp.Parameter):
            yield PARAMETER
        elif not isinstance(node, ALLOWED_NODES) or isinstance(node, exp.Dot):
            yield QueryError("sql_construct", f"{type(node).__name__.upper()} may not be used. Write plain SELECT SQL.")
        elif isinstance(node, exp.Table):
            yield from _refusals_of_table(node)
        elif isinstance(node, exp.In) and node.args.get("field") is not None:
            yield QueryError("sql_construct", "IN needs a list or a SELECT in brackets after it.")


def _refusals_of_table(table: exp.Table) -> Iterator[QueryError]:
    if table.catalog or table.db.lower() not in ("", "main"):
        yield QueryError(
            "sql_table", f"The table {table.sql()[:80]} is in another database. Use tables of this one only."
        )
    elif table.name.lower().startswith(("sqlite_", "pragma_", "dbstat", "fts3tokenize")):
        yield QueryError("sql_table", f"The table {table.name[:80]} is internal. Use the tables of the schema only.")


def _place_of(error: ParseError) -> str:
    first = error.errors[0] if error.errors else {}
    where = f" near line {first['line']}, column {first['col']}" if first.get("line") else ""
    return f"The query has a syntax error{where}. {first.get('description') or ''}".strip()[:500]


#: All that a reading query is made of. Functions are checked by name.
ALLOWED_NODES = (
    exp.Select,
    exp.SetOperation,
    exp.Subquery,
    exp.With,
    exp.CTE,
    exp.From,
    exp.Join,
    exp.Where,
    exp.Group,
    exp.Having,
    exp.Order,
    exp.Ordered,
    exp.Limit,
    exp.Offset,
    exp.Distinct,
    exp.Table,
    exp.TableAlias,
    exp.Values,
    exp.Tuple,
    exp.Alias,
    exp.Column,
    exp.Identifier,
    exp.Star,
    exp.Var,
    exp.Literal,
    exp.Null,
    exp.Boolean,
    exp.HexString,
    exp.Paren,
    exp.Func,
    exp.Binary,
    exp.Unary,
    exp.Between,
    exp.Escape,
    exp.In,
    exp.DataType,
    exp.DataTypeParam,
    exp.Window,
    exp.WindowSpec,
    exp.Filter,
    exp.JSONPath,
    exp.JSONPathPart,
)
