"""What a function says is told alike by every version of Python: a batch may be gone on with under another."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import halo
from halo.sdk import source
from halo.sdk.source import source_digest

#: Versions write this tree differently: quotes in f-strings, adjacent texts, fields and letters that are new.
ODD = """
def odd(rows, *more, key=None, **rest):
    name = f"it's {rows[0]!r:>{len(more)}} " "and\\n" f'({",".join(rows)},) {{braces}} {key=} {1.5e10:,.2f}'
    first, *others = rows
    pairs = {(a, b): a if a else b for a in rows if a for b in more}
    with open(name) as file, open("b'c") as other:
        yield [x[1:2, ...] for x in zip(file, other)], -1 ** 2, lambda *, z=(1,): z
    match rows:
        case [1, {"a": 2, **found}] if found:
            raise ValueError(f"{name}") from None
    try:
        print(rf"\\d{name}", b"\\x00", 1j, None, True)
    except* OSError as problem:
        print(("a" "b"), f"", problem, "\U0001fae8")
    return others
"""
DIGEST = "f4482dce000186fa"
ASK = """
import importlib.util, sys
def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
print(load("source", sys.argv[1]).source_digest(load("odd", sys.argv[2]).odd))
"""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd.py"
    path.write_text(ODD, encoding="utf-8")
    return path


def asked(python: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [python, "-c", ASK, str(source.__file__), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_this_python_tells_what_all_tell(odd: Path) -> None:
    assert asked(sys.executable, odd).stdout.strip() == DIGEST


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_another_python_tells_the_same(version: str, odd: Path) -> None:
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"no Python {version} here")
    found = asked(python, odd)
    assert found.stdout.strip() == DIGEST, found.stderr


def written(folder: Path, body: str) -> Callable[..., Any]:
    path, names = folder / f"tool_{abs(hash(body))}.py", dict[str, Any]()
    path.write_text(f"def look_up(text: str) -> str:\n{body}\n")
    exec(compile(path.read_text(), str(path), "exec"), names)
    found: Callable[..., Any] = names["look_up"]
    return found


def test_layout_comments_and_pieces_say_nothing_and_everything_else_does(tmp_path: Path) -> None:
    same = [
        "    return f'{text} and more'",
        "    # aloud\n    return (f'{text}' ' and '\n        'more')",
        '    return f"{text} and {""}more"'.replace('{""}', ""),
    ]
    others = ["    return f'{text} and  more'", "    return f'{text!s} and more'", "    return '{text} and more'"]
    assert len({source_digest(written(tmp_path, body)) for body in same}) == 1
    assert len({source_digest(written(tmp_path, body)) for body in (same[0], *others)}) == 4


def test_a_version_stands_for_the_source_and_without_either_nothing_is_known(tmp_path: Path) -> None:
    def made(version: str | None, body: str) -> str | None:
        function = written(tmp_path, body)
        return halo.tool(effect="pure", version=version)(function).source_digest

    one, other = "    return text", "    return text * 2"
    assert made("7", one) == made("7", other) != made("8", one)
    assert made(None, one) != made(None, other)
    names: dict[str, Any] = {}
    exec("def look_up(text: str) -> str:\n    return text", names)
    assert halo.tool(effect="pure")(names["look_up"]).source_digest is None
