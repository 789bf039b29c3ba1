"""A workload given by hand: a TOML or JSON file.

programs_per_s = 2.0

[[call]]
name = "draft"
model = "meta-llama/Llama-3.1-8B-Instruct"
prompt_tokens = 3000
cached_tokens = 2000               # of them; without it, none
output_tokens = 200
per_program = 3                    # without it, 1
in_turn = 1                        # so many wait for each other; without it, all
tenant = "ann"                     # whose they are; without it, those of `halo fleet ... --tenant`
adapter_of = "meta-llama/Llama-3"  # where `model` is a LoRA adapter: the model that it is of

Before the first [[call]], `apart = ["ann"]` names tenants whose calls go to engines that are kept for them.
"""

import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from halo.sdk.errors import HaloError
from planner.errors import Problem, problem_lines
from planner.fleet.workload import CallClass, Workload

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class WorkloadInvalid(HaloError):
    """Everything wrong with a workload at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(["this is no workload:", *problem_lines(problems)]))
        self.problems = problems


def read_workload(path: Path) -> Workload:
    """Raises `WorkloadInvalid`."""
    try:
        return _File.model_validate(_content(path)).workload(path.name)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False)
        raise WorkloadInvalid(tuple(_problem(path, error) for error in errors)) from None


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    prompt_tokens: _Positive
    output_tokens: _Positive
    name: str = ""
    per_program: _Positive = 1.0
    cached_tokens: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    in_turn: _Positive | None = None
    tenant: str = ""
    adapter_of: str = ""

    @model_validator(mode="after")
    def _cached_are_of_the_prompt(self) -> Self:
        if self.cached_tokens > self.prompt_tokens:
            raise ValueError("cached_tokens are more than prompt_tokens")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    programs_per_s: _Positive
    call: Annotated[list[_Call], Field(min_length=1)]
    apart: list[str] = []

    @model_validator(mode="after")
    def _who_is_apart_calls(self) -> Self:
        if strangers := set(self.apart) - {call.tenant for call in self.call}:
            raise ValueError(f"apart names tenants that no call is of: {', '.join(sorted(strangers))}")
        return self

    def workload(self, origin: str) -> Workload:
        names = [call.name or f"call {number}" for number, call in enumerate(self.call, start=1)]
        calls = [
            CallClass(
                name,
                call.model,
                call.prompt_tokens,
                call.output_tokens,
                call.per_program,
                call.cached_tokens,
                call.in_turn,
                call.tenant,
                call.tenant in self.apart,
                call.adapter_of,
            )
            for name, call in zip(_told_apart(names), self.call, strict=True)
        ]
        return Workload(self.programs_per_s, tuple(calls), f"as {origin} says")


def _told_apart(names: Sequence[str]) -> Iterator[str]:
    """Calls of one name are classes of their own, and each counts, however alike they are."""
    for number, name in enumerate(names, start=1):
        yield f"{name} ({number})" if name in names[: number - 1] else name


_EXAMPLES = {
    "programs_per_s": "write for example programs_per_s = 2.0",
    "call": "write a [[call]] with model, prompt_tokens and output_tokens for each kind of calls",
}


def _content(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as problem:
        what, fix = f"cannot be read ({problem})", "name a readable file"
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as problem:
        what, fix = f"is neither TOML nor JSON: {problem}", "write programs_per_s and a [[call]] for each kind of calls"
    raise WorkloadInvalid((Problem(str(path), what, fix),))


def _problem(path: Path, error: Any) -> Problem:
    place = ".".join(str(part) for part in error["loc"])
    what, fix = _told(error)
    return Problem(str(path), f"{place}: {what}" if place else what, fix)


def _told(error: Any) -> tuple[str, str]:
    owner, model = ("a workload", _File) if len(error["loc"]) == 1 else ("a call", _Call)
    match error["type"]:
        case "extra_forbidden":
            return "is not known", f"{owner} knows: {', '.join(model.model_fields)}"
        case "missing":
            return "is missing", _EXAMPLES.get(error["loc"][-1], "give it")
        case _:
            return error["msg"], "correct it"
