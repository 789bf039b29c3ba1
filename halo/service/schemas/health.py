"""Whether the service is alive, and ready for runs."""

from typing import Literal

from halo.service.schemas.base import Told


class Check(Told):
    ready: bool
    detail: str


class Readiness(Told):
    """Whether runs are taken and worked on, and what each part says."""

    ready: bool
    database: Check
    state: Check
    engines: Check


class Alive(Told):
    alive: Literal[True] = True
