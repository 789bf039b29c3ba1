"""A model that is a recording: for the `answers` of engines that compute nothing (`scripted`, `modelled`).

    [engine.options]
    answers = "workloads.text2sql.recorded_model:answer"

It reads a prompt of the workflow as a model would, and says what `workloads/data/recorded_answers.jsonl` has for the
question. To another question it says something that runs, so that other data sets can be run on it too; such answers
are right by chance only.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Protocol
from zlib import crc32

from executor.engines.answers import Answer, no_answer
from executor.engines.port import GenerateRequest
from workloads.text2sql.make_databases import SAMPLE_DATABASES
from workloads.text2sql.recorded import RecordedAnswer, read_recorded

DISTINCT_SCHEMAS = 512


def answer(request: GenerateRequest) -> Answer:
    """JSON of the shape the prompt asks for; which candidate it is, the sampling's seed says.

    Raises `EngineFailed` for a prompt that is none of the workflow's.
    """
    prompt = request.messages[-1]["content"]
    if found := _LINK.search(prompt):
        return Answer(_voice(prompt, found).linking)
    if found := _DRAFT.search(prompt):
        candidates = _voice(prompt, found).candidates
        return Answer(candidates[(request.sampling.seed or 0) % len(candidates)])
    if found := _REPAIR.search(prompt):
        return Answer(_voice(prompt, found).repair(found["sql"]))
    raise no_answer("not_recorded", "this prompt is none of the Text-to-SQL workflow's")


_LINK = re.compile(r"\n\nName the tables and columns.*?\nHint: .*\nQuestion: (?P<question>.*)", re.DOTALL)
_DRAFT = re.compile(
    r"\n\nWrite one SELECT that answers the question\.\nHint: .*\nQuestion: (?P<question>.*)", re.DOTALL
)
_REPAIR = re.compile(r"\n\nThis query failed\..*?\nQuestion: (?P<question>.*?)\nQuery: (?P<sql>.*)\nError: ", re.DOTALL)


class Voice(Protocol):
    """All there is to say to one question, as JSON texts."""

    @property
    def linking(self) -> str: ...

    @property
    def candidates(self) -> Sequence[str]: ...

    def repair(self, broken_sql: str) -> str: ...


def _voice(prompt: str, found: re.Match[str]) -> Voice:
    question = _plain(found["question"])
    schema = _read_schema(prompt[: found.start()])
    return _recorded().get((schema.sample, question)) or Guess(schema, question)


@dataclass(frozen=True, slots=True)
class Recording:
    """Body of `Voice`: what is recorded. A query nothing is recorded for comes back as it is."""

    linking: str
    candidates: tuple[str, ...]
    repairs: Mapping[str, str]

    def repair(self, broken_sql: str) -> str:
        return self.repairs.get(broken_sql) or _draft(broken_sql)


@dataclass(frozen=True, slots=True)
class Schema:
    """What is made out of a prompt's schema: its first table, and which of our samples it is, if any."""

    sample: str
    table: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guess:
    """Body of `Voice` for what is not recorded: queries over the first table. The question picks the column."""

    schema: Schema
    question: str

    @property
    def linking(self) -> str:
        names = [_unquoted(name)[:64] for name in (self.schema.table, self._column)]
        return json.dumps({"tables": [{"table": names[0], "columns": names[1:]}]})

    @property
    def candidates(self) -> Sequence[str]:
        return _draft(f"SELECT {self._column} FROM {self.schema.table}"), self._count

    def repair(self, broken_sql: str) -> str:
        return self._count

    @property
    def _count(self) -> str:
        return _draft(f"SELECT count({self._column}) FROM {self.schema.table}")

    @property
    def _column(self) -> str:
        return self.schema.columns[crc32(self.question.encode()) % len(self.schema.columns)]


@lru_cache(DISTINCT_SCHEMAS)
def _read_schema(text: str) -> Schema:
    """From what `schema.render_schema` writes."""
    tables = re.findall(r"^([^ \n].*)\($", text, re.MULTILINE)
    first = text[: text.find("\n)")]
    columns = re.findall(r'^  ("(?:[^"]|"")*"|[^\s,]+)', first, re.MULTILINE)
    sample = _samples().get(frozenset(tables), "")
    return Schema(sample, tables[0] if tables else "sqlite_schema", tuple(columns) or ("*",))


@cache
def _samples() -> Mapping[frozenset[str], str]:
    """The sample databases by their tables."""
    return {
        frozenset(re.findall(r"CREATE TABLE (\w+)", sample.schema)): db_id for db_id, sample in SAMPLE_DATABASES.items()
    }


@cache
def _recorded() -> Mapping[tuple[str, str], Recording]:
    """What is recorded, by sample database and question."""
    return {(one.question.db_id, _plain(one.question.question)): _recording(one.answer) for one in read_recorded()}


def _recording(recorded: RecordedAnswer) -> Recording:
    linking = json.dumps({"tables": [table.model_dump() for table in recorded.tables]}, ensure_ascii=False)
    repairs = {broken: _draft(repaired) for broken, repaired in recorded.repairs.items()}
    return Recording(linking, tuple(_draft(sql) for sql in recorded.candidates), repairs)


def _plain(question: str) -> str:
    return " ".join(question.split()).lower()


def _draft(sql: str) -> str:
    return json.dumps({"sql": sql}, ensure_ascii=False)


def _unquoted(name: str) -> str:
    return name.strip('"').replace('""', '"')
