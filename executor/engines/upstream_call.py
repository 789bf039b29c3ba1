"""What engines inside this process read of a call in OpenAI's shape, checked as a server checks it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from planner.ir.schemas import schema_complaint
from planner.ir.values import Json, parse_json

#: Ways of vLLM's to bound an answer that are not a JSON schema.
_OTHER_GUIDES = ("guided_regex", "guided_choice", "guided_grammar", "structural_tag")


class CallRefused(Exception):
    """The call asks for what no engine inside this process can do; the text says all of it."""


class _Read(BaseModel):
    """Fields that are not here change nothing of an answer that is made up."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _parsed(given: Json) -> Json:
    """vLLM takes a schema as an object or as its text."""
    return parse_json(given) if isinstance(given, str) else given


def _checked(schema: dict[str, Any]) -> dict[str, Any]:
    complaint = schema_complaint(schema)
    if complaint is not None:
        raise ValueError(complaint)
    return schema


_AnySchema = Annotated[dict[str, Any], BeforeValidator(_parsed), AfterValidator(_checked)]


class _Function(_Read):
    name: Annotated[str, Field(min_length=1)]
    parameters: _AnySchema | None = None


class _Tool(_Read):
    function: _Function


class _Schema(_Read):
    schema_: Annotated[_AnySchema, Field(alias="schema")]


class _Format(_Read):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is missing")
        return self


class _Structured(_Read):
    model_config = ConfigDict(extra="forbid", frozen=True)

    json_: Annotated[_AnySchema, Field(alias="json")]


class UpstreamCall(_Read):
    """`max_tokens` is whichever of the two names was given; `guide` the JSON schema that the answer is to fit."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | list[str] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    tools: list[_Tool] | None = None
    response_format: _Format | None = None
    structured_outputs: _Structured | None = None
    guided_json: _AnySchema | None = None
    cache_salt: Annotated[str, Field(min_length=1)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def guide(self) -> Json:
        if self.structured_outputs is not None:
            return self.structured_outputs.json_
        if self.guided_json is not None or self.response_format is None:
            return self.guided_json
        if self.response_format.json_schema is not None:
            return self.response_format.json_schema.schema_
        return {"type": "object"} if self.response_format.type == "json_object" else None


def read_upstream_call(body: Mapping[str, Json]) -> UpstreamCall:
    """Raises `CallRefused` with all that is wrong."""
    problems = _cannot(body)
    try:
        call = UpstreamCall.model_validate(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems += [f"{_place(detail)}: {detail['msg'].lower()}" for detail in details]
    if problems:
        raise CallRefused("; ".join(problems))
    return call


def one_prompt(prompt: Json) -> str | None:
    """The text of a prompt, alone or as the only one of a list; None for any other."""
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    return prompt if isinstance(prompt, str) else None


def _cannot(body: Mapping[str, Json]) -> list[str]:
    problems = []
    logprobs = body.get("logprobs")  # of completions 0 asks for those of the tokens themselves
    if body.get("prompt_logprobs") or not (logprobs is None or logprobs is False):
        problems.append("this engine gives no logprobs")
    if "prompt" in body and one_prompt(body["prompt"]) is None:
        problems.append("this engine takes a prompt of one text")
    if body.get("echo") or body.get("suffix"):
        problems.append("this engine knows no echo and no suffix")
    if any(body.get(name) is not None for name in _OTHER_GUIDES):
        problems.append("this engine bounds answers by JSON schemas only")
    return problems


def _place(detail: Any) -> str:
    steps: Sequence[str | int] = detail["loc"]
    return ".".join(str(step) for step in steps) or "the call"
