"""Runs on a Halo server: submit, look, wait, cancel."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from halo.sdk.errors import RunFailed, ServerFailed, WaitTimedOut
from halo.sdk.http import Answer, NoAnswer, request_json
from planner.ir.values import Json

SERVER_URL = "HALO_URL"
SERVER_KEY = "HALO_API_KEY"
FINISHED = frozenset({"succeeded", "failed", "cancelled", "expired"})

#: One wait request lasts at most this long: proxies cut longer silences.
_WAIT_S = 30.0
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class RunHandle:
    """A run on a server, by its `id`. `read` makes the workflow's return type of the result's JSON."""

    id: str
    url: str
    read: Callable[[Json], Any] = field(default=lambda result: result, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def status(self) -> str:
        """`queued`, `running`, `succeeded`, `failed`, `cancelled`, ... Raises `ServerFailed`."""
        return _state(self.details())

    def details(self) -> dict[str, Json]:
        """All the server tells of the run. Raises `ServerFailed`."""
        return _require(_send("GET", f"{self.url}/v1/runs/{self.id}"))

    def result(self, timeout_s: float = 600.0) -> Any:
        """The result, waiting for it. Raises `RunFailed`, `WaitTimedOut` after `timeout_s`, or `ServerFailed`."""
        until = self.clock() + timeout_s
        while True:
            left = max(0.0, until - self.clock())
            wait_s = min(left, _WAIT_S)
            run = _require(_send("GET", f"{self.url}/v1/runs/{self.id}/wait?timeout={wait_s:g}", timeout_s=wait_s + 30))
            if _state(run) in FINISHED:
                return self._finished(run)
            if self.clock() >= until:
                raise WaitTimedOut(f"run {self.id} is still {_state(run)} after {timeout_s:g} s; it goes on")

    def decisions(self, node: str | None = None, row: int | None = None) -> Iterator[dict[str, Json]]:
        """Why each call went to its engine, in order: the engines considered, their predicted seconds, the reason.

        Of all calls, of those at the path `node`, of those of a `row`. Raises `ServerFailed`.
        """
        wanted = {name: value for name, value in (("node", node), ("row", row)) if value is not None}
        after: Json = 0
        while True:
            page = self._decision_page({**wanted, "after": after})
            found = page.get("decisions")
            if not isinstance(found, list) or not found:
                return
            yield from (one for one in found if isinstance(one, dict))
            after = page.get("next_after")

    def doing_now(self) -> list[Json]:
        """What the run's calls and tools do now, and why what waits does. Raises `ServerFailed`."""
        found = self._decision_page({"limit": 1}).get("now")
        return found if isinstance(found, list) else []

    def _decision_page(self, query: Mapping[str, Json]) -> dict[str, Json]:
        return _require(_send("GET", f"{self.url}/v1/runs/{self.id}/decisions?{urlencode(query)}"))

    def cancel(self) -> None:
        """Ask the server to stop it. Finished steps keep their results. Raises `ServerFailed`."""
        _require(_send("POST", f"{self.url}/v1/runs/{self.id}/cancel"))

    def _finished(self, run: Mapping[str, Json]) -> Any:
        state = _state(run)
        if state == "succeeded":
            return self.read(run.get("result"))
        error = run.get("error")
        told: Mapping[str, Json] = error if isinstance(error, dict) else {"message": error or state}
        raise RunFailed(str(told.get("code", state)), str(told.get("message", state)))


def submit_run(
    workflow: str,
    inputs: Mapping[str, Json],
    *,
    url: str | None,
    idempotency_key: str | None,
    read: Callable[[Json], Any],
    promised: Mapping[str, Json] | None = None,
) -> RunHandle:
    """Raises `ServerFailed`. The key makes it safe to send the same submit again. `promised` has what was said of its
    deadline and class."""
    server = server_url(url)
    run = _require(
        _send(
            "POST",
            f"{server}/v1/runs",
            body={"workflow": workflow, "input": dict(inputs), **(promised or {})},
            headers={"Idempotency-Key": idempotency_key or uuid4().hex},
        )
    )
    if not isinstance(run.get("id"), str):
        raise ServerFailed(f"{server} accepted the run, but named no id: is it a Halo server?")
    return RunHandle(run["id"], server, read)


def drain_engine(engine: str, url: str, *, resume: bool = False) -> dict[str, Json]:
    """Have the server send nothing more to the engine; with `resume`, send it calls again. Raises `ServerFailed`."""
    action = "resume" if resume else "drain"
    return _require(_send("POST", f"{url}/v1/fleet/engines/{quote(engine, safe='')}/{action}"))


def server_url(url: str | None) -> str:
    found = url or os.environ.get(SERVER_URL)
    if not found:
        raise ServerFailed(
            f"no Halo server is named: give url='http://localhost:8080', or set {SERVER_URL};"
            " to run without a server, call the workflow or use .run(...)"
        )
    return found.rstrip("/").removesuffix("/v1")


def _send(
    method: str, url: str, *, body: Json = None, headers: dict[str, str] | None = None, timeout_s: float = _TIMEOUT_S
) -> Answer:
    key = os.environ.get(SERVER_KEY)
    head = {**(headers or {}), **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        return request_json(method, url, body=body, headers=head, timeout_s=timeout_s)
    except NoAnswer as error:
        raise ServerFailed(str(error)) from None


def _require(answer: Answer) -> dict[str, Json]:
    if not 200 <= answer.status < 300:
        raise ServerFailed(f"the server answered {answer.status}: {answer.detail}", answer.status)
    if not isinstance(answer.body, dict):
        raise ServerFailed("the server's answer is not of Halo: is this a Halo server?", answer.status)
    return answer.body


def _state(run: Mapping[str, Json]) -> str:
    return str(run.get("status") or run.get("state") or "unknown")
