"""Makes these databases: `python -m workloads.databases.make DIR SCALE`. The same contents each time."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.databases import encyclopedia, films, wholesale
from workloads.text2sql.make_databases import SampleDatabase, make_database
from workloads.text2sql.sample_databases.words import Draw, Tables


@dataclass(frozen=True, slots=True)
class ScaledDatabase:
    """What a database of any size is made from; `rows` takes a draw and the scale."""

    schema: str
    rows: Callable[[Draw, int], Tables]
    seed: int

    def at(self, scale: int) -> SampleDatabase:
        return SampleDatabase(self.schema, lambda draw: self.rows(draw, scale), self.seed)


SCALED_DATABASES = {
    "encyclopedia": ScaledDatabase(encyclopedia.SCHEMA, encyclopedia.rows, 21),
    "films": ScaledDatabase(films.SCHEMA, films.rows, 22),
    "wholesale": ScaledDatabase(wholesale.SCHEMA, wholesale.rows, 23),
}


def make_scaled_databases(folder: Path, scale: int = 1) -> dict[str, Path]:
    """Write `<name>.sqlite` for each of them into `folder`, over what is there; the paths by name.

    Rows grow in proportion to `scale`, which is at least 1; 1 is a few megabytes in all.
    """
    assert scale >= 1
    folder.mkdir(parents=True, exist_ok=True)
    return {name: make_database(made.at(scale), folder / f"{name}.sqlite") for name, made in SCALED_DATABASES.items()}


def main() -> None:
    if len(sys.argv) != 3 or not sys.argv[2].isdigit() or int(sys.argv[2]) < 1:
        sys.exit("usage: python -m workloads.databases.make DIR SCALE")
    for name, path in make_scaled_databases(Path(sys.argv[1]), int(sys.argv[2])).items():
        print(f"{name}: {path}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
