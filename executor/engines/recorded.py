"""Answers from a file: a run that happened once can be run again without an engine."""

from collections import defaultdict
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Self, TextIO

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError, model_validator

from executor.engines.answers import Answer, no_answer
from executor.engines.port import Completion, Engine, EngineHealth, EngineSpec, GenerateRequest
from executor.engines.prompts import prompt_text
from executor.errors import AnswersInvalid
from planner.errors import Problem
from planner.ir.conversation import ToolCall
from planner.ir.values import canonical_json


class Recorded:
    """Body of `Answers`: the line with the request's `answer_key`, else the first line whose `contains` the prompt has.

    Where a key was recorded more than once, a request whose answer is fixed gets the newest, another one of them by
    its call id. A request without a line fails with the code `no_recorded_answer`.
    """

    def __init__(self, lines: Iterable["RecordedLine"]) -> None:
        self._by_key: dict[str, list[Answer]] = defaultdict(list)
        self._by_text: list[tuple[str, Answer]] = []
        for line in lines:
            self._keep(line)

    def answer(self, request: GenerateRequest) -> Answer:
        key = answer_key(request)
        if known := self._by_key.get(key):
            return known[-1] if request.sampling.fixed else known[_draw(request.call_id, len(known))]
        prompt = prompt_text(request.messages, request.tools) if self._by_text else ""
        for text, answer in self._by_text:
            if text in prompt:
                return answer
        raise no_answer("no_recorded_answer", f"no answer is recorded for this request; its key is {key}")

    def _keep(self, line: "RecordedLine") -> None:
        if line.key is not None:
            self._by_key[line.key].append(line.answer())
        if line.contains is not None:
            self._by_text.append((line.contains, line.answer()))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RecordedCall(_Strict):
    id: str
    name: str
    arguments: str


class RecordedLine(_Strict):
    """One line of the file. It names its requests by `key`, or by a text their prompts contain."""

    key: str | None = None
    contains: str | None = None
    text: str = ""
    tool_calls: tuple[_RecordedCall, ...] = ()
    output_tokens: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _names_its_requests(self) -> Self:
        if (self.key is None) == (self.contains is None):
            raise ValueError("give either `key` or `contains`")
        return self

    def answer(self) -> Answer:
        calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in self.tool_calls)
        return Answer(self.text, calls, self.output_tokens)


class Recording:
    """Body of the `Engine` port: another engine, whose every completion is written to a file that `Recorded` reads."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self._path = path
        self._file: TextIO | None = None

    @property
    def spec(self) -> EngineSpec:
        return self._engine.spec

    async def generate(self, request: GenerateRequest) -> Completion:
        completion = await self._engine.generate(request)
        self._write(recorded_line(request, completion))
        return completion

    async def probe(self) -> EngineHealth:
        return await self._engine.probe()

    async def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        await self._engine.close()

    def _write(self, line: str) -> None:
        """Line by line, so that a run that is killed leaves what it had."""
        if self._file is None:
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
        self._file.write(line + "\n")


def answer_key(request: GenerateRequest) -> str:
    """Names what was asked: messages, schema, tools and seed. Not the model, so that another may stand in for it."""
    asked = [request.messages, request.schema, request.tools, request.sampling.seed]
    return blake2b(canonical_json(asked).encode("utf-8", "surrogatepass"), digest_size=16, person=b"answer").hexdigest()


def recorded_line(request: GenerateRequest, completion: Completion) -> str:
    """The line that makes `Recorded` answer the request as the completion did."""
    calls = tuple(_RecordedCall(id=call.id, name=call.name, arguments=call.arguments) for call in completion.tool_calls)
    line = RecordedLine(
        key=answer_key(request),
        text=completion.text,
        tool_calls=calls,
        output_tokens=completion.usage.output_tokens,
    )
    return line.model_dump_json(exclude_defaults=True)


def read_recorded(path: Path) -> Recorded:
    """Raises `AnswersInvalid` with every line that is no recorded answer."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        fix = "name a JSONL file of recorded answers"
        raise AnswersInvalid([Problem(str(path), f"cannot be read ({problem})", fix)]) from None
    lines: list[RecordedLine] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            _read_line(f"{path}:{number}", line, lines, problems)
    if problems:
        raise AnswersInvalid(problems)
    return Recorded(lines)


def _read_line(where: str, line: str, lines: list[RecordedLine], problems: list[Problem]) -> None:
    try:
        lines.append(RecordedLine.model_validate_json(line))
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_input=False):
            field = ".".join(str(part) for part in error["loc"])
            what = f"{field}: {error['msg']}" if field else error["msg"]
            fix = 'write {"key": ... or "contains": ..., "text": ...} on one line'
            problems.append(Problem(where, what, fix))


def _draw(call_id: str, count: int) -> int:
    return int.from_bytes(blake2b(call_id.encode(), digest_size=8).digest(), "big") % count
