"""The output folder of a batch: whose it is, what lies in it, and what is written into it whole or not at all."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TextIO

from halo.batch.errors import FolderRefused
from planner.ir.values import Json

DATABASE, RESULTS, ERRORS, SUMMARY = "job.db", "results.jsonl", "errors.jsonl", "summary.json"
ANALYSIS = "analyze.json"
_LOCK = ".lock"
_SCAFFOLDING = {_LOCK, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"}


class Folder:
    """Held by one process at a time, until `close`; a process that dies lets go of it in dying."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made_here = not path.exists()
        self._lock = _locked(path)

    @classmethod
    def open(cls, path: Path, *, resume: bool) -> Self:
        """The folder, ready for a new job, or with `resume` for its old one too. Raises `FolderRefused`."""
        folder = cls(path)
        try:
            folder._check(resume)
        except FolderRefused:
            folder.close()
            raise
        return folder

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.path / DATABASE}"

    @property
    def holds_job(self) -> bool:
        return (self.path / DATABASE).exists()

    def close(self) -> None:
        self._lock.close()

    def abandon(self) -> None:
        """No job was accepted: leave the folder as it was found, so that trying again needs no cleaning up."""
        for name in sorted(_SCAFFOLDING):
            (self.path / name).unlink(missing_ok=True)
        self.close()
        if self._made_here and not any(self.path.iterdir()):
            self.path.rmdir()

    @contextmanager
    def writing(self, name: str) -> Iterator["JsonLines"]:
        """A file that stands under its name when the block ends well; until then what stood there before stays."""
        target, draft = self.path / name, self.path / f"{name}.part"
        with draft.open("w", encoding="utf-8") as file:
            yield JsonLines(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)

    def _check(self, resume: bool) -> None:
        names = {entry.name for entry in self.path.iterdir()} - {_LOCK}
        if not names or (resume and self.holds_job):
            return
        if self.holds_job:
            raise FolderRefused(
                f"{self.path} holds a batch already: add --resume to go on with it, or name another folder"
            )
        what = "nothing to resume, but other files" if resume else "files in it"
        raise FolderRefused(f"the folder {self.path} has {what}: name a new or an empty folder")


class JsonLines:
    """JSON values, one a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, value: Json) -> None:
        self._file.write(_text(json.dumps(value, ensure_ascii=False)) + "\n")

    def add_page(self, value: Json) -> None:
        """A value over several lines, for people."""
        self._file.write(json.dumps(value, indent=2) + "\n")


def _text(line: str) -> str:
    """Half a surrogate pair cannot be written as UTF-8, so it is escaped; all else stays readable."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(json.loads(line))
    return line


def _locked(path: Path) -> TextIO:
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / _LOCK).open("w")
    except OSError as error:
        raise FolderRefused(f"the folder {path} cannot be written to: {error.strerror}; name another") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise FolderRefused(f"another batch runs in {path} just now: wait for it, or name another folder") from None
    return lock
