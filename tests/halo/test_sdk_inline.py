"""Workflows run inline: real tools, a function or a server for the model, no other parts."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from pydantic import BaseModel

import halo
from halo.sdk.engine import ENGINE_KEY
from halo.sdk.inline import ENGINE_URL
from planner.ir.plan import Sampling
from planner.ir.values import Json


class Draft(BaseModel):
    sql: str


class Answer(BaseModel):
    sql: str
    rows: list[int]


@halo.llm(model="sql", output=Draft, seed=4)
def draft(question: str) -> str:
    return f"draft {question}"


@halo.llm(model="sql", retries=0)
def fix(sql: str, error: str) -> str:
    return f"fix {sql}: {error}"


@halo.tool(effect="pure")
def run_sql(sql: str) -> dict[str, Any]:
    return {"rows": [1, 2], "error": None} if sql.startswith("select") else {"rows": [], "error": "syntax"}


@halo.workflow
def ask(question: str, tries: int = 2) -> Answer:
    def revise(state: dict[str, Any]) -> dict[str, Any]:
        sql = fix(state["sql"], state["found"]["error"])
        return {"sql": sql, "found": run_sql(sql)}

    first = draft(question).sql
    start = {"sql": first, "found": run_sql(first)}
    last = halo.loop(revise, start, until=lambda s: s["found"]["error"] == None, max_rounds=2)  # noqa: E711
    return Answer.model_construct(sql=last["sql"], rows=last["found"]["rows"])


def answering(messages: list[Json], sampling: Sampling, schema: Json) -> str:
    text = messages[-1]["content"]
    assert (schema is not None) == text.startswith("draft")
    return '{"sql": "chose x"}' if schema else f"select fixed -- {text}"


def test_a_program_runs_from_input_to_result() -> None:
    assert ask.run(question="how many?", model=answering) == Answer(
        sql="select fixed -- fix chose x: syntax", rows=[1, 2]
    )


def test_a_workflow_without_a_model_is_simply_called() -> None:
    @halo.workflow
    def twice(sql: str) -> list[object]:
        return halo.map(lambda one: run_sql(one)["rows"], [sql, "x"])

    assert twice("select 1") == [[1, 2], []]
    assert twice.run(sql="x") == [[], []]


def test_inputs_may_be_models_and_are_checked_at_once() -> None:
    @halo.workflow
    def show(draft: Draft, count: int, word: str = "x") -> dict[str, object]:
        return {"sql": draft.sql, "count": count, "word": word}

    assert show(Draft(sql="a"), count=2) == {"sql": "a", "count": 2, "word": "x"}
    with pytest.raises(halo.InputsInvalid) as caught:
        show.run(draft={}, wrd="y")
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [
        ("wrd", "there is no such input"),
        ("draft", "sql: Field required"),
        ("count", "is missing"),
    ]
    assert "the inputs are (draft: " in str(caught.value)
    with pytest.raises(halo.InputsInvalid, match="missing a required argument: 'draft'"):
        show()  # type: ignore[call-arg]


def test_results_of_dataclasses_and_lists_of_models_are_built() -> None:
    @dataclass
    class Pair:
        left: str
        drafts: list[Draft]

    @halo.workflow
    def build(sql: str) -> Pair:
        return Pair(sql, [Draft.model_construct(sql=sql)])

    assert build("x") == Pair("x", [Draft(sql="x")])


def test_a_result_that_does_not_fit_its_type() -> None:
    @halo.workflow
    def build(sql: str) -> Answer:
        return Answer.model_construct(sql=sql, rows=run_sql(sql)["error"])

    with pytest.raises(halo.RunFailed, match=r"bad_result: the result of 'build' does not fit its type: rows"):
        build("x")


def test_agents_run_their_tools_and_learn_from_their_errors() -> None:
    @halo.tool
    def add(a: int, b: int) -> int:
        return a + b

    @halo.workflow
    def solve(question: str) -> object:
        return halo.agent(question, model="big", tools=[add], max_turns=4)

    replies = iter(
        [
            halo.Reply("", (halo.ToolCall("1", "add", '{"a": 1}'), halo.ToolCall("2", "add", '{"a": 1, "b": 2}'))),
            halo.Reply("three"),
        ]
    )
    seen: list[Json] = []

    def model(messages: list[Json], sampling: Sampling, schema: Json) -> halo.Reply:
        seen[:] = messages
        return next(replies)

    assert solve.run(question="1+2?", model=model) == {"text": "three", "turns": 2, "stopped": "answered"}
    told = [message["content"] for message in seen if message["role"] == "tool"]
    assert "the arguments of add do not fit: b: Field required" in told[0]
    assert told[1] == "3"


def test_async_tools_run_with_and_without_a_running_loop() -> None:
    @halo.tool(timeout="60s")
    async def give_way() -> str:
        await asyncio.sleep(0.0)
        return "done"

    @halo.tool(timeout="50ms")
    async def wait(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    @halo.workflow
    def giving_way() -> str:
        return give_way()

    @halo.workflow
    def waiting(seconds: float) -> str:
        return wait(seconds)

    async def in_a_notebook() -> str:
        return giving_way()

    assert giving_way() == "done"
    assert asyncio.run(in_a_notebook()) == "done"
    with pytest.raises(halo.RunFailed, match=r"tool_timeout: tool 'wait' took longer than 0\.05 s"):
        waiting(3600.0)


def test_what_a_tool_raises_is_the_cause() -> None:
    calls: list[str] = []

    @halo.tool(retries=2)
    def raising(text: str) -> str:
        calls.append(text)
        raise LookupError(text)

    @halo.tool
    def unwritable(text: str) -> Any:
        return object()

    @halo.workflow
    def go(text: str) -> str:
        return halo.choose(text == "raise", then=lambda: raising(text), otherwise=lambda: unwritable(text))

    with pytest.raises(halo.RunFailed, match="tool_raised: tool 'raising' raised LookupError: raise") as caught:
        go("raise")
    assert isinstance(caught.value.__cause__, LookupError)
    assert calls == ["raise"] * 3
    with pytest.raises(halo.RunFailed, match="tool_bad_output: tool 'unwritable' returned what JSON cannot hold"):
        go("other")


def test_a_tool_that_returns_nan_is_told_so_and_what_to_return() -> None:
    class Found(BaseModel):
        score: Any

    @halo.tool
    def search(text: str) -> Any:
        return [None, Found(score=float("nan"))]

    @halo.workflow
    def go(text: str) -> Any:
        return search(text)

    with pytest.raises(halo.RunFailed, match="nan is not a number JSON can hold: use None or a text"):
        go("x")


def test_an_answer_that_does_not_fit_names_the_stage() -> None:
    with pytest.raises(halo.RunFailed, match=r"invalid_answer: stage 'draft': the answer is not JSON"):
        ask.run(question="x", model=lambda messages, sampling, schema: "no json")
    with pytest.raises(halo.RunFailed, match=r"bad_model: model= gave a int for 'draft'; it must give a text"):
        ask.run(question="x", model=lambda messages, sampling, schema: 3)  # type: ignore[arg-type,return-value]


def test_without_a_model_both_ways_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENGINE_URL, raising=False)
    with pytest.raises(halo.EngineMissing) as caught:
        ask("x")
    told = str(caught.value)
    assert "workflow 'ask' calls a model ('draft')" in told
    assert "model=lambda messages, sampling, schema" in told
    assert "engine='http://localhost:8000'" in told
    assert ENGINE_URL in told


@contextmanager
def serving(answers: list[tuple[int, Any]], seen: list[dict[str, Any]]) -> Iterator[str]:
    """A server on a free port that gives `answers` in turn and writes down what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            seen.append({"path": self.path, "body": body, "key": self.headers["Authorization"]})
            status, answer = answers.pop(0)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def completion(text: str) -> Json:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def test_a_server_is_asked_as_openai_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENGINE_KEY, "secret")
    seen: list[dict[str, Any]] = []
    with serving([(503, {}), (200, completion('{"sql": "select 1"}'))], seen) as url:
        monkeypatch.setenv(ENGINE_URL, f"{url}/v1/")
        assert ask("how many?").sql == "select 1"
    assert len(seen) == 2
    assert seen[1]["path"] == "/v1/chat/completions"
    assert seen[1]["key"] == "Bearer secret"
    assert seen[1]["body"] == {
        "model": "sql",
        "messages": [{"role": "user", "content": "draft how many?"}],
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 256,
        "seed": 4,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "draft", "schema": draft.answer.schema if draft.answer else None, "strict": True},
        },
    }


def test_tool_calls_of_a_server_come_back() -> None:
    @halo.workflow
    def solve(question: str) -> object:
        return halo.agent(question, model="big", tools=[run_sql])

    function = {"name": "run_sql", "arguments": '{"sql": "select"}'}
    asks = {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1", "function": function}]}}]}
    seen: list[dict[str, Any]] = []
    with serving([(200, asks), (200, completion("done"))], seen) as url:
        assert solve.run(question="q", engine=url)["text"] == "done"  # type: ignore[index]
    assert seen[0]["body"]["tools"][0]["function"]["name"] == "run_sql"
    assert json.loads(seen[1]["body"]["messages"][-1]["content"]) == {"rows": [1, 2], "error": None}


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (400, {"error": {"message": "max_tokens is too large"}}, "engine_refused: .* answered 400: max_tokens is too"),
        (404, {"detail": "no model sql"}, "answered 404: no model sql"),
        (200, b"<html>", "engine_unreachable: .* answered what is not JSON"),
        (200, {"choices": []}, "engine_garbage: the server's answer is no chat completion"),
    ],
)
def test_what_servers_do_wrong_is_told(status: int, answer: Any, told: str) -> None:
    @halo.workflow
    def once(sql: str) -> str:
        return fix(sql, "x")

    with serving([(status, answer)], []) as url, pytest.raises(halo.RunFailed, match=told):
        once.run(sql="x", engine=url)


def test_a_server_that_is_not_there() -> None:
    @halo.workflow
    def once(sql: str) -> str:
        return fix(sql, "x")

    with pytest.raises(halo.RunFailed, match=r"engine_unreachable: .* cannot be reached: .* is the server running\?"):
        once.run(sql="x", engine="http://127.0.0.1:9")
    with pytest.raises(halo.RunFailed, match=r"is no http\(s\) address"):
        once.run(sql="x", engine="file:///etc/passwd")
