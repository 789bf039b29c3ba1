"""Rows from JSON Lines: one object a line."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from halo.batch.given_rows import BadLine, GivenRow
from halo.batch.lines import read_lines
from planner.ir.plan import Input


def read_jsonl(path: Path, inputs: Sequence[Input]) -> Iterator[GivenRow | BadLine]:
    """A row for each line that is not blank. `inputs` change nothing: JSON has types of its own."""
    for number, line in read_lines(path):
        if isinstance(line, BadLine):
            yield line
        elif not line.isspace():
            yield _row(number, line)


def _row(number: int, line: str) -> GivenRow | BadLine:
    try:
        row = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        return _bad(number, f"{error.msg} at character {error.colno}")
    except RecursionError:
        return _bad(number, "it is nested too deeply")
    except ValueError as error:  # a number with thousands of digits, or NaN
        return _bad(number, str(error))
    if not isinstance(row, dict):
        message = f'the line is {_kind(row)}, not an object; write {{"column": value, ...}}'
        return BadLine(number, "not_an_object", message)
    return GivenRow(number, row)


def _bad(number: int, what: str) -> BadLine:
    return BadLine(number, "invalid_json", f"the line is not JSON: {what}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
