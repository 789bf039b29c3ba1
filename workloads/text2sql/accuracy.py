"""How many rows of a job were answered rightly: execution accuracy (Yu et al. 2018), row by row."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from workloads.text2sql.datasets import DatasetInvalid, numbered_records, told
from workloads.text2sql.query import guarded_select
from workloads.text2sql.sandbox import QueryResult, execute_select
from workloads.text2sql.score import score_results

NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """`verdicts` counts rows by `score.Score.verdict`; those without a result are `no_answer`."""

    rows: int
    verdicts: Mapping[str, int]

    @property
    def matched(self) -> int:
        return self.verdicts.get("match", 0)

    @property
    def share(self) -> float:
        """Of all rows, whatever became of them."""
        return self.matched / self.rows if self.rows else 0.0


class GoldRow(BaseModel):
    """A row of a job, as `datasets.input_rows` writes it; what else stands in it does not matter here."""

    database: str
    gold_sql: str


class Answered(BaseModel):
    """What the workflow answered to one row."""

    sql: str


class ResultLine(BaseModel):
    """A line of `results.jsonl`."""

    row: int
    result: Answered


def read_gold_rows(path: Path) -> list[GoldRow]:
    """Raises `DatasetInvalid` with every line that is no such row."""
    return list(_read(path, GoldRow, "make the file with: halo text2sql rows"))


def read_answers(path: Path) -> dict[int, str]:
    """The SQL by row, from a batch's `results.jsonl`. Raises `DatasetInvalid` likewise."""
    lines = _read(path, ResultLine, "give the results.jsonl of a batch of the workflow text2sql")
    return {line.row: line.result.sql for line in lines}


def verdicts(rows: Sequence[GoldRow], answers: Mapping[int, str], locate: Callable[[str], Path]) -> Iterator[str]:
    """The verdict on each row, in order. Equal queries run once. Raises what `locate` raises."""
    scorer = _Scorer(locate)
    for number, row in enumerate(rows):
        yield scorer.verdict(row, answers[number]) if number in answers else NO_ANSWER


def accuracy_of(found: Iterable[str]) -> Accuracy:
    """All verdicts in one figure."""
    counts = Counter(found)
    return Accuracy(counts.total(), dict(sorted(counts.items())))


class _Scorer:
    """Runs queries and remembers what came of them."""

    def __init__(self, locate: Callable[[str], Path]) -> None:
        self._locate = locate
        self._gold: dict[tuple[str, str], QueryResult] = {}
        self._verdicts: dict[tuple[str, str, str], str] = {}

    def verdict(self, row: GoldRow, sql: str) -> str:
        key = row.database, row.gold_sql, sql
        if key not in self._verdicts:
            predicted = guarded_select(self._locate(row.database), sql)
            self._verdicts[key] = score_results(row.gold_sql, self._gold_result(row), predicted).verdict
        return self._verdicts[key]

    def _gold_result(self, row: GoldRow) -> QueryResult:
        key = row.database, row.gold_sql
        if key not in self._gold:
            self._gold[key] = execute_select(self._locate(row.database), row.gold_sql)
        return self._gold[key]


Line = TypeVar("Line", bound=BaseModel)


def _read(path: Path, kind: type[Line], fix: str) -> Iterator[Line]:
    problems: list[str] = []
    for number, record in numbered_records(path, problems):
        try:
            yield kind.model_validate(record)
        except ValidationError as error:
            problems.append(f"{path.name} line {number}: {told(error)}")
    if problems:
        raise DatasetInvalid([*problems, fix])
