"""Makes the sample databases: `python -m workloads.text2sql.make_databases DIR`. The same files' contents each time."""

import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from workloads.text2sql.sample_databases import city_bikes, clinic, film_rental, library, music_festival, retail
from workloads.text2sql.sample_databases.words import Draw, Tables


@dataclass(frozen=True, slots=True)
class SampleDatabase:
    """What a database is made from; `seed` fixes its rows."""

    schema: str
    rows: Callable[[Draw], Tables]
    seed: int


SAMPLE_DATABASES = {
    "city_bikes": SampleDatabase(city_bikes.SCHEMA, city_bikes.rows, 11),
    "clinic": SampleDatabase(clinic.SCHEMA, clinic.rows, 12),
    "film_rental": SampleDatabase(film_rental.SCHEMA, film_rental.rows, 13),
    "library": SampleDatabase(library.SCHEMA, library.rows, 14),
    "music_festival": SampleDatabase(music_festival.SCHEMA, music_festival.rows, 15),
    "retail": SampleDatabase(retail.SCHEMA, retail.rows, 16),
}


def make_databases(folder: Path) -> dict[str, Path]:
    """Write `<db_id>.sqlite` for every sample database into `folder`, over what is there; the paths by db_id."""
    folder.mkdir(parents=True, exist_ok=True)
    return {db_id: make_database(sample, folder / f"{db_id}.sqlite") for db_id, sample in SAMPLE_DATABASES.items()}


def make_database(sample: SampleDatabase, path: Path) -> Path:
    """Made in memory and moved to its place whole: no reader sees half of it, however many make it at once."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(sample.schema)
        for table, rows in sample.rows(Draw(sample.seed)).items():
            slots = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({slots})", rows)
        connection.commit()
        content = connection.serialize()
    return _replace_file(path, content)


def _replace_file(path: Path, content: bytes) -> Path:
    handle, unfinished = tempfile.mkstemp(prefix=f"{path.stem}-", suffix=".unfinished", dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    return Path(unfinished).replace(path)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m workloads.text2sql.make_databases DIR")
    for db_id, path in make_databases(Path(sys.argv[1])).items():
        print(f"{db_id}: {path}")


if __name__ == "__main__":
    main()
