"""The HTTP service as an ASGI app, made of its parts."""

from typing import Any

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer

from halo.distribution import installed_version
from halo.service.parts import Parts
from halo.service.problems import MEDIA_TYPE, add_problems
from halo.service.routes import analyses, catalog, fleet, health, openai, plans, runs
from halo.service.schemas.openai import OpenAIErrorDocument
from halo.service.schemas.problems import ProblemDocument
from halo.service.wire import Wire

_ABOUT = """Runs agent programs on fleets of vLLM engines.

Submit a run with POST /v1/runs, wait for it with GET /v1/runs/{id}/wait. Every error is an RFC 9457 problem: its
`type` is stable, and `problems` tells everything that is wrong at once. Agents that speak OpenAI's API use this service
as their base URL with `/v1`; there, errors are as OpenAI's."""


def make_app(parts: Parts) -> FastAPI:
    app = _Halo(title="Halo", version=installed_version() or "0", description=_ABOUT, redirect_slashes=False)
    app.state.parts = parts
    add_problems(app)
    app.add_middleware(Wire, body_bytes=parts.bounds.body_bytes)
    keys = [Security(HTTPBearer(auto_error=False, description="an API key"))] if parts.tenants else []
    for routes in (runs, analyses, plans, catalog, fleet):
        app.include_router(routes.router, dependencies=keys, responses=_REFUSALS)
    app.include_router(openai.router, dependencies=keys, responses=_OPENAI_REFUSALS)
    app.include_router(health.router, responses=_REFUSALS)
    return app


_SCHEMAS = "#/components/schemas/"
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": _SCHEMAS + ProblemDocument.__name__}}}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "the request cannot be done; the problem says why, and how to mend it", "content": _PROBLEM},
    "5XX": {"description": "Halo cannot do it just now", "content": _PROBLEM},
}

_OPENAI_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "the request cannot be done", "model": OpenAIErrorDocument},
    "5XX": {"description": "Halo or an engine cannot do it just now", "model": OpenAIErrorDocument},
}


class _Halo(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The document, with the problems that no route returns by itself."""
        document = super().openapi()
        problem = ProblemDocument.model_json_schema(ref_template=_SCHEMAS + "{model}", mode="serialization")
        places = problem.pop("$defs", {})
        document["components"]["schemas"] |= {ProblemDocument.__name__: problem, **places}
        return document
