"""The engines that a service has, as they are now."""

from typing import Annotated

from pydantic import Field

from halo.service.schemas.base import Told


class EngineState(Told):
    id: str
    kind: str
    gpu: str
    models: list[str]
    tenants: Annotated[list[str], Field(description="it is kept for these; the others of them are told to operators")]
    max_running: int
    context_tokens: int
    price_per_hour: float
    ready: bool
    version: str
    detail: str
    retention: Annotated[str, Field(description="how it keeps the KV of programs that wait for a tool")]
    draining: Annotated[bool, Field(description="nothing new is sent there; what it has ends there")]
    calls: Annotated[int, Field(description="calls that it has of this process")]
    hints: Annotated[dict[str, int], Field(description="what it was told between calls: taken, and dropped and why")]


class EngineList(Told):
    engines: list[EngineState]


class EngineDrained(Told):
    """An engine was taken out, or takes calls again. It has `calls` of this process; once that is 0, a draining one may
    be stopped. Calls to models of `unserved`, which no other engine takes, wait for one and fail after a while."""

    id: str
    draining: bool
    calls: int
    unserved: list[str]
