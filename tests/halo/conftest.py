"""Fixtures of the halo floor's tests."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def line_of(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """`line_of("here")` is `file:line` of the one line of the test that ends in `# here`."""
    source, first = inspect.getsourcelines(request.function)
    file = str(Path(request.path))

    def find(mark: str) -> str:
        (line,) = [first + at for at, text in enumerate(source) if text.rstrip().endswith(f"# {mark}")]
        return f"{file}:{line}"

    return find
