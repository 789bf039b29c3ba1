"""What crosses between the ladder and the process that simulates: two processes of ours, a pickle a line."""

import base64
import pickle
from dataclasses import dataclass
from typing import Any

from benchmarks.kv.arms import Serving
from benchmarks.kv.hints import Telling
from benchmarks.kv.lab import EngineSize
from benchmarks.kv.programs import Load
from planner.cost.profile import Profile


@dataclass(frozen=True, slots=True)
class Order:
    """One load to simulate, with steps that take what `profile` says, where there is one. The answer is the programs'
    results, or a text that says why there are none."""

    size: EngineSize
    serving: Serving
    load: Load
    telling: Telling
    salt: str
    profile: Profile | None = None


def to_line(value: Any) -> bytes:
    return base64.b64encode(pickle.dumps(value)) + b"\n"


def from_line(line: bytes) -> Any:
    return pickle.loads(base64.b64decode(line))
