"""Where the ladder's loads are run: on the real engine, or on vLLM's scheduler in virtual time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.kv.arms import Serving
from benchmarks.kv.hints import Telling
from benchmarks.kv.programs import Load
from benchmarks.kv.results import ProgramResult


@dataclass(frozen=True, slots=True)
class EngineSize:
    """The engine's KV cache and how long a context may be, in tokens."""

    kv_blocks: int = 1024
    block_tokens: int = 32
    context_tokens: int = 7_168

    @property
    def kv_tokens(self) -> int:
        return self.kv_blocks * self.block_tokens


class CannotRun(Exception):
    """This lab cannot do what an arm asks for; the message is for people."""


class Lab(Protocol):
    """Runs one load at a time, each on an engine that holds nothing of the load before."""

    simulated: bool

    async def run(self, serving: Serving, load: Load, telling: Telling, salt: str) -> Sequence[ProgramResult]:
        """Raises `CannotRun`."""
        ...

    async def close(self) -> None: ...
