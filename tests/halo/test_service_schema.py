"""The service against its own OpenAPI document: whatever fits it, and whatever does not, no answer is a 500."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service_stand import service

from halo.settings import Bounds

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 20


class _Served(threading.Thread):
    """A whole service on a loop of its own, behind a real socket."""

    def __init__(self) -> None:
        super().__init__(name="service under test", daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.up = threading.Event()

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        async with service(bounds=Bounds(wait_s=0.05, body_bytes=64 * 1024)) as stand:
            config = uvicorn.Config(stand.app, lifespan="off", log_config=None, access_log=False)
            self.server = uvicorn.Server(config)
            await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}})
            self.up.set()
            await self.server.serve(sockets=[self.listening])

    def stop(self) -> None:
        self.server.should_exit = True
        self.join(200)
        self.listening.close()


@pytest.fixture(scope="module")
def api_schema() -> Iterator[schemathesis.BaseSchema]:
    served = _Served()
    served.start()
    assert served.up.wait(200)
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json", timeout=120)
    schema.hook("map_body")(_for_a_workflow_that_is_there)
    schema.hook("map_path_parameters")(_of_what_is_there)
    yield schema
    served.stop()


def _for_a_workflow_that_is_there(_: schemathesis.HookContext, body: Any) -> Any:
    """Half of all bodies are of a real workflow, and half of these have its input, so that some get past the door."""
    if isinstance(body, dict) and (size := len(json.dumps(body, default=str))) % 2 == 0:
        body = {**body, "workflow": "greet"}
        body.pop("plan", None)
        body |= {"input": {"name": str(size)}} if size % 4 == 0 and "input" in body else {}
    return body


def _of_what_is_there(_: schemathesis.HookContext, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    # No engine: one that is taken out would keep all calls waiting.
    there = {"run_id": "run_1", "name": "greet", "model": "small"}
    for name, value in (parameters or {}).items():
        if name in there and len(str(value)) % 2 == 0:
            parameters = {**(parameters or {}), name: there[name]}
    return parameters


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_is_answered_with_a_500(api_schema: schemathesis.BaseSchema, mode: GenerationMode):
    operations = [result.ok() for result in api_schema.get_all_operations()]
    assert len(operations) >= 12
    for operation in operations:
        _ask(operation, mode)


def _ask(operation: schemathesis.APIOperation, mode: GenerationMode) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def answers(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=120)

    # What cannot be asked wrongly has no wrong requests.
    with suppress(Unsatisfiable):
        answers()
