"""Where a workflow's databases are. A row names one; it never gives a path, so no row can read another file."""

import os
from pathlib import Path

from workloads.text2sql.datasets import database_file
from workloads.text2sql.make_databases import SAMPLE_DATABASES, make_database

#: Tools see this variable in their own process too: its name begins with HALO_TOOL_.
FOLDER_VARIABLE = "HALO_TOOL_DATABASES"


class DatabaseUnknown(Exception):
    """There is no database of that name."""


def locate(name: str) -> Path:
    """The SQLite file of the database `name`: in the folder HALO_TOOL_DATABASES names, else one of the samples.

    Raises `DatabaseUnknown`, with the fix.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    found = database_file(Path(folder), name) if folder else _sample(name)
    if found is not None:
        return found
    if folder:
        raise DatabaseUnknown(f"there is no database {name!r} in {FOLDER_VARIABLE}={folder}")
    known = ", ".join(sorted(SAMPLE_DATABASES))
    raise DatabaseUnknown(f"there is no database {name!r}; the samples are {known}; set {FOLDER_VARIABLE} to a folder")


def _sample(name: str) -> Path | None:
    sample = SAMPLE_DATABASES.get(name)
    if sample is None:
        return None
    path = samples_folder() / f"{name}.sqlite"
    return path if path.is_file() else make_database(sample, path)


def samples_folder() -> Path:
    """Where the sample databases are made when first asked for."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache) / "halo" / "text2sql-1"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
