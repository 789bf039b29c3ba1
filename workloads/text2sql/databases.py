"""Where a workflow's databases are. A row names one; it never gives a path, so no row can read another file."""

import os
from pathlib import Path

from halo.sdk.errors import HaloError
from workloads.databases.make import SCALED_DATABASES
from workloads.text2sql.datasets import database_file
from workloads.text2sql.make_databases import SAMPLE_DATABASES, SampleDatabase, make_database

#: Tools see this variable in their own process too: its name begins with HALO_TOOL_.
FOLDER_VARIABLE = "HALO_TOOL_DATABASES"


class DatabaseUnknown(HaloError):
    """There is no database of that name."""


def locate(name: str) -> Path:
    """The SQLite file of the database `name`: in the folder HALO_TOOL_DATABASES names, else one of the samples.

    Raises `DatabaseUnknown`, with the fix.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        return locate_in(Path(folder), name)
    found = _sample(name)
    if found is not None:
        return found
    known = ", ".join(sorted(SAMPLE_DATABASES) + sorted(SCALED_DATABASES))
    raise DatabaseUnknown(f"there is no database {name!r}; the samples are {known}; set {FOLDER_VARIABLE} to a folder")


def is_made(name: str) -> bool:
    """Whether `locate` would find the file without making it first."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        return database_file(Path(folder), name) is not None
    return _recipe(name) is not None and (_samples_folder() / f"{name}.sqlite").is_file()


def locate_in(folder: Path, name: str) -> Path:
    """The same in one folder: a data set's, or one that `make_databases` filled."""
    found = database_file(folder, name)
    if found is None:
        hint = f"is it the folder of the data set? ({FOLDER_VARIABLE} names it for tools)"
        raise DatabaseUnknown(f"there is no database {name!r} in {folder}; {hint}")
    return found


def all_samples() -> Path:
    """The folder of the databases our own questions are about, all of them made."""
    for name in SAMPLE_DATABASES:
        _sample(name)
    return _samples_folder()


def _sample(name: str) -> Path | None:
    sample = _recipe(name)
    if sample is None:
        return None
    path = _samples_folder() / f"{name}.sqlite"
    return path if path.is_file() else make_database(sample, path)


def _recipe(name: str) -> SampleDatabase | None:
    scaled = SCALED_DATABASES.get(name)
    return SAMPLE_DATABASES.get(name) if scaled is None else scaled.at(scale=1)


def _samples_folder() -> Path:
    """Where the sample databases are made when first asked for."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache) / "halo" / "text2sql-2"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
