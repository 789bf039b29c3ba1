"""`halo text2sql`: rows for the workflow from a data set, and the score of what it answered."""

import json
from collections.abc import Callable
from enum import StrEnum
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halo.cli.console import print_json, say
from halo.cli.options import AsJson

if TYPE_CHECKING:
    from workloads.text2sql.datasets import Dataset

app = typer.Typer(no_args_is_help=True, help="Rows for the Text-to-SQL workflow, and the score of its answers.")


class Source(StrEnum):
    """Where questions come from."""

    SPIDER = "spider"
    BIRD = "bird"
    OWN = "own"


_From = Annotated[Source, typer.Option("--from", help="The data set; `own` are the questions that come with Halo.")]
_Folder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The folder of the data set; `own` needs none.", show_default=False)
]
_RowsOut = Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Where the rows go.", show_default=False)]
_RepeatTo = Annotated[
    int | None,
    typer.Option(min=1, help="So many rows, beginning again when the questions are used up.", show_default=False),
]
_Results = Annotated[Path, typer.Option(metavar="FILE", help="The results.jsonl of a batch.", show_default=False)]
_Rows = Annotated[Path, typer.Option(metavar="FILE", help="The rows it was run on.", show_default=False)]


@app.command(epilog="Example:\n\n  halo text2sql rows --from own --out questions.jsonl")
def rows(source: _From, out: _RowsOut, folder: _Folder = None, repeat_to: _RepeatTo = None) -> None:
    """Write one row for each question of a data set, for halo batch run text2sql.

    Rows name their database. The tools of the workflow look for it in the folder HALO_TOOL_DATABASES names.
    """
    from workloads.text2sql.datasets import input_rows

    found = list(input_rows(_dataset(source, folder)))
    count = len(found) if repeat_to is None else repeat_to
    with out.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in islice(cycle(found), count))
    say(f"{out}: {count:,} rows, {min(count, len(found)):,} questions")
    if folder is not None:
        say(f"run them with HALO_TOOL_DATABASES={folder.resolve()}")


@app.command(epilog="Example:\n\n  halo text2sql score --results out/results.jsonl --rows questions.jsonl")
def score(results: _Results, rows: _Rows, folder: _Folder = None, as_json: AsJson = False) -> None:
    """Tell how many rows were answered rightly: the query returns what the gold query returns."""
    from workloads.text2sql.accuracy import accuracy_of, read_answers, read_gold_rows, verdicts

    found = accuracy_of(verdicts(read_gold_rows(rows), read_answers(results), _locate(folder)))
    if as_json:
        counts = dict(found.verdicts)
        print_json({"rows": found.rows, "matched": found.matched, "accuracy": found.share, "verdicts": counts})
        return
    typer.echo(f"execution accuracy: {found.share:.1%} ({found.matched:,} of {found.rows:,} rows)")
    for verdict, count in found.verdicts.items():
        typer.echo(f"  {verdict}: {count:,}")


def _dataset(source: Source, folder: Path | None) -> "Dataset":
    from workloads.text2sql.databases import all_samples
    from workloads.text2sql.datasets import read_bird, read_own, read_spider

    if source is Source.OWN:
        return read_own(folder or all_samples())
    if folder is None:
        raise typer.BadParameter(f"name the folder of {source}", param_hint="--folder")
    return read_spider(folder) if source is Source.SPIDER else read_bird(folder)


def _locate(folder: Path | None) -> Callable[[str], Path]:
    from workloads.text2sql.databases import locate, locate_in

    return locate if folder is None else lambda name: locate_in(folder, name)
