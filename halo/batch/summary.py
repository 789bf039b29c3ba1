"""A batch in figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from executor.store.jobs import JobRecord
from halo.batch.outcome import Tally
from halo.deadline import Deadline
from planner.analysis import Analysis
from planner.ir.values import Json


@dataclass(frozen=True, slots=True)
class Timing:
    """`seconds` this process took, in which it brought `rows_ended` rows to their end. Earlier ones are not counted."""

    seconds: float
    rows_ended: int

    @property
    def rows_per_second(self) -> float:
        return self.rows_ended / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """Rows by how they ended, and the work of the whole job, done by whichever process.

    `usage` is the store's: work made, and work saved because another row's, stage's or earlier job's was the same.
    `analysis` is there where it was asked for, `deadline` where the batch had one.
    """

    job: str
    workflow: str
    rows: int
    succeeded: int
    failures: Mapping[str, int]
    usage: Mapping[str, int]
    engines: Sequence[str]
    timing: Timing
    analysis: Analysis | None = None
    deadline: Deadline | None = None

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0

    def as_json(self) -> dict[str, Json]:
        used = self.usage
        return {
            "job": self.job,
            "workflow": self.workflow,
            "rows": self.rows,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "failures": dict(self.failures),
            "calls": {"made": used["calls"], "saved": used["saved_calls"]},
            "tools": {"made": used["tools"], "saved": used["saved_tools"]},
            "from_cache": {"calls": used["recalled_calls"], "tools": used["recalled_tools"]},
            "tokens": {
                "prompt": used["prompt_tokens"],
                "output": used["output_tokens"],
                "cached": used["cached_tokens"],
                "saved_prompt": used["saved_prompt_tokens"],
                "saved_output": used["saved_output_tokens"],
            },
            "engines": list(self.engines),
            "seconds": round(self.timing.seconds, 3),
            "rows_ended": self.timing.rows_ended,
            "rows_per_second": round(self.timing.rows_per_second, 3),
            **({} if self.deadline is None else {"deadline": self.deadline.as_json()}),
        }


def summarise(
    record: JobRecord,
    rows: int,
    tally: Tally,
    usage: Mapping[str, int],
    engines: Sequence[str],
    timing: Timing,
    deadline: Deadline | None = None,
) -> Summary:
    """`failures` are in order of their codes, so that equal batches give equal texts."""
    return Summary(
        job=record.id,
        workflow=record.workflow,
        rows=rows,
        succeeded=tally.succeeded,
        failures=dict(sorted(tally.failures.items())),
        usage=usage,
        engines=engines,
        timing=timing,
        deadline=deadline,
    )
