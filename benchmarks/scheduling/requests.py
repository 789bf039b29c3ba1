"""One Text-to-SQL request as the trace of its calls: what HexGen-Text2SQL (arXiv 2505.05286) schedules.

An information retriever asks for keywords and looks things up, two candidates are written beside each other, they are
revised one round after the other, unit tests are written, and each is evaluated beside the others. Between calls
nothing takes time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """What a call is for, under the names of the recorded requests."""

    RETRIEVER = "Information Retriever"
    KEYWORDS = "extract_keywords"
    CANDIDATE = "generate_candidate"
    REVISE = "revise"
    TESTER = "unit_tester"
    UNIT_TEST = "generate_unit_test"
    EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True)
class Call:
    step: Step
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Request:
    """Four calls of the retriever, at most one for keywords, two candidates, any number of revisions, three calls of
    the tester, at most one for unit tests, any number of evaluations."""

    retriever: tuple[Call, ...]
    keywords: tuple[Call, ...]
    candidates: tuple[Call, ...]
    revisions: tuple[Call, ...]
    tester: tuple[Call, ...]
    unit_tests: tuple[Call, ...]
    evaluations: tuple[Call, ...]

    def __post_init__(self) -> None:
        assert (len(self.retriever), len(self.candidates), len(self.tester)) == (4, 2, 3)
        assert len(self.keywords) <= 1
        assert len(self.unit_tests) <= 1

    @property
    def stages(self) -> tuple[tuple[Call, ...], ...]:
        """One after the other; the calls of a stage run beside each other."""
        first, *looks = ((call,) for call in self.retriever)
        before, between, after = ((call,) for call in self.tester)
        revisions = ((call,) for call in self.revisions)
        stages = (first, self.keywords, *looks, self.candidates, *revisions)
        stages += (before, self.unit_tests, between, self.evaluations, after)
        return tuple(stage for stage in stages if stage)

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(call for stage in self.stages for call in stage)


def request_of(calls: Sequence[Call]) -> Request:
    """The request whose calls were made in that order."""
    of_step = {step: tuple(call for call in calls if call.step is step) for step in Step}
    return Request(
        retriever=of_step[Step.RETRIEVER],
        keywords=of_step[Step.KEYWORDS],
        candidates=of_step[Step.CANDIDATE],
        revisions=of_step[Step.REVISE],
        tester=of_step[Step.TESTER],
        unit_tests=of_step[Step.UNIT_TEST],
        evaluations=of_step[Step.EVALUATE],
    )
