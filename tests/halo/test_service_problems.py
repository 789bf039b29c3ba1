"""Whatever a client sends, it gets an answer it can read: a problem that tells all that is wrong, and the fix."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from service_stand import SPEC, service

from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.store.failures import StoreUnavailable
from executor.store.memory import MemoryStore
from halo.settings import Bounds
from planner.ir.codec import encode
from planner.ir.expressions import Column, Concat, Const, Object, Output
from planner.ir.ids import StageId
from planner.ir.plan import Effect, Generate, Input, Message, Plan, Stage, Tool, ToolSpec

GREET = {"workflow": "greet", "input": {"name": "ada"}}
JSON = {"Content-Type": "application/json"}


def _problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = dict(answer.json())
    assert (problem["status"], problem["type"]) == (status, f"urn:halo:problem:{name}")
    assert problem["title"]
    assert problem["detail"]
    return problem


def _places(problem: dict[str, Any]) -> dict[str, str]:
    return {place["where"]: place["fix"] for place in problem["problems"]}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body"),
        ({"workflow": "greet", "plan": {}}, "body"),
        ({**GREET, "wait": True}, "body.wait"),
        ({**GREET, "input": [1]}, "body.input"),
        ({**GREET, "priority": "now"}, "body.priority"),
        ({**GREET, "priority": 10**30}, "body.priority"),
        ({**GREET, "metadata": 3}, "body.metadata"),
        ([], "body"),
        (None, "body"),
    ],
)
async def test_a_body_that_does_not_fit(body: Any, where: str):
    async with service() as stand:
        problem = _problem(await stand.api.post("/v1/runs", json=body), 422, "request-invalid")
        assert any(place.startswith(where) for place in _places(problem)), problem
        assert (await stand.api.get("/v1/runs")).json()["runs"] == []


async def test_everything_is_told_at_once():
    async with service() as stand:
        body = {"workflow": 7, "input": 1, "metadata": 2, "extra": 3}
        problem = _problem(await stand.api.post("/v1/runs", json=body), 422, "request-invalid")
    assert len(problem["problems"]) == 4


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"workflow": "greet", "input": {"name": NaN}}', "not JSON"),
        (b'{"workflow": "greet", "input": {"name": 1e999}}', "not JSON"),
        (b'{"workflow": "greet", "input": {"name": "\\ud800"}}', "not JSON"),
        (b'{"input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (b"9" * 10_000, "not JSON"),
    ],
)
async def test_a_body_that_is_no_json(body: bytes, said: str):
    async with service() as stand:
        problem = _problem(await stand.api.post("/v1/runs", content=body, headers=JSON), 400, "body-unreadable")
    assert said in problem["detail"]


async def test_a_workflow_that_is_not_there_is_told_with_the_nearest():
    async with service() as stand:
        problem = _problem(await stand.api.post("/v1/runs", json={"workflow": "gret"}), 422, "not-served")
        _problem(await stand.api.get("/v1/workflows/gret"), 404, "workflow-unknown")
    assert _places(problem) == {"workflow": "did you mean 'greet'?"}


async def test_input_that_does_not_fit_is_told_column_by_column():
    async with service() as stand:
        body = {"workflow": "greet", "input": {"nmae": "ada", "greeting": 7}}
        problem = _problem(await stand.api.post("/v1/runs", json=body), 422, "input-invalid")
    places = _places(problem)
    assert len(places) == 3
    assert places["row 1, column 'nmae'"] == "did you mean 'name'?"


async def test_sizes_have_bounds():
    async with service(bounds=Bounds(row_bytes=200, metadata_bytes=100, rows=2)) as stand:
        long = {"workflow": "greet", "input": {"name": "a" * 300}}
        _problem(await stand.api.post("/v1/runs", json=long), 422, "input-invalid")
        _problem(await stand.api.post("/v1/runs", json={**GREET, "metadata": {"a": "b" * 200}}), 422, "request-invalid")
        rows = {"workflow": "greet", "rows": [{"name": "a"}] * 3}
        _problem(await stand.api.post("/v1/plans", json=rows), 422, "request-invalid")


async def test_a_body_is_counted_on_the_wire_whatever_it_says_of_itself():
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    async with service(bounds=Bounds(body_bytes=10 * 1024)) as stand:
        _problem(await stand.api.post("/v1/runs", content=pieces(), headers=JSON), 413, "body-too-large")
        _problem(await stand.api.post("/v1/runs", content=b" " * 20_000, headers=JSON), 413, "body-too-large")
        _problem(await stand.api.post("/v1/plans", content=b" " * 20_000, headers=JSON), 413, "body-too-large")


async def test_other_types_of_body_are_refused():
    async with service() as stand:
        text = json.dumps(GREET).encode()
        for head in ({"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}, {}):
            _problem(await stand.api.post("/v1/runs", content=text, headers=head), 415, "media-type-refused")
        packed = {**JSON, "Content-Encoding": "gzip"}
        _problem(await stand.api.post("/v1/runs", content=text, headers=packed), 415, "media-type-refused")


async def test_addresses_and_methods_that_are_not_there():
    async with service() as stand:
        _problem(await stand.api.get("/v1/nothing"), 404, "address-unknown")
        _problem(await stand.api.delete("/v1/runs"), 405, "method-refused")
        for path in ("/v1/runs/none", "/v1/runs/none/wait", "/v1/runs/none/events", "/v1/runs/%00", "/v1/runs/%ff"):
            _problem(await stand.api.get(path), 404, "run-unknown")
        _problem(await stand.api.post("/v1/runs/none/cancel"), 404, "run-unknown")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=100000", "limit=x", "status=asleep", "cursor=" + "x" * 300, "limit=" + "9" * 5000]
)
async def test_queries_that_do_not_fit(query: str):
    async with service() as stand:
        _problem(await stand.api.get(f"/v1/runs?{query}"), 422, "request-invalid")


async def test_a_cursor_that_no_page_gave_is_refused_with_what_to_do():
    async with service() as stand:
        problem = _problem(await stand.api.get("/v1/runs?cursor=zzz"), 422, "request-invalid")
    assert problem["problems"] == [
        {
            "where": "query.cursor",
            "what": "'zzz' is the next_cursor of no page, or its run is gone since",
            "fix": "leave it out to begin with the newest runs",
        }
    ]


async def test_waits_and_events_have_bounds():
    async with service(working=False) as stand:
        links = (await stand.api.post("/v1/runs", json=GREET)).json()["links"]
        for query in ("timeout=-1", "timeout=nan", "timeout=inf", "timeout=soon"):
            _problem(await stand.api.get(f"{links['wait']}?{query}"), 422, "request-invalid")
        _problem(await stand.api.get(f"{links['events']}?after={2**63}"), 422, "request-invalid")


@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "caf\u00e9"])
async def test_keys_that_are_none(key: str):
    async with service() as stand:
        head = {"Idempotency-Key": key.encode("latin-1")}
        _problem(await stand.api.post("/v1/runs", json=GREET, headers=head), 422, "request-invalid")


async def test_a_plan_that_cannot_be_read_or_run():
    async with service() as stand:
        unreadable = {"plan": {"format": 1, "plan": {"name": 3}}}
        problem = _problem(await stand.api.post("/v1/runs", json=unreadable), 422, "plan-unreadable")
        assert "plan.name" in _places(problem)
        invalid = _as_json(Plan("mine", (), (), Output(StageId("gone"))))
        problem = _problem(await stand.api.post("/v1/runs", json=invalid), 422, "plan-invalid")
        assert "result" in _places(problem)


async def test_a_plan_may_not_ask_for_what_is_not_here_nor_for_more_than_is_allowed():
    tools = [
        ToolSpec("sohut", Effect.PURE),
        ToolSpec("linger", Effect.PURE, timeout_s=3600, concurrency=1000),
    ]
    stages = tuple(Tool(StageId(f"t{number}"), tool, Object(())) for number, tool in enumerate(tools))
    model = Generate(StageId("g"), "large", (Message("user", Concat((Const("hi"),))),))
    async with service() as stand:
        body = _as_json(Plan("mine", (), (*stages, model), Const(1)))
        problem = _problem(await stand.api.post("/v1/runs", json=body), 422, "not-served")
    assert _places(problem) == {
        "tool 'sohut'": "did you mean 'shout'?",
        "tool 'linger'.effect": "it is 'idempotent'",
        "tool 'linger'.timeout_s": "at most 600.0 is allowed",
        "tool 'linger'.concurrency": "at most 8 is allowed",
        "model 'large'": "there are: small",
    }


async def test_a_plan_as_json_brings_no_pattern():
    """`(a+)+$` against a long text would stop the whole service."""
    evil = {"type": "string", "pattern": "(a+)+$"}
    stage: Stage = Generate(StageId("g"), "small", (Message("user", Concat((Column("x"),))),), schema=evil)
    async with service() as stand:
        body = _as_json(Plan("mine", (Input("x", evil),), (stage,), Const(1)), x="a" * 100 + "!")
        problem = _problem(await stand.api.post("/v1/runs", json=body), 422, "not-served")
    assert _places(problem).keys() == {"inputs.x.schema", "g.schema"}


async def test_a_plan_deeper_than_json_may_be():
    deep: Any = 1
    for _ in range(195):
        deep = [deep]
    async with service() as stand:
        _problem(await stand.api.post("/v1/runs", json={"plan": {"format": 1, "plan": deep}}), 422, "plan-unreadable")


async def test_a_database_that_is_away_is_told_as_such():
    class Away(MemoryStore):
        async def create_job(self, job):
            raise StoreUnavailable("no connection")

        async def ping(self):
            raise StoreUnavailable("no connection")

    async with service(Away()) as stand:
        answer = await stand.api.post("/v1/runs", json=GREET)
        assert answer.headers["retry-after"]
        _problem(answer, 503, "store-unavailable")
        ready = await stand.api.get("/readyz")
        assert (ready.status_code, ready.json()["database"]["ready"]) == (503, False)
        assert (await stand.api.get("/healthz")).status_code == 200


async def test_a_fault_of_our_own_is_told_without_its_insides():
    class Broken(MemoryStore):
        async def jobs(self, *args, **kwargs):
            raise RuntimeError("secret")

    async with service(Broken()) as stand:
        lenient = httpx.ASGITransport(app=stand.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=lenient, base_url="http://localhost") as api:
            answer = await api.get("/v1/runs")
    assert "secret" not in answer.text
    _problem(answer, 500, "internal")


async def test_without_an_engine_that_answers_the_service_is_not_ready():
    engine = Scripted(SPEC, Synthetic(7))
    async with service(engines=[engine]) as stand:
        assert (await stand.api.get("/readyz")).status_code == 200
    async with service(engines=[]) as stand:
        ready = await stand.api.get("/readyz")
    assert (ready.status_code, ready.json()["engines"]["detail"]) == (503, "0 of 0 ready")


def _as_json(plan: Plan, **given: Any) -> dict[str, Any]:
    return {"plan": json.loads(encode(plan)), "input": given}
