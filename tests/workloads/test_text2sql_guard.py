"""Only one reading query gets through: every gold query of Spider and BIRD does, no attack does, nothing raises."""

import itertools
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.text2sql.guard import MAX_CHARACTERS, refusal_of

DATA = Path(__file__).parents[3] / "shared" / "data"

WRITES = (
    "INSERT INTO film VALUES (1)",
    "INSERT OR REPLACE INTO film SELECT * FROM film",
    "REPLACE INTO film VALUES (1)",
    "UPDATE film SET title = 'x'",
    "DELETE FROM film",
    "DELETE FROM film RETURNING *",
    "DROP TABLE film",
    "DROP VIEW v",
    "DROP TABLE IF EXISTS film",
    "CREATE TABLE t (a)",
    "CREATE TEMP TABLE t AS SELECT * FROM film",
    "CREATE VIEW v AS SELECT 1",
    "CREATE INDEX i ON film (title)",
    "CREATE TRIGGER t AFTER INSERT ON film BEGIN DELETE FROM film; END",
    "CREATE VIRTUAL TABLE t USING fts5(a)",
    "ALTER TABLE film RENAME TO gone",
    "ATTACH DATABASE 'other.sqlite' AS other",
    "ATTACH ':memory:' AS scratch",
    "DETACH DATABASE main",
    "PRAGMA query_only = 0",
    "PRAGMA writable_schema = 1",
    "PRAGMA table_info(film)",
    "VACUUM",
    "VACUUM INTO 'copy.sqlite'",
    "REINDEX",
    "ANALYZE",
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "RELEASE s",
    "EXPLAIN SELECT 1",
    "EXPLAIN QUERY PLAN SELECT 1",
    "SHOW TABLES",
    "CALL f()",
    "COPY film TO PROGRAM 'sh'",
    "SET ROLE admin",
    "GRANT ALL ON film TO x",
    "TRUNCATE TABLE film",
    "MERGE INTO film USING f ON 1 WHEN MATCHED THEN DELETE",
)
DRESSINGS = (
    "{0}",
    "SELECT 1; {0}",
    "{0}; SELECT 1",
    "-- harmless\n{0}",
    "WITH a AS (SELECT 1) {0}",
)
FORBIDDEN_CALLS = (
    "printf('%.*c', 900000000, 'x')",
    "format('%d', 1)",
    "zeroblob(1000000000)",
    "randomblob(100)",
    "random()",
    "load_extension('evil.so')",
    "readfile('secret')",
    "writefile('a', 'b')",
    "edit('a')",
    "fts3_tokenizer('simple')",
    "sqlite_version()",
    "sqlite_source_id()",
    "sqlite_compileoption_get(1)",
    "sqlite_offset(title)",
    "last_insert_rowid()",
    "changes()",
    "total_changes()",
    "quote(title)",
    "soundex(title)",
    "json_group_array(title)",
    "json_object('a', 1)",
    "pg_read_file('secret')",
    "pg_sleep(10)",
    "lo_import('secret')",
    "dblink('host', 'SELECT 1')",
    "set_config('a', 'b', false)",
    "nextval('s')",
    "sleep(10)",
    "benchmark(1, 2)",
    "load_file('secret')",
    "xp_cmdshell('sh')",
    '"printf"(1)',
    "[printf](1)",
    "`printf`(1)",
    "main.printf(1)",
    "PrintF (1)",
    "printf/* hidden */(1)",
)
PLACES = (
    "SELECT {0}",
    "SELECT title FROM film WHERE {0} = 1",
    "SELECT title FROM film ORDER BY {0}",
    "WITH a AS (SELECT {0} AS x) SELECT x FROM a",
    "SELECT count(*) FROM film UNION SELECT {0}",
)
FORBIDDEN_TABLES = (
    "sqlite_master",
    "sqlite_schema",
    "sqlite_temp_master",
    "sqlite_sequence",
    "sqlite_stat1",
    "main.sqlite_master",
    "temp.t",
    "other.film",
    "a.b.film",
    "pragma_table_info('film')",
    "pragma_database_list",
    "dbstat",
    "generate_series(1, 1000000000)",
    "json_each('[1]')",
    "fts3tokenize('a')",
    "fsdir('.')",
    '"sqlite_master"',
    "SQLITE_MASTER",
)
READINGS = (
    "SELECT * FROM {0}",
    "SELECT * FROM film JOIN {0} ON 1",
    "SELECT (SELECT count(*) FROM {0})",
    "SELECT 1 WHERE 1 IN {0}",
)
ODDITIES = (
    "",
    "   ",
    ";",
    "-- nothing",
    "hello",
    "VALUES (1)",
    "SELECT ?",
    "SELECT ?1",
    "SELECT :name",
    "SELECT @name",
    "SELECT $name",
    "SELECT title FROM film WHERE id = $id",
    "SELECT * INTO copy FROM film",
    "SELECT * FROM film FOR UPDATE",
    "SELECT * FROM film TABLESAMPLE (5)",
    "SELECT * FROM film, LATERAL (SELECT 1)",
    "WITH a AS (DELETE FROM film RETURNING *) SELECT * FROM a",
    "WITH a AS (INSERT INTO film VALUES (1) RETURNING *) SELECT * FROM a",
    "WITH a AS (UPDATE film SET title = 1 RETURNING *) SELECT * FROM a",
    "WITH printf(a) AS (SELECT 1) SELECT printf('%.*c', 9, 'x')",
    "SELECT {{ secret }}",
    "SELECT 'open",
    'SELECT "open',
    "SELECT [open",
    "SELECT /* open",
    "SELECT 1\0; DROP TABLE film",
    "SELECT FROM",
    "SELECT title film WHERE",
    "SELECT " + "1," * MAX_CHARACTERS + "1",
    "SELECT '" + "x" * 100_000_000 + "'",
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "SELECT " + "(" * 5_000,
    "SELECT " + "abs(" * 200 + "1" + ")" * 200,
    "SELECT " + "- " * 5_000 + "1",
    "SELECT " + "NOT " * 3_000 + "1",
    "SELECT " + "CASE WHEN " * 500 + "1" + " THEN 1 END" * 500,
    "SELECT " + "(SELECT " * 200 + "1" + ")" * 200,
    "SELECT " + "[" * 9_000,
    "SELECT " + "{" * 9_000,
)
ATTACKS = [
    *(dressing.format(write) for write, dressing in itertools.product(WRITES, DRESSINGS)),
    *(place.format(call) for call, place in itertools.product(FORBIDDEN_CALLS, PLACES)),
    *(reading.format(table) for table, reading in itertools.product(FORBIDDEN_TABLES, READINGS)),
    *ODDITIES,
]

ORDINARY = (
    "SELECT 1",
    "SELECT 1;",
    "select title from film -- the title\n;",
    "SELECT title, 'DROP TABLE film; --' FROM film",
    "SELECT title FROM film WHERE note = 'cost (in $): $5'",
    "WITH long_film(id, title) AS (SELECT id, title FROM film) SELECT title FROM long_film",
    "WITH a(x) AS NOT MATERIALIZED (SELECT 1) SELECT x FROM a",
    "WITH RECURSIVE boss(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM boss WHERE id < 9) SELECT id FROM boss",
    "SELECT a FROM x UNION ALL SELECT b FROM y EXCEPT SELECT c FROM z INTERSECT SELECT d FROM w",
    "SELECT count(*) FILTER (WHERE a > 1) OVER (ORDER BY c ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
    "SELECT max(a), iif(a, b, c), CAST(a AS REAL), CASE WHEN a THEN 1 ELSE 2 END FROM t GROUP BY 1 HAVING count(*) > 1",
    "SELECT strftime('%Y', d), date('now', '-1 day'), julianday(d), CURRENT_TIMESTAMP FROM t",
    "SELECT `a b`, [c d], \"e f\" FROM `my table` WHERE a LIKE 'x\\%' ESCAPE '\\' AND b GLOB 'x*' AND c IS NOT NULL",
    "SELECT a FROM t NATURAL JOIN u LEFT JOIN v USING (id) CROSS JOIN w WHERE (a, b) IN (SELECT 1, 2)",
    "SELECT a FROM t WHERE EXISTS (SELECT 1) AND NOT EXISTS (SELECT 2) AND a NOT IN (1, 2)",
    "SELECT data -> 'a', json_extract(data, '$.a') FROM t ORDER BY a COLLATE NOCASE DESC NULLS LAST LIMIT 5 OFFSET 2",
    "SELECT x FROM (VALUES (1, 2)) AS v",
    "SELECT a || b, a % b, a & b, ~a, -a, a <> b, a BETWEEN 1 AND 2, x'0aff' FROM main.t",
)


@pytest.mark.parametrize("sql", ORDINARY)
def test_ordinary_queries_pass(sql: str) -> None:
    assert refusal_of(sql) is None


@pytest.mark.parametrize(
    ("file", "field", "count"),
    [("spider_dev/dev.jsonl", "query", 804), ("bird_minidev/mini_dev.jsonl", "sql_sqlite", 388)],
)
def test_no_gold_query_is_refused(file: str, field: str, count: int) -> None:
    path = DATA / file
    if not path.exists():
        pytest.skip("the shared data sets are not here")
    queries = [json.loads(line)[field] for line in path.read_text().splitlines()]
    assert len(queries) == count
    assert [(sql, refusal_of(sql)) for sql in queries if refusal_of(sql)] == []


def test_no_attack_passes() -> None:
    assert len(ATTACKS) >= 250
    assert [sql[:200] for sql in ATTACKS if refusal_of(sql) is None] == []


def test_every_attack_is_refused_in_time_and_with_a_readable_reason() -> None:
    """In seconds of the processor that no machine needs for what is not made to take for ever."""
    for sql in ATTACKS:
        before = time.process_time()
        refusal = refusal_of(sql)
        assert refusal is not None
        assert time.process_time() - before < 30
        assert refusal.code.startswith("sql_")
        assert 10 < len(refusal.message) < 700
        assert "\x1b" not in refusal.message
        assert "Traceback" not in refusal.message


@pytest.mark.parametrize(
    ("sql", "code", "says"),
    [
        ("SELECT 1; SELECT 2", "sql_many_statements", "one SELECT"),
        ("DROP TABLE film", "sql_not_select", "Start with SELECT"),
        ("SELECT printf('%d', 1)", "sql_function", "printf"),
        ("SELECT title FROM sqlite_master", "sql_table", "sqlite_master"),
        ("SELECT title FORM film WHERE", "sql_syntax", "line 1"),
        ("SELECT :name", "sql_parameter", "the value itself"),
        ("SELECT " + "(" * 100 + "1" + ")" * 100, "sql_too_deep", "levels"),
        ("SELECT '" + "x" * MAX_CHARACTERS + "'", "sql_too_long", "20,000"),
    ],
)
def test_the_reason_says_what_to_change(sql: str, code: str, says: str) -> None:
    refusal = refusal_of(sql)
    assert refusal is not None
    assert refusal.code == code
    assert says in refusal.message


WORDS = """
    SELECT WITH FROM WHERE GROUP BY ORDER HAVING LIMIT UNION ALL JOIN LEFT ON USING AS CASE WHEN THEN END CAST ( ) , . *
    + - || = <> IN NOT NULL IS LIKE ESCAPE BETWEEN AND EXISTS DISTINCT OVER PARTITION FILTER a b t 'x' "y" 1 2.5 ? :x @x
    $x ; [ ] { } -> :: INTERVAL EXTRACT TRIM FOR INSERT VALUES DELETE PRAGMA RECURSIVE LATERAL UNNEST PIVOT count
    strftime x'ab'
"""


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS.split()), max_size=25).map(" ".join) | st.text(max_size=200))
def test_nothing_a_model_writes_makes_it_raise(tail: str) -> None:
    for sql in (tail, f"SELECT {tail}"):
        refusal = refusal_of(sql)
        assert refusal is None or refusal.message
