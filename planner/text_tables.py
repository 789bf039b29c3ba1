"""Figures and tables as plain text."""

from collections.abc import Iterator, Sequence


def aligned(rows: Sequence[tuple[str, ...]], first_figure: int) -> Iterator[str]:
    """Lines of equal columns; those from `first_figure` on stand to the right, but for the last, which is a note."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.rjust(width) if first_figure <= column < len(row) - 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield ("  " + "  ".join(cells)).rstrip()


def whole(figure: float) -> str:
    return f"{round(figure):,}"


def three_digits(figure: float) -> str:
    """Times and money are not known any better."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def percent(share: float) -> str:
    return f"{share:.1%}"
