"""Plans before and after each pass, as text. `HALO_WRITE_GOLDEN=1 pytest ...` writes the files anew; read the diff."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from example_plans import every_kind, text_to_sql

from planner.ir.plan import Plan
from planner.ir.render import render

GOLDEN = Path(__file__).parents[1] / "golden" / "planner"


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("HALO_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("example", [text_to_sql, every_kind])
def test_a_plan_as_text(example: Callable[[], Plan]) -> None:
    check_golden(f"render/{example.__name__}.txt", render(example()))


def test_a_notebook_shows_the_same_text() -> None:
    shown = every_kind()._repr_html_()
    assert shown.startswith("<pre>plan &quot;every kind&quot;")
