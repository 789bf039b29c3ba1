"""The schema text of a database: keys, types and a few values, the same for the same file."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from workloads.text2sql.schema import SchemaUnreadable, read_schema, render_schema


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "films.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            CREATE TABLE studio (studio_id INTEGER PRIMARY KEY, name TEXT);
            CREATE TABLE film (id INTEGER PRIMARY KEY, title TEXT, studio INTEGER REFERENCES studio, rate REAL, note);
            CREATE TABLE "order" (id INTEGER, "two words" TEXT);
            CREATE VIEW cheap AS SELECT title FROM film WHERE rate < 3;
            INSERT INTO studio VALUES (7, 'O''Hara'), (8, NULL), (9, 'a' || char(10) || 'b');
            INSERT INTO film VALUES (1, 'Alien', 7, 2.5, x'00ff'), (2, 'Alien', 8, 3, NULL);
            INSERT INTO "order" VALUES (1, 'A very long text that would fill the prompt with nothing of use');
        """)
    return path


def test_the_text_has_types_keys_and_values(database: Path) -> None:
    assert render_schema(read_schema(database)) == (
        "cheap(\n"
        "  title TEXT  -- 'Alien'\n"
        ")\n\n"
        "film(\n"
        "  id INTEGER PRIMARY KEY,  -- 1, 2\n"
        "  title TEXT,  -- 'Alien'\n"
        "  studio INTEGER -> studio.studio_id,  -- 7, 8\n"
        "  rate REAL,  -- 2.5, 3.0\n"
        "  note  -- x'00ff'\n"
        ")\n\n"
        '"order"(\n'
        "  id INTEGER,  -- 1\n"
        "  \"two words\" TEXT  -- 'A very long text that would fill the ...'\n"
        ")\n\n"
        "studio(\n"
        "  studio_id INTEGER PRIMARY KEY,  -- 7, 8, 9\n"
        "  name TEXT  -- 'O''Hara', 'a b'\n"
        ")"
    )


def test_only_the_tables_asked_for(database: Path) -> None:
    schema = read_schema(database, examples=0)
    text = render_schema(schema, tables=["STUDIO", "no_such_table"])
    assert text == "studio(\n  studio_id INTEGER PRIMARY KEY,\n  name TEXT\n)"
    assert [table.name for table in schema.tables] == ["cheap", "film", "order", "studio"]


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    with pytest.raises(SchemaUnreadable, match=r"no database file .*none\.sqlite"):
        read_schema(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("this is no database " * 100)
    with pytest.raises(SchemaUnreadable, match="cannot be read as a SQLite database"):
        read_schema(tmp_path / "text.sqlite")
