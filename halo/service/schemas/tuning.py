"""How the scheduler's knobs stand."""

from pydantic import Field

from halo.service.schemas.base import Told


class TuningFound(Told):
    """What the newest candidate costs of what the setting in force costs, on the newest traffic: with its interval."""

    ratio: float
    low: float
    high: float
    samples: int


class Tuning(Told):
    """How the scheduler's knobs stand. Without `on` they stay as the process began; `why` is what was found last."""

    on: bool
    setting: dict[str, float] = Field(default_factory=dict)
    began: dict[str, float] = Field(default_factory=dict)
    looks: int = 0
    failures: int = 0
    changes: int = 0
    rollbacks: int = 0
    why: str = ""
    found: TuningFound | None = None
    watching: bool = False
