"""What one stage may ask for, looked at alone: figures in range, names and schemas that are ones."""

import json
import math
import re
from collections.abc import Iterator

from planner.errors import Problem
from planner.ir.plan import Agent, Choose, Effect, Fallback, Generate, Loop, Map, Sampling, Stage, Tool, ToolSpec
from planner.ir.schemas import schema_complaint, value_complaint
from planner.ir.values import Json, canonical_json

MAX_ROUNDS = 1000
MAX_ITEMS = 10_000
MAX_TURNS = 200
MAX_RETRIES = 10
MAX_CONCURRENCY = 1024
MAX_BATCH = 1024

_TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


def stage_problems(stage: Stage, where: str) -> Iterator[Problem]:
    match stage:
        case Generate() | Agent():
            yield from _call_problems(stage, where)
            yield from _fallback_problems(stage.fallback, where)
        case Tool():
            yield from tool_problems(stage.tool, f"{where}.tool")
            yield from _argument_problems(stage, where)
            yield from _fallback_problems(stage.fallback, where)
        case Choose():
            for index, case in enumerate(stage.cases):
                yield from json_problems(case.equals, f"{where}.cases[{index}].equals")
        case Map():
            yield from _within(f"{where}.max_items", stage.max_items, 1, MAX_ITEMS)
        case Loop():
            yield from _within(f"{where}.max_rounds", stage.max_rounds, 1, MAX_ROUNDS)


def tool_problems(tool: ToolSpec, where: str) -> Iterator[Problem]:
    if not _TOOL_NAME.fullmatch(tool.name):
        yield Problem(f"{where}.name", f"is {tool.name!r}", "use up to 64 letters, digits, '_', '.' and '-'")
    yield from _timeout(f"{where}.timeout_s", tool.timeout_s)
    yield from _within(f"{where}.retries", tool.retries, 0, MAX_RETRIES)
    yield from _within(f"{where}.concurrency", tool.concurrency, 1, MAX_CONCURRENCY)
    yield from _within(f"{where}.max_batch", tool.max_batch, 1, MAX_BATCH)
    if tool.effect is Effect.UNSAFE and tool.max_batch > 1:
        what = f"is {tool.max_batch}, but a batch that fails is run again call by call, and the tool is unsafe"
        yield Problem(f"{where}.max_batch", what, "leave it at 1, or declare another effect")
    yield from schema_problems(tool.parameters, f"{where}.parameters")


def schema_problems(schema: Json, where: str) -> Iterator[Problem]:
    complaint = None if schema is None else schema_complaint(schema)
    if complaint is not None:
        yield Problem(where, complaint, "give a self-contained JSON schema object (draft 2020-12)")


def json_problems(data: Json, where: str) -> Iterator[Problem]:
    """What would not come back the same from JSON text: tuples, NaN, half surrogate pairs, keys that are no text."""
    try:
        text = canonical_json(data)
        text.encode()
        same = bool(json.loads(text) == data)
    except (TypeError, ValueError):
        same = False
    if not same:
        yield Problem(where, f"is not JSON: {data!r:.80}", "use text, numbers, booleans, None, lists and dicts")


def default_problems(default: Fallback | None, schema: Json, where: str) -> Iterator[Problem]:
    """A value that stands in for another must be JSON and fit the other's schema."""
    if default is None:
        return
    problems = list(json_problems(default.value, where))
    yield from problems
    if problems or schema is None or schema_complaint(schema) is not None:
        return
    complaint = value_complaint(schema, default.value)
    if complaint is not None:
        yield Problem(where, complaint, "change the value or the schema")


def _call_problems(stage: Generate | Agent, where: str) -> Iterator[Problem]:
    if not stage.model:
        yield Problem(f"{where}.model", "is empty", "name the model")
    if not stage.messages:
        yield Problem(f"{where}.messages", "is empty", "give at least one message")
    yield from _sampling_problems(stage.sampling, f"{where}.sampling")
    yield from _timeout(f"{where}.timeout_s", stage.timeout_s)
    yield from _within(f"{where}.retries", stage.retries, 0, MAX_RETRIES)
    if isinstance(stage, Generate):
        yield from schema_problems(stage.schema, f"{where}.schema")
        return
    yield from _within(f"{where}.max_turns", stage.max_turns, 1, MAX_TURNS)
    for index, tool in enumerate(stage.tools):
        yield from tool_problems(tool, f"{where}.tools[{index}]")


def _sampling_problems(sampling: Sampling, where: str) -> Iterator[Problem]:
    yield from _within(f"{where}.temperature", sampling.temperature, 0, 2)
    yield from _within(f"{where}.max_tokens", sampling.max_tokens, 1, math.inf)
    if not 0 < sampling.top_p <= 1:
        yield Problem(f"{where}.top_p", f"is {sampling.top_p}", "use a number above 0, at most 1")
    if not all(sampling.stop):
        yield Problem(f"{where}.stop", "holds an empty text", "leave it out")


def _fallback_problems(fallback: Fallback | None, where: str) -> Iterator[Problem]:
    if fallback is not None:
        yield from json_problems(fallback.value, f"{where}.fallback")


def _argument_problems(stage: Tool, where: str) -> Iterator[Problem]:
    """Names only: the values are known when the stage runs."""
    parameters = stage.tool.parameters
    if parameters is None or schema_complaint(parameters) is not None:
        return
    given = {field.name for field in stage.arguments.fields}
    for name in parameters.get("required", []):
        if name not in given:
            yield Problem(f"{where}.arguments", f"lack {name!r}", f"tool {stage.tool.name!r} requires it")
    if parameters.get("additionalProperties") is False and "patternProperties" not in parameters:
        for name in sorted(given - parameters.get("properties", {}).keys()):
            yield Problem(f"{where}.arguments.{name}", f"is unknown to tool {stage.tool.name!r}", "leave it out")


def _within(where: str, figure: float, low: float, high: float) -> Iterator[Problem]:
    if not low <= figure <= high:
        fix = f"use {low} or more" if math.isinf(high) else f"use {low} to {high}"
        yield Problem(where, f"is {figure}", fix)


def _timeout(where: str, seconds: float) -> Iterator[Problem]:
    if not (0 < seconds < math.inf):
        yield Problem(where, f"is {seconds}", "use a number of seconds above 0")
