"""What is written where: results to stdout, everything else to stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from planner.ir.values import Json

#: What goes into a pipe is not cut to the width of a screen that is not there.
_WIDE = 10_000


def out() -> Console:
    """For results. Made anew, because tests and progress bars exchange the stream."""
    return Console(soft_wrap=True, highlight=False)


def err() -> Console:
    """For people: progress, warnings, errors."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def prints_aside() -> AbstractContextManager[TextIO]:
    """Meanwhile what workflows and tools print goes to stderr: stdout is for results, which programs read."""
    return redirect_stdout(sys.stderr)


def print_json(value: Json) -> None:
    """One JSON document, for programs."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    sys.stdout.write(_printable(text) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE).print(table)


def say(text: str) -> None:
    """A line for people."""
    err().print(Text(_printable(text)))


def warn(text: str) -> None:
    err().print(Text.assemble(("warning: ", "yellow"), _printable(text)))


def fail(text: str) -> None:
    err().print(Text.assemble(("error: ", "bold red"), _printable(text)))


def _printable(text: str) -> str:
    """Half a surrogate pair, which a row or a path may hold, has no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
