"""A file's content by what is quick to ask."""

from pathlib import Path


def file_version(path: str | Path) -> str:
    """A text that changes when the file is written to: its size and the instant of its last change, and those of the
    write-ahead log of a SQLite database. For `version=` of `@halo.tool`. Raises `OSError` where there is no file."""
    path = Path(path)
    log = path.with_name(f"{path.name}-wal")
    # Readers make and remove empty logs.
    return " ".join(_stamp(file) for file in (path, log) if file == path or (log.exists() and log.stat().st_size))


def _stamp(path: Path) -> str:
    told = path.stat()
    return f"{told.st_size}@{told.st_mtime_ns}"
