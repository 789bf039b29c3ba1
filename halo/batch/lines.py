"""Lines of a file of any size, with a bound on what one line may take."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from halo.batch.given_rows import MAX_ROW_BYTES, BadLine

_BOM = b"\xef\xbb\xbf"
_SKIPPED_AT_ONCE = 1024 * 1024


def read_lines(path: Path) -> Iterator[tuple[int, str | BadLine]]:
    """Each line with its number from 1, as text with its line end, or what is wrong with it. A byte order mark is no
    part of the first, and no line by itself."""
    with path.open("rb") as file:
        for number, line in enumerate(_bounded(file), start=1):
            given = line.removeprefix(_BOM) if number == 1 else line
            if given:
                yield number, _text(number, given)


def _bounded(file: BinaryIO) -> Iterator[bytes]:
    """Lines; of one that is too long only a beginning, itself too long."""
    while line := file.readline(MAX_ROW_BYTES + 2):
        yield line
        while not line.endswith(b"\n") and line:
            line = file.readline(_SKIPPED_AT_ONCE)


def _text(number: int, line: bytes) -> str | BadLine:
    if len(line.rstrip(b"\r\n")) > MAX_ROW_BYTES:
        message = f"the line is longer than {MAX_ROW_BYTES // 1024} KiB; make the row smaller"
        return BadLine(number, "line_too_long", message)
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} of the line is not UTF-8 ({error.reason}); save the file as UTF-8"
        return BadLine(number, "invalid_utf8", message)
