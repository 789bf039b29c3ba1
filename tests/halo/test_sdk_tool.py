"""`@halo.tool`: what it asks of a function, and what it makes of it."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

import halo
from halo.sdk.errors import ArgumentsInvalid
from planner.errors import Problem
from planner.ir.plan import Effect, Fallback, ToolSpec

LineOf = Callable[[str], str]


class Query(BaseModel):
    sql: str
    limit: int = 10


@dataclass
class Rows:
    rows: list[list[int]]
    error: str | None = None


@halo.tool(effect="unsafe", timeout="150ms", concurrency=2, isolated=True, memory_mb=256, name="query")
def run_query(query: Query, strict: bool = False) -> Rows:
    """Run a query."""
    return Rows([[len(query.sql), query.limit]])


def problems(define: Callable[[], object], name: str) -> list[Problem]:
    with pytest.raises(halo.ToolInvalid) as caught:
        define()
    assert str(caught.value).startswith(f"tool {name!r}: ")
    return list(caught.value.problems)


def test_the_spec_says_all_a_plan_needs() -> None:
    assert run_query.spec == ToolSpec(
        name="query",
        effect=Effect.UNSAFE,
        description="Run a query.",
        parameters={
            "type": "object",
            "properties": {"query": {"$ref": "#/$defs/Query"}, "strict": {"type": "boolean"}},
            "required": ["query"],
            "additionalProperties": False,
            "$defs": {
                "Query": {
                    "type": "object",
                    "title": "Query",
                    "properties": {"sql": {"type": "string"}, "limit": {"type": "integer", "default": 10}},
                    "required": ["sql"],
                }
            },
        },
        timeout_s=0.15,
        retries=0,
        concurrency=2,
    )


def test_outside_of_a_workflow_it_is_the_plain_function() -> None:
    assert run_query(Query(sql="abc")) == Rows([[3, 10]])
    assert run_query.__name__ == "run_query"
    assert run_query.__doc__ == "Run a query."


def test_its_function_takes_and_gives_json() -> None:
    assert run_query.function(query={"sql": "abc", "limit": "7"}) == {"rows": [[3, 7]], "error": None}
    with pytest.raises(ArgumentsInvalid, match=r"the arguments of query do not fit: query\.sql: Field required"):
        run_query.function(query={})
    with pytest.raises(ArgumentsInvalid, match="nonsense: Extra inputs are not permitted"):
        run_query.function(query={"sql": ""}, nonsense=1)


def test_an_isolated_tool_names_what_a_child_process_imports() -> None:
    assert run_query.isolated
    assert run_query.memory_bytes == 256 * 1024 * 1024
    assert run_query.target == f"{__name__}:run_query.function"


def test_async_tools_stay_async() -> None:
    @halo.tool
    async def double(n: int) -> int:
        return 2 * n

    assert asyncio.iscoroutinefunction(double.function)
    assert asyncio.run(double.function(n=4)) == 8


def test_a_result_that_is_no_json_is_handed_on_for_the_runner_to_refuse() -> None:
    @halo.tool
    def broken(n: int) -> Any:
        return object()

    assert type(broken.function(n=1)) is object


def test_a_fallback_of_the_return_type_comes_into_the_stage() -> None:
    @halo.tool(fallback=Rows([], "failed"))
    def look(sql: str) -> Rows:
        return Rows([])

    @halo.workflow
    def ask(sql: str) -> str | None:
        return look(sql).error

    (stage,) = ask.plan.stages
    assert stage.fallback == Fallback({"rows": [], "error": "failed"})  # type: ignore[union-attr]


def test_missing_types_are_told_with_their_lines(line_of: LineOf) -> None:
    def define() -> object:
        @halo.tool
        def look(  # def
            db,  # type: ignore[no-untyped-def] # parameter
            limit: int,
        ):
            return db

        return look

    told = problems(define, "look")
    assert [problem.where for problem in told] == [line_of("parameter"), line_of("def")]
    assert told[0].what == "parameter 'db' has no type hint"
    assert told[0].fix == "write its type, so that calls can be checked: db: str"
    assert told[1].what == "the return type is missing"
    assert told[1].fix == "write it: def look(...) -> str:"


def test_types_without_json() -> None:
    class Connection:
        pass

    def define() -> object:
        @halo.tool
        def look(connection: Connection, *tables: str) -> Connection:
            return connection

        return look

    told = problems(define, "look")
    assert told[0].what.startswith("parameter 'connection' has no JSON form")
    assert told[0].fix == "use JSON types, dataclasses, pydantic models, or TypedDict from typing_extensions"
    assert told[1].what == "parameter `*tables: str` cannot be given by name"
    assert told[2].what.startswith("the return type has no JSON form")


def test_type_hints_that_cannot_be_read(line_of: LineOf) -> None:
    def define() -> object:
        @halo.tool
        def look(db: "Unknown") -> str:  # type: ignore[name-defined] # noqa: F821 # here
            return ""

        return look

    (problem,) = problems(define, "look")
    assert problem.where == line_of("here")
    assert problem.what == "its type hints cannot be read: name 'Unknown' is not defined"


def test_options_that_cannot_be(line_of: LineOf) -> None:
    def define() -> object:
        @halo.tool(effect="reading", timeout="soon", retries=99, concurrency=0, memory_mb=3, fallback=1)
        def look(db: str) -> str:  # here
            return db

        return look

    told = {problem.what: problem.fix for problem in problems(define, "look")}
    assert told == {
        "effect is 'reading'": "give one of: pure, idempotent, unsafe",
        "timeout: 'soon' is not a time span": 'write seconds above 0, or a text like "150ms", "30s", "5m", "1h"',
        "retries is 99": "use 0 to 10",
        "concurrency is 0": "use 1 to 1024",
        "memory_mb bounds only isolated tools": "add isolated=True, or drop memory_mb=",
        "fallback does not fit the type of the answer: Input should be a valid string": "give a value of that type",
    }
    assert {problem.where for problem in problems(define, "look")} == {line_of("here")}


def test_unsafe_tools_are_never_run_again() -> None:
    def define() -> object:
        @halo.tool(effect="unsafe", retries=2)
        def send(text: str) -> None:
            return None

        return send

    (problem,) = problems(define, "send")
    assert problem.what == "an unsafe tool is never run again, but retries is set"
    assert problem.fix == 'drop retries=, or effect="unsafe"'


def test_isolated_tools_must_be_importable_and_sync() -> None:
    def define() -> object:
        @halo.tool(isolated=True, memory_mb=8)
        async def look(db: str) -> str:
            return db

        return look

    told = {problem.what: problem.fix for problem in problems(define, "look")}
    assert told["an isolated tool has a process of its own, so it cannot be async"] == "write a plain def"
    local = [what for what in told if "is local" in what]
    assert [told[what] for what in local] == ["define it at the top level of a module"]
    assert told["memory_mb is 8"] == "give at least 64: Python itself needs that much"


def test_isolated_tools_of_the_started_script_are_refused() -> None:
    def look(db: str) -> str:
        return db

    look.__module__, look.__qualname__ = "__main__", "look"
    (problem,) = problems(lambda: halo.tool(isolated=True)(look), "look")
    assert "cannot import the script that was started" in problem.what
    assert problem.fix == "move it into a module of its own and import it from there"


@halo.tool(max_batch=8, concurrency=2)
def measure(text: str, unit: str = "cm") -> Rows:
    return Rows([[len(text)]], unit)


@measure.batched
def measure_many(calls: list[dict[str, Any]]) -> list[Rows | Exception]:
    return [measure(**call) if call["text"] else ValueError("empty") for call in calls]


def test_a_body_for_many_takes_and_gives_json_and_failures_as_values() -> None:
    assert (measure.spec.max_batch, measure.spec.most_in_flight) == (8, 16)
    assert measure.batch_function is not None
    given = list(measure.batch_function([{"text": "abc"}, {"text": ""}, {"txt": "x"}, {"text": "a", "unit": "m"}]))
    assert (given[0], given[3]) == ({"rows": [[3]], "error": "cm"}, {"rows": [[1]], "error": "m"})
    assert repr(given[1]) == "ValueError('empty')"
    assert isinstance(given[2], ArgumentsInvalid)
    assert measure_many([{"text": "plain", "unit": "m"}]) == [Rows([[5]], "m")], "it stays a plain function"


def test_a_body_for_many_may_give_its_results_as_they_come() -> None:
    @halo.tool(max_batch=8)
    def look(text: str, unit: str = "cm") -> str:
        return text

    @look.batched(together=lambda text, unit="cm": unit)
    def look_many(calls: list[dict[str, Any]]) -> Iterator[str]:
        for call in calls:
            if call["text"] == "late":
                raise RuntimeError("too late")
            yield f"{call['text']} {call['unit']}"

    assert look.together is not None
    assert look.together(text="a") == "cm"
    assert look.batch_function is not None
    results = look.batch_function([{"text": "a"}, {"txt": "b"}, {"text": "late"}])
    assert next(results) == "a cm"
    assert isinstance(next(results), ArgumentsInvalid)
    with pytest.raises(RuntimeError, match="too late"):
        next(results)


def test_what_says_which_calls_go_together_takes_the_arguments_of_the_tool() -> None:
    @halo.tool(max_batch=8)
    def look(text: str) -> str:
        return text

    def define() -> object:
        @look.batched(together=lambda key: key)
        def look_many(calls: list[dict[str, Any]]) -> list[str]:
            return []

        return look_many

    (problem,) = problems(define, "look")
    assert problem.what == "together= cannot be called with the arguments of look"
    assert problem.fix == "give it the parameters of look"


def test_a_body_for_many_that_loses_calls_is_told() -> None:
    @halo.tool(max_batch=8)
    def look(text: str) -> str:
        return text

    @look.batched
    def look_many(calls: list[dict[str, Any]]) -> list[str]:
        return []

    assert look.batch_function is not None
    with pytest.raises(ValueError, match="returned 0 results for 1 calls"):
        list(look.batch_function([{"text": "a"}]))


def test_a_body_for_many_that_cannot_be_one_is_refused_with_everything_that_is_wrong(line_of: LineOf) -> None:
    @halo.tool
    def look(text: str) -> str:
        return text

    def define() -> object:
        @look.batched
        async def look_many(text: str, unit: str) -> list[str]:  # many
            return [text]

        return look_many

    told = {problem.what: problem.fix for problem in problems(define, "look")}
    assert told == {
        "look has a body for many calls, but runs one at a time": (
            "say how many calls it takes: @halo.tool(max_batch=64) over look"
        ),
        "one of look and its body for many calls is async, the other is not": "make both async, or neither",
        "a body for many calls takes one argument, the list of calls": (
            "def look_many(calls: list[dict[str, Any]]) -> list[...]:"
        ),
    }
    assert {problem.where for problem in problems(define, "look")} == {line_of("many")}


def test_an_isolated_tool_has_its_body_for_many_beside_it() -> None:
    def body(calls: list[dict[str, Any]]) -> list[str]:
        return []

    body.__module__ = "elsewhere"
    tool = halo.tool(isolated=True, max_batch=2)(plain_look)
    (problem,) = problems(lambda: tool.batched(body), "plain_look")
    assert problem.fix == "define its body for many calls there, beside plain_look"


def plain_look(text: str) -> str:
    return text


def test_an_unsafe_tool_takes_no_batches() -> None:
    def define() -> object:
        @halo.tool(effect="unsafe", max_batch=4)
        def send(text: str) -> None:
            return None

        return send

    (problem,) = problems(define, "send")
    assert problem.what.startswith("max_batch is 4, but a batch that fails is run again call by call")
    assert problem.fix == "leave it at 1, or declare another effect"


def test_a_workflow_tells_of_a_tool_without_its_body_for_many() -> None:
    @halo.tool(max_batch=8)
    def look(text: str) -> str:
        return text

    def define() -> object:
        @halo.workflow
        def ask(text: str) -> str:
            return look(text)

        return ask

    with pytest.raises(halo.WorkflowInvalid) as caught:
        define()
    (problem,) = caught.value.problems
    assert problem.what == "`look` takes up to 8 calls at once, but has no body for many"
    assert problem.fix == "write one under @look.batched, or drop max_batch="
