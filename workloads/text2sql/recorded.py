"""Answers as a model might have given them to our own questions, for engines that play a recording instead of a model.

They were made by `make_recorded_answers`, not by a model; `workloads/data/README.md` says how.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from workloads.text2sql.datasets import DATA_FOLDER, DatasetInvalid, Question, read_questions

RECORDED_ANSWERS = DATA_FOLDER / "recorded_answers.jsonl"


class LinkedTable(BaseModel):
    """A table the model finds relevant, with the columns it would use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    columns: tuple[str, ...]


class RecordedAnswer(BaseModel):
    """All the model said to one question: the schema linking, the candidates, and what it made of those that failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question_id: str
    tables: tuple[LinkedTable, ...]
    candidates: tuple[str, ...]
    repairs: dict[str, str]


@dataclass(frozen=True, slots=True)
class RecordedQuestion:
    question: Question
    answer: RecordedAnswer


def read_recorded(path: Path = RECORDED_ANSWERS) -> list[RecordedQuestion]:
    """The recorded answers to our own questions. Raises `DatasetInvalid` for a file that is not as it should be."""
    questions = {question.id: question for question in read_questions(DATA_FOLDER / "questions.jsonl")}
    problems: list[str] = []
    recorded = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            answer = RecordedAnswer.model_validate_json(line)
            recorded.append(RecordedQuestion(questions[answer.question_id], answer))
        except ValidationError as error:
            problems.append(f"{path.name} line {number}: {error.errors()[0]['msg']}")
        except KeyError as error:
            problems.append(f"{path.name} line {number}: there is no question {error}")
    if problems:
        raise DatasetInvalid(
            [*problems, "make the file again with: python -m workloads.text2sql.make_recorded_answers"]
        )
    return recorded
