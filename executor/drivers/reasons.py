"""Which decisions of a job are kept, so that it can be asked why: all of a small job's, of a large one a sample."""

from dataclasses import dataclass
from math import ceil

from executor.commands import Dispatch
from executor.decisions import decision_of, encode_decision
from executor.store.writes import DecisionMade
from planner.ir.ids import JobId, row_of

#: Of a job with more programs, only every n-th program's decisions are kept: what it costs to keep one is a few percent
#: of what a call costs Halo at all.
MOST_PROGRAMS = 256
#: And no more of a job than these, whatever loops its programs have. Attempts after the first have as many again.
MOST_DECISIONS = 10_000


@dataclass(slots=True)
class _Job:
    every: int
    number: int = 0
    retries: int = 0


class Reasons:
    """Decisions of the jobs that run here. Those after a failure are kept of every program."""

    def __init__(self, most_programs: int = MOST_PROGRAMS, most_decisions: int = MOST_DECISIONS) -> None:
        """With `most_programs=0` none are kept."""
        self._most_programs, self._most_decisions = most_programs, most_decisions
        self._jobs: dict[JobId, _Job] = {}

    def begin(self, job: JobId, rows: int) -> None:
        if self._most_programs:
            self._jobs[job] = _Job(every(rows, self._most_programs))

    def end(self, job: JobId) -> None:
        self._jobs.pop(job, None)

    def sent(self, job: JobId, command: Dispatch, ready_at: float, at: float) -> DecisionMade | None:
        """A call was sent at `at`, whose prompt was known at `ready_at`, both in seconds since 1970. What is to be
        written of it, if anything is."""
        known = self._jobs.get(job)
        if known is None:
            return None
        node, again = command.node, command.after is not None
        row = row_of(node.program)
        if not again and row % known.every:
            return None
        known.retries += again
        known.number += 1
        if (known.retries if again else known.number - known.retries) > self._most_decisions:
            return None
        detail = encode_decision(decision_of(command, at - ready_at))
        return DecisionMade(known.number, row, node.path, command.attempt, at, detail)


def every(rows: int, most_programs: int = MOST_PROGRAMS) -> int:
    """Of a job of so many rows, every how many-th program's decisions are kept."""
    return max(1, ceil(rows / most_programs))
