"""The engines that a service has, as they are now."""

from typing import Annotated

from pydantic import Field

from halo.service.schemas.base import Told


class EngineState(Told):
    id: str
    kind: str
    gpu: str
    models: list[str]
    max_running: int
    context_tokens: int
    price_per_hour: float
    ready: bool
    version: str
    detail: str
    retention: Annotated[str, Field(description="how it keeps the KV of programs that wait for a tool")]
    hints: Annotated[dict[str, int], Field(description="what it was told between calls: taken, and dropped and why")]


class EngineList(Told):
    engines: list[EngineState]
