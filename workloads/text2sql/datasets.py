"""Questions with gold SQL and their databases: Spider, BIRD and our own, read into one form."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, ValidationError

from halo.sdk.errors import HaloError

DATA_FOLDER = Path(__file__).resolve().parents[1] / "data"
PROBLEMS_TOLD = 20


@dataclass(frozen=True, slots=True)
class Question:
    """`evidence` is what BIRD tells beside the question. Wordings of one question share their `base_id`."""

    id: str
    db_id: str
    question: str
    evidence: str
    gold_sql: str
    base_id: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """`databases` has the SQLite file of each db_id, where the file is at hand."""

    name: str
    questions: tuple[Question, ...]
    databases: Mapping[str, Path]


class DatasetInvalid(HaloError):
    """The files are not what they should be. `problems` has a line for each, with the file, the place and the fix."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems[:PROBLEMS_TOLD]))
        self.problems = tuple(problems)


def read_spider(folder: Path) -> Dataset:
    """A Spider folder: `dev.jsonl` or `dev.json`, databases in `database` or `synthetic_db`. Else `DatasetInvalid`."""
    return _read_dataset("spider", folder, ("dev.jsonl", "dev.json"))


def read_bird(folder: Path) -> Dataset:
    """A BIRD mini-dev folder: `mini_dev.jsonl` or `mini_dev_sqlite.json`, databases in `dev_databases`. As above."""
    return _read_dataset("bird", folder, ("mini_dev.jsonl", "mini_dev_sqlite.json", "mini_dev_sqlite.jsonl"))


def read_own(databases: Path) -> Dataset:
    """Our own questions; `databases` is the folder `make_databases` filled. The same errors."""
    questions = read_questions(DATA_FOLDER / "questions.jsonl")
    found = _databases_of(databases, questions)
    missing = sorted({question.db_id for question in questions} - set(found))
    if missing:
        fix = f"make them with: python -m workloads.text2sql.make_databases {databases}"
        raise DatasetInvalid([f"{databases}: no database for {', '.join(missing)}; {fix}"])
    return Dataset("own", questions, found)


def _read_dataset(name: str, folder: Path, files: tuple[str, ...]) -> Dataset:
    if not folder.is_dir():
        raise DatasetInvalid([f"{folder}: there is no such folder; give the folder of the data set"])
    found = next((folder / file for file in files if (folder / file).is_file()), None)
    if found is None:
        raise DatasetInvalid([f"{folder}: there is none of {', '.join(files)}; give the folder that holds one"])
    questions = read_questions(found)
    return Dataset(name, questions, _databases_of(folder, questions))


def input_rows(dataset: Dataset) -> Iterator[dict[str, str]]:
    """A row for each question: the workflow's inputs, and beside them `id` and `gold_sql`, by which it is scored.

    `database` is the db_id; `databases.locate` finds its file. Raises `DatasetInvalid` where one is not at hand.
    """
    missing = sorted({question.db_id for question in dataset.questions} - set(dataset.databases))
    if missing:
        fix = f"put each at one of {', '.join(place.format('NAME') for place in PLACES)} in the folder of the data set"
        raise DatasetInvalid([f"{dataset.name}: no database file for {', '.join(missing)}; {fix}"])
    for question in dataset.questions:
        yield {
            "id": question.id,
            "database": question.db_id,
            "question": question.question,
            "evidence": question.evidence,
            "gold_sql": question.gold_sql,
        }


def read_questions(path: Path) -> tuple[Question, ...]:
    """Questions from JSON lines, or from one JSON list. Raises `DatasetInvalid` with everything that is wrong."""
    problems: list[str] = []
    questions: list[Question] = []
    for number, record in numbered_records(path, problems):
        try:
            line = QuestionLine.model_validate(record)
        except ValidationError as error:
            problems.append(f"{path.name} line {number}: {told(error)}")
        else:
            questions.append(line.question_value(number))
    if problems:
        raise DatasetInvalid(problems)
    return tuple(questions)


def numbered_records(path: Path, problems: list[str]) -> Iterator[tuple[int, object]]:
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
        return
    except UnicodeDecodeError as error:
        problems.append(f"{path.name}: byte {error.start} is not UTF-8; save the file as UTF-8")
        return
    if text.lstrip().startswith("["):
        yield from enumerate(_records_of_list(path, text, problems), 1)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield from ((number, record) for record in _records_of_line(path, number, line, problems))


def _records_of_list(path: Path, text: str, problems: list[str]) -> list[object]:
    try:
        records: list[object] = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name}: is no JSON list: {error}")
        return []
    return records


def _records_of_line(path: Path, number: int, line: str, problems: list[str]) -> list[object]:
    try:
        return [json.loads(line)]
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name} line {number}: is no JSON: {error}")
        return []


def told(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'the record'}: {one['msg']}" for one in error.errors())


class QuestionLine(BaseModel):
    """A question as the data sets write it; each has other names for the same."""

    id: Annotated[str | None, BeforeValidator(lambda given: given if given is None else str(given))] = Field(
        default=None, validation_alias=AliasChoices("id", "question_id")
    )
    db_id: str = Field(pattern=r"^[\w.-]+$")
    question: str = Field(min_length=1)
    evidence: str = ""
    gold_sql: str = Field(min_length=1, validation_alias=AliasChoices("gold_sql", "query", "sql_sqlite", "SQL"))
    base_id: str = ""

    def question_value(self, number: int) -> Question:
        name = str(number) if self.id is None else self.id
        return Question(name, self.db_id, self.question, self.evidence, self.gold_sql, self.base_id)


def _databases_of(folder: Path, questions: tuple[Question, ...]) -> dict[str, Path]:
    names = dict.fromkeys(question.db_id for question in questions)
    return {name: path for name in names if (path := database_file(folder, name))}


#: Where the data sets keep their databases, `{0}` being the db_id.
PLACES = (
    "{0}.sqlite",
    "{0}/{0}.sqlite",
    "synthetic_db/{0}.sqlite",
    "database/{0}/{0}.sqlite",
    "dev_databases/{0}/{0}.sqlite",
)


def database_file(folder: Path, db_id: str) -> Path | None:
    """The SQLite file of a database in a data set's folder, or None. A db_id that is no plain name finds nothing."""
    if db_id in ("", ".", "..") or "/" in db_id or "\\" in db_id:
        return None
    return next((path for place in PLACES if (path := folder / place.format(db_id)).is_file()), None)
