"""What a replay saw, program by program and turn by turn, and what it comes to."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.kv.programs import Load


@dataclass(frozen=True, slots=True)
class TurnResult:
    """`sent_s` is on the replay's clock. `cached_tokens` of the prompt were not computed."""

    sent_s: float
    ttft_s: float
    seconds: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int

    @property
    def prefilled_tokens(self) -> int:
        return self.prompt_tokens - self.cached_tokens


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """`arrived_s` is when the program was due; `failed` says why it has fewer turns than it should."""

    id: str
    arrived_s: float
    finished_s: float
    turns: tuple[TurnResult, ...]
    failed: str = ""

    @property
    def completion_s(self) -> float:
        return self.finished_s - self.arrived_s


@dataclass(frozen=True, slots=True)
class Outcome:
    """A replay in figures. Times are of programs that were completed; counts are of all turns.

    `hit_share` is of what could have been cached: of every turn after the first, the context that the turn before left.
    """

    mean_s: float
    p95_s: float
    makespan_s: float
    mean_ttft_s: float
    p95_ttft_s: float
    prompt_tokens: int
    prefilled_tokens: int
    least_prefill_tokens: int
    hit_share: float
    programs: int
    failed: int


def outcome_of(load: Load, results: Sequence[ProgramResult]) -> Outcome:
    done = [result for result in results if not result.failed]
    turns = [turn for result in results for turn in result.turns]
    seconds, first_tokens = [result.completion_s for result in done], [turn.ttft_s for turn in turns]
    begun, ended = min(result.arrived_s for result in results), max(result.finished_s for result in results)
    return Outcome(
        mean_s=statistics.fmean(seconds) if seconds else 0.0,
        p95_s=share_below(seconds, 0.95),
        makespan_s=ended - begun,
        mean_ttft_s=statistics.fmean(first_tokens) if first_tokens else 0.0,
        p95_ttft_s=share_below(first_tokens, 0.95),
        prompt_tokens=sum(turn.prompt_tokens for turn in turns),
        prefilled_tokens=sum(turn.prefilled_tokens for turn in turns),
        least_prefill_tokens=sum(program.least_prefill_tokens for program in load.programs),
        hit_share=_hit_share(results),
        programs=len(results),
        failed=len(results) - len(done),
    )


def share_below(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them is not above; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _hit_share(results: Sequence[ProgramResult]) -> float:
    cached = left = 0
    for result in results:
        for before, after in pairwise(result.turns):
            left += before.prompt_tokens + before.output_tokens
            cached += min(after.cached_tokens, before.prompt_tokens + before.output_tokens)
    return cached / left if left else 1.0
