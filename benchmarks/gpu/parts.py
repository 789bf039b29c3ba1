"""Files carried in numbered parts: one after the other they are a single row of bytes, cut where a part is full."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """A file, or a part of the row."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`files` in the order in which they lie in `parts`; `python` is the version (3.12) they are for."""

    python: str
    files: tuple[Piece, ...]
    parts: tuple[Piece, ...]


class BadParts(Exception):
    """Parts are missing or not what was packed. `problems` has a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def cut(files: Sequence[Path], folder: Path, part_bytes: int, python: str) -> Manifest:
    """Writes the parts and the manifest into `folder`, none larger than `part_bytes`. Parts of an earlier cut that are
    the same stay as they are; others go."""
    assert part_bytes > 0
    folder.mkdir(parents=True, exist_ok=True)
    parts = tuple(
        _write(folder / f"part-{number:03}", content) for number, content in enumerate(_slices(files, part_bytes))
    )
    manifest = Manifest(python, tuple(map(_piece, files)), parts)
    for stale in {path.name for path in folder.glob("part-*")} - {part.name for part in parts}:
        (folder / stale).unlink()
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1))
    return manifest


def join(folder: Path, out: Path) -> list[Path]:
    """The files again, in `out`. Those that are there and whole are not written anew, and need no parts.

    Raises `BadParts` with all that is missing or differs; then nothing is written.
    """
    manifest = read_manifest(folder)
    wanted = [out / file.name for file in manifest.files]
    if all(map(_is, wanted, manifest.files)):
        return wanted
    problems = [problem for part in manifest.parts if (problem := _problem(folder / part.name, part))]
    if problems:
        raise BadParts(problems)
    out.mkdir(parents=True, exist_ok=True)
    row = _Row([folder / part.name for part in manifest.parts])
    for path, file in zip(wanted, manifest.files, strict=True):
        row.take(file.size_bytes, path)
    bad = [
        f"{file.name} is not what was packed"
        for path, file in zip(wanted, manifest.files, strict=True)
        if not _is(path, file)
    ]
    if bad:
        raise BadParts(bad)
    return wanted


def read_manifest(folder: Path) -> Manifest:
    """Raises `BadParts` without one."""
    try:
        record: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        return Manifest(record["python"], _pieces(record["files"]), _pieces(record["parts"]))
    except FileNotFoundError:
        raise BadParts([f"there is no {MANIFEST} in {folder}: bring it along with the parts"]) from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
        raise BadParts([f"{MANIFEST} in {folder} is not what was packed: bring it again"]) from None


def _pieces(records: Sequence[dict[str, Any]]) -> tuple[Piece, ...]:
    """A name with a folder in it would be written elsewhere."""
    pieces = tuple(Piece(**record) for record in records)
    strange = [piece.name for piece in pieces if Path(piece.name).name != piece.name]
    if strange:
        raise BadParts([f"{MANIFEST} names a file outside its folder: {name}" for name in strange])
    return pieces


def _slices(files: Sequence[Path], part_bytes: int) -> Iterator[bytes]:
    """The row of bytes, in slices of `part_bytes`; the last is shorter."""
    held = bytearray()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                held += chunk
                while len(held) >= part_bytes:
                    yield bytes(held[:part_bytes])
                    del held[:part_bytes]
    if held:
        yield bytes(held)


def _write(path: Path, content: bytes) -> Piece:
    piece = Piece(path.name, len(content), hashlib.sha256(content).hexdigest())
    if not _is(path, piece):
        path.write_bytes(content)
    return piece


def _piece(path: Path) -> Piece:
    return Piece(path.name, path.stat().st_size, _sha256(path))


def _problem(path: Path, part: Piece) -> str | None:
    if not path.exists():
        return f"{part.name} is missing ({part.size_bytes:,} bytes)"
    return None if _is(path, part) else f"{part.name} is not what was packed: bring it again"


def _is(path: Path, piece: Piece) -> bool:
    return path.is_file() and path.stat().st_size == piece.size_bytes and _sha256(path) == piece.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Row:
    """The parts, read one after the other."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._chunks = (chunk for part in parts for chunk in _chunks(part))
        self._held = memoryview(b"")

    def take(self, count: int, path: Path) -> None:
        """The next `count` bytes, into a file. Fewer where there are no more: its hash will tell."""
        with path.open("wb") as file:
            while count and (self._held or self._next()):
                now, self._held = self._held[:count], self._held[count:]
                count -= file.write(now)

    def _next(self) -> bool:
        self._held = memoryview(next(self._chunks, b""))
        return bool(self._held)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
