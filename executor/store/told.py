"""What a store tells of jobs: results, events, decisions, and what engines served."""

from dataclasses import dataclass

from executor.commands import Status
from executor.engines.port import Failure, Usage
from planner.ir.ids import EngineId, JobId
from planner.ir.values import Json


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One row's end. `status` is None while it runs or waits."""

    row: int
    status: Status | None
    result: Json = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A change worth telling: `seq` grows within the store; `kind` is e.g. `job.running`, `program.succeeded`."""

    seq: int
    job: JobId
    row: int | None
    kind: str
    at: str
    detail: Json = None


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A `DecisionMade` as it is kept. `seq` grows within the job, over all claims of it."""

    seq: int
    row: int
    path: str
    attempt: int
    at: str
    detail: str


@dataclass(frozen=True, slots=True)
class Served:
    """Calls that an engine answered, and their tokens."""

    engine: EngineId
    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def plus(self, usage: Usage) -> "Served":
        """With one call more."""
        return self + Served(self.engine, 1, usage.prompt_tokens, usage.output_tokens, usage.cached_tokens)

    def __add__(self, other: "Served") -> "Served":
        return Served(
            self.engine,
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
        )
