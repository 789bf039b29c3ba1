"""`workflow.submit`: the REST client against a server that keeps to Halo's API."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import BaseModel

import halo
from halo.sdk.client import SERVER_URL, RunHandle


class Answer(BaseModel):
    text: str


@halo.workflow
def echo(text: str, times: int = 1) -> Answer:
    return Answer.model_construct(text=text)


class Server(ThreadingHTTPServer):
    """Runs finish on the second look."""

    def __init__(self) -> None:
        self.ends_as: dict[str, Any] = {"status": "succeeded", "result": {"text": "hi"}}
        self.runs: dict[str, str] = {}
        self.looks = 0
        self.submitted: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        if self.path.endswith("/cancel"):
            self.server.cancelled.append(self.path)
            self.server.ends_as = {"status": "cancelled"}
            return self.tell(202, {"id": "r1", "status": "queued"})
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["workflow"] != "echo":
            problem = {"type": "/problems/unknown-workflow", "title": "Unknown workflow", "detail": "the known: echo"}
            return self.tell(404, problem)
        self.server.submitted.append(body)
        run = self.server.runs.setdefault(self.headers["Idempotency-Key"], f"r{len(self.server.runs) + 1}")
        return self.tell(202, {"id": run, "status": "queued"})

    def do_GET(self) -> None:
        if "/decisions" in self.path:
            return self.tell(200, self.decisions())
        self.server.looks += 1
        done = self.server.looks >= 2
        told = {"id": "r1", **(self.server.ends_as if done else {"status": "running"})}
        return self.tell(200 if done else 202, told)

    def decisions(self) -> dict[str, Any]:
        """Two of them, one a page."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        seq = int(asked.get("after", "0")) + 1
        found = [{"seq": seq, "path": asked.get("node", "any")}] if seq <= 2 else []
        return {"decisions": found, "next_after": seq, "every": 1, "now": [{"row": 0, "why": "runs"}]}

    def tell(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_run_is_submitted_looked_at_and_waited_for(server: Server) -> None:
    run = echo.submit(text="hi", url=server.url)
    assert server.submitted == [{"workflow": "echo", "input": {"text": "hi", "times": 1}}]
    assert run.status() == "running"
    assert run.result(timeout_s=100) == Answer(text="hi")
    assert run.status() == "succeeded"


def test_one_idempotency_key_is_one_run_and_each_call_has_its_own(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVER_URL, f"{server.url}/v1/")
    same = {echo.submit(text="a", idempotency_key="k").id, echo.submit(text="a", idempotency_key="k").id}
    assert len(same) == 1
    assert echo.submit(text="a").id != echo.submit(text="a").id


def test_a_failed_run_raises_what_the_server_tells(server: Server) -> None:
    server.ends_as = {"status": "failed", "error": {"code": "tool_raised", "message": "no such table"}}
    with pytest.raises(halo.RunFailed, match="tool_raised: no such table") as caught:
        echo.submit(text="x", url=server.url).result()
    assert caught.value.code == "tool_raised"


def test_a_cancelled_run(server: Server) -> None:
    run = echo.submit(text="x", url=server.url)
    run.cancel()
    assert server.cancelled == ["/v1/runs/r1/cancel"]
    with pytest.raises(halo.RunFailed, match="cancelled: cancelled"):
        run.result()


def test_waiting_ends_when_its_time_is_over(server: Server) -> None:
    server.looks = -100
    times = iter([0.0, 1.0, 4.0])
    run = RunHandle("r1", server.url, clock=lambda: next(times))
    with pytest.raises(halo.WaitTimedOut, match="run r1 is still running after 3 s; it goes on"):
        run.result(timeout_s=3)


def test_what_is_wrong_with_the_server_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    @halo.workflow
    def unknown(text: str) -> str:
        return text

    with pytest.raises(halo.ServerFailed, match="the server answered 404: the known: echo") as caught:
        unknown.submit(text="x", url=server.url)
    assert caught.value.status == 404
    with pytest.raises(halo.ServerFailed, match="cannot be reached"):
        echo.submit(text="x", url="http://127.0.0.1:9")
    monkeypatch.delenv(SERVER_URL, raising=False)
    with pytest.raises(halo.ServerFailed, match=f"give url=.*, or set {SERVER_URL}"):
        echo.submit(text="x")
    with pytest.raises(halo.InputsInvalid, match="there is no such input"):
        echo.submit(txt="x", url=server.url)


def test_a_run_tells_why_its_calls_went_where_they_went_page_by_page(server: Server):
    run = RunHandle("r1", server.url)
    assert list(run.decisions()) == [{"seq": 1, "path": "any"}, {"seq": 2, "path": "any"}]
    assert [one["path"] for one in run.decisions(node="revise[1]/fix")] == ["revise[1]/fix"] * 2
    assert run.doing_now() == [{"row": 0, "why": "runs"}]
