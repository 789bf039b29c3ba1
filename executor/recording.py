"""A window of traffic as it can be run again: from a run's events, what came in, and what each call and tool took.

What a program does is taken not to depend on how it is scheduled: its choices, the lengths of its prompts and answers
and the times of its tools are as they were; where and when its calls run is decided anew.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from executor.engines.port import Usage
from executor.events import (
    BatchPlanned,
    CallFinished,
    Decided,
    Event,
    JobSubmitted,
    Prepared,
    Settled,
    ToolFinished,
    ToolStarted,
)
from planner.ir.ids import ContentKey, JobId, NodeRef, StageId, job_of, row_of
from planner.job import Grouping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RecordedJob:
    """A job of which at least one program succeeded in the window. `ended_s[row]` is when, for those that did."""

    submitted: JobSubmitted
    planned: BatchPlanned
    ended_s: Mapping[int, float]

    @property
    def id(self) -> JobId:
        return self.submitted.job


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call took, and which tools its answer asked for."""

    usage: Usage
    tools: tuple[str, ...]


@dataclass(slots=True)
class Recording:
    """Jobs in the order they came in, and what their nodes did."""

    jobs: list[RecordedJob] = field(default_factory=list)
    prepared: dict[NodeRef, Prepared] = field(default_factory=dict)
    answers: dict[NodeRef, Answered] = field(default_factory=dict)
    tool_s: dict[NodeRef, float] = field(default_factory=dict)
    choices: dict[NodeRef, list[int]] = field(default_factory=dict)
    groups: dict[JobId, Mapping[StageId, Grouping]] = field(default_factory=dict)
    done_by: dict[ContentKey, list[NodeRef]] = field(default_factory=dict)

    @property
    def programs(self) -> int:
        return sum(len(job.ended_s) for job in self.jobs)

    @property
    def calls(self) -> int:
        return len(self.answers)

    @property
    def seconds(self) -> float:
        """From the first job's coming in to the last program's end."""
        ended_s = [max(job.ended_s.values()) for job in self.jobs]
        return max(ended_s) - self.jobs[0].submitted.at if ended_s else 0.0

    def prepared_for(self, node: NodeRef) -> Prepared | None:
        """What was prepared for the node, or for one that did the same work for it."""
        return self._found(self.prepared, node)

    def answer_to(self, node: NodeRef) -> Answered | None:
        return self._found(self.answers, node)

    def tool_seconds(self, node: NodeRef) -> float | None:
        return self._found(self.tool_s, node)

    def choice(self, node: NodeRef, done: int) -> int | None:
        """What a container decided after so many rounds."""
        made = self._found(self.choices, node)
        return None if made is None or done >= len(made) else made[done]

    def _found(self, kept: Mapping[NodeRef, T], node: NodeRef) -> T | None:
        if node in kept:
            return kept[node]
        return next((kept[other] for other in self._equals(node) if other in kept), None)

    def _equals(self, node: NodeRef) -> Iterator[NodeRef]:
        """Nodes that did the same: of another row, known when the job was planned, or of an equal prompt."""
        if (key := self.group_key(node)) is not None:
            yield from (NodeRef(other.program, node.path) for other in self.done_by.get(key, ()))
        prepared = self.prepared.get(node)
        if prepared is not None and prepared.key is not None:
            yield from self.done_by.get(prepared.key, ())

    def group_key(self, node: NodeRef) -> ContentKey | None:
        """The key of the work that the node's stage of the plan itself does for the row, where rows share it."""
        grouping = self.groups.get(job_of(node.program), {}).get(StageId(_STAGE.split(node.path, 1)[0]))
        return None if grouping is None else grouping.keys[grouping.group_of_row[row_of(node.program)]]


#: The end of a stage's name in a path.
_STAGE = re.compile(r"[\[/#]")
#: Of those that did equal work, so many are remembered: one of them has whatever the others took from it.
_MOST_EQUAL = 4


def record(events: Iterable[Event]) -> Recording:
    """Of jobs that were submitted before the window began, nothing is taken."""
    return _Reader().read(events)


def latest(recording: Recording, share: float) -> Recording:
    """The part of the window with the newest jobs: so much of its programs."""
    left, newest = share * recording.programs, list[RecordedJob]()
    for job in reversed(recording.jobs):
        if left <= 0:
            break
        newest.append(job)
        left -= len(job.ended_s)
    return _with_jobs(recording, list(reversed(newest)))


def before(recording: Recording, later: Recording) -> Recording:
    """The window without the jobs of a later part of it."""
    known = {job.id for job in later.jobs}
    return _with_jobs(recording, [job for job in recording.jobs if job.id not in known])


def since(recording: Recording, at: float) -> Recording:
    """The part of the window with the jobs that came in then or later."""
    return _with_jobs(recording, [job for job in recording.jobs if job.submitted.at >= at])


def part_of(recording: Recording, kept: Mapping[JobId, Sequence[int]], pace: float = 1.0) -> Recording:
    """Only these rows, with the jobs `pace` times as close to each other: as many programs a second as before where
    `pace` is how many times fewer they are. Deadlines keep their distance from the arrival."""
    jobs = [_cut(job, kept[job.id]) for job in recording.jobs if kept.get(job.id)]
    first_s = min((job.submitted.at for job in jobs), default=0.0)
    return _with_jobs(recording, [_moved(job, first_s, pace) for job in jobs])


def _cut(job: RecordedJob, rows: Sequence[int]) -> RecordedJob:
    return replace(job, ended_s={row: job.ended_s[row] for row in sorted(rows)})


def _moved(job: RecordedJob, first_s: float, pace: float) -> RecordedJob:
    submitted = job.submitted
    at = (submitted.at - first_s) / pace
    later_s = at - submitted.at
    deadline_s = None if submitted.deadline_s is None else submitted.deadline_s + later_s
    planned = replace(job.planned, at=job.planned.at + later_s)
    ended_s = {row: ended_s + later_s for row, ended_s in job.ended_s.items()}
    return RecordedJob(replace(submitted, at=at, deadline_s=deadline_s), planned, ended_s)


def _with_jobs(recording: Recording, jobs: list[RecordedJob]) -> Recording:
    return replace(recording, jobs=jobs)


class _Reader:
    def __init__(self) -> None:
        self._found = Recording()
        self._submitted: dict[JobId, JobSubmitted] = {}
        self._planned: dict[JobId, BatchPlanned] = {}
        self._ended_s: dict[JobId, dict[int, float]] = {}
        self._since_s: dict[NodeRef, float] = {}

    def read(self, events: Iterable[Event]) -> Recording:
        for event in events:
            self._take(event)
        for job, submitted in self._submitted.items():
            if self._ended_s[job] and job in self._planned:
                self._found.jobs.append(RecordedJob(submitted, self._planned[job], self._ended_s[job]))
        return self._found

    def _take(self, event: Event) -> None:
        found = self._found
        match event:
            case JobSubmitted():
                self._submitted[event.job], self._ended_s[event.job] = event, {}
            case BatchPlanned():
                self._planned[event.job], found.groups[event.job] = event, event.groups
            case Prepared(node=node):
                found.prepared[node] = event
                self._since_s[node] = event.at
            case CallFinished(node=node):
                found.answers[node] = Answered(event.usage, event.tools)
                self._note_done(node)
            case ToolStarted(node=node):
                self._since_s[node] = event.at
            case ToolFinished(node=node):
                found.tool_s[node] = event.at - self._since_s.get(node, event.at)
                self._note_done(node)
            case Decided(node=node):
                found.choices.setdefault(node, []).append(event.choice)
                self._note_done(node)
            case Settled(node=node) if not node.path and job_of(node.program) in self._ended_s:
                self._ended_s[job_of(node.program)][row_of(node.program)] = event.at

    def _note_done(self, node: NodeRef) -> None:
        prepared = self._found.prepared.get(node)
        for key in (self._found.group_key(node), prepared.key if prepared else None):
            if key is not None and len(known := self._found.done_by.setdefault(key, [])) < _MOST_EQUAL:
                known.append(node)
