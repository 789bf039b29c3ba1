"""The profile file: how fast an engine was measured to be, as `halo engines profile` writes it. Flat TOML."""

import json
import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from executor.errors import ProfileInvalid
from planner.cost.profile import Profile
from planner.errors import Problem
from planner.ir.tokens import CHARS_PER_TOKEN

_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(gt=0)]


class _ProfileTable(BaseModel):
    """The fields of `Profile`, within the bounds that keep its steps from ending before they begin."""

    model_config = ConfigDict(extra="forbid", strict=True)

    gpu: str
    source: str
    calibrated: bool
    weights_s: _NotNegative
    token_s: _Positive
    blend: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    kv_read_s: _NotNegative
    attend_s: _NotNegative
    kv_tokens: _Count
    overhead_s: _NotNegative
    block_tokens: _Count = 16
    step_tokens: _Count = 2048
    sequence_s: _NotNegative = 0.0
    call_s: _NotNegative = 0.0
    intake_token_s: _NotNegative = 0.0
    wake_s: _NotNegative = 0.0
    round_trip_s: _NotNegative = 0.0
    look_back_s: _NotNegative | None = None
    chunked: bool = True
    chars_per_token: _Positive = CHARS_PER_TOKEN
    template_tokens: float = 0.0
    error: float | None = None


def read_profile(path: Path) -> Profile:
    """Raises `ProfileInvalid` with everything that is wrong with the file."""
    try:
        table = _ProfileTable.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as problem:
        raise _invalid(path, f"cannot be read ({problem})") from None
    except tomllib.TOMLDecodeError as problem:
        raise _invalid(path, f"is not TOML: {problem}") from None
    except ValidationError as problem:
        wrong = [_problem(path, error) for error in problem.errors(include_url=False, include_input=False)]
        raise ProfileInvalid(wrong) from None
    if table.kv_tokens < table.block_tokens:
        raise _invalid(path, f"kv_tokens: {table.kv_tokens} tokens are less than one block of {table.block_tokens}")
    return Profile(**table.model_dump())


def write_profile(path: Path, profile: Profile) -> None:
    path.write_text(profile_toml(profile), encoding="utf-8")


def profile_toml(profile: Profile) -> str:
    """One `name = value` a line, in the order of the fields; what is not known is left out."""
    found = asdict(profile)
    lines = [
        f"{field.name} = {_literal(found[field.name])}" for field in fields(Profile) if found[field.name] is not None
    ]
    return "\n".join(["# How fast this engine was measured to be. A fleet file names it: profile = ...", *lines, ""])


def _literal(value: str | bool | float) -> str:
    """JSON's strings, numbers and truths are TOML's too, except for the bare surrogates no file holds."""
    return json.dumps(value, ensure_ascii=True)


def _problem(path: Path, error: Any) -> Problem:
    place = ".".join(str(part) for part in error["loc"])
    fix = "let `halo engines profile` write it anew, or correct it"
    return Problem(str(path), f"{place}: {error['msg']}", fix)


def _invalid(path: Path, what: str) -> ProfileInvalid:
    return ProfileInvalid([Problem(str(path), what, "name a file that `halo engines profile` wrote")])
