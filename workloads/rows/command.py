"""`halo workflows`: rows for the workflows that come with Halo, and their databases in any size."""

import json
from pathlib import Path
from typing import Annotated

import typer

from halo.cli.console import say

app = typer.Typer(no_args_is_help=True, help="Rows and databases for the workflows that come with Halo.")

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The workflow, such as diamond.")]
_Count = Annotated[int, typer.Option("--n", min=1, help="How many rows.")]
_Duplicates = Annotated[
    str, typer.Option(metavar="SHARE", help="The share of rows that repeat another one, such as 0.5; or `natural`.")
]
_Seed = Annotated[int, typer.Option(help="The same seed gives the same rows.")]
_RowsOut = Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Where the rows go.", show_default=False)]
_Folder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the databases go.", show_default=False)]
_Scale = Annotated[int, typer.Option(min=1, max=1000, help="How many times as many rows as the smallest.")]


@app.command(epilog="Example:\n\n  halo workflows rows diamond --n 64 --out diamond.jsonl")
def rows(name: _Name, out: _RowsOut, n: _Count = 64, duplicates: _Duplicates = "natural", seed: _Seed = 1) -> None:
    """Write rows for a workflow, for halo explain or halo batch run.

    With natural duplicates, few rows are asked often and many once, as questions are (Zipf's law).
    """
    from workloads.rows.draw_rows import draw_rows
    from workloads.rows.sources import source_of

    lines = [json.dumps(row, ensure_ascii=False) for row in draw_rows(source_of(name), n, _share(duplicates), seed)]
    out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    say(f"{out}: {len(lines):,} rows, {len(set(lines)):,} of them different")


@app.command(epilog="Example:\n\n  halo workflows databases --out databases --scale 10")
def databases(out: _Folder, scale: _Scale = 1) -> None:
    """Make the databases the workflows read, of the size wanted. The smallest are made by themselves when first read.

    The tools of the workflows look for them in the folder HALO_TOOL_DATABASES names.
    """
    from workloads.databases.make import make_scaled_databases

    for path in make_scaled_databases(out, scale).values():
        say(f"{path}: {path.stat().st_size:,} bytes")
    say(f"use them with HALO_TOOL_DATABASES={out.resolve()}")


def _share(text: str) -> float | None:
    """None stands for the natural share."""
    if text == "natural":
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise typer.BadParameter("give a share from 0 to below 1, or `natural`", param_hint="--duplicates")
    return share
