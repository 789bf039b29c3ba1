"""One job of the store in memory: as it was accepted, and all that was written of it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from executor.store.jobs import JobRecord, JobStatus, NewJob
from executor.store.records import ENDED, PENDING, countable, counted, iso_time
from executor.store.told import ResultRow, StoredDecision
from executor.store.writes import (
    DECISIONS_A_CLAIM,
    MADE,
    RESULT_CACHE,
    DecisionMade,
    NodeOutput,
    ProgramEnded,
    ToolBegun,
)
from planner.cost.history import Seen
from planner.ir.ids import JobId
from planner.measured import CallSpan, How, Tally


@dataclass(slots=True)
class MemoryJob:
    """`number` counts jobs in the order they were accepted."""

    number: int
    new: NewJob
    created_at: str
    status: JobStatus = JobStatus.QUEUED
    started_at: str | None = None
    ended_at: str | None = None
    cancel_requested: bool = False
    owner: str | None = None
    lease_until: float = float("-inf")
    attempt: int = 0
    nodes: dict[int, dict[str, NodeOutput | ToolBegun]] = field(default_factory=dict)
    ended: dict[int, ProgramEnded] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENDED, 0))
    decisions: dict[int, StoredDecision] = field(default_factory=dict)
    beliefs: str | None = None
    learnt: str | None = None
    usage: dict[str, int] = field(default_factory=lambda: counted(()))

    @property
    def left(self) -> int:
        """Programs that have not ended."""
        return len(self.new.rows) - sum(self.counts.values())

    @property
    def record(self) -> JobRecord:
        return JobRecord(
            id=self.new.id,
            workflow=self.new.workflow,
            tenant=self.new.tenant,
            status=self.status,
            priority=self.new.priority,
            rows=len(self.new.rows),
            counts={PENDING: self.left, **self.counts},
            metadata=dict(self.new.metadata),
            created_at=self.created_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
            cancel_requested=self.cancel_requested,
            cache=self.new.cache,
            slo=self.new.slo,
            deadline_s=self.new.deadline_s,
        )

    def held_by(self, owner: str) -> bool:
        return self.status is JobStatus.RUNNING and self.owner == owner

    def keep_output(self, node: NodeOutput) -> None:
        """The first that is written stands."""
        nodes = self.nodes.setdefault(node.row, {})
        if isinstance(nodes.get(node.path), NodeOutput):
            return
        nodes[node.path] = node
        for name, count in counted((node,)).items():
            self.usage[name] += count

    def keep_decision(self, made: DecisionMade) -> None:
        seq = self.attempt * DECISIONS_A_CLAIM + made.number
        kept = StoredDecision(seq, made.row, made.path, made.attempt, iso_time(made.at), made.detail)
        self.decisions.setdefault(seq, kept)

    def result(self, row: int) -> ResultRow:
        if (ended := self.ended.get(row)) is None:
            return ResultRow(row, None)
        result = None if ended.result is None else json.loads(ended.result)
        return ResultRow(row, ended.status, result, ended.failure)

    def outputs(self) -> Iterator[NodeOutput]:
        return (node for nodes in self.nodes.values() for node in nodes.values() if isinstance(node, NodeOutput))

    def lenders(self) -> set[JobId]:
        """The jobs whose nodes did work for this one's."""
        return {node.shared_from[0] for node in self.outputs() if node.shared_from is not None}

    def seen(self) -> Iterator[Seen]:
        """As `Store.seen` tells it, row by row."""
        for row in sorted(self.nodes):
            for path, node in sorted(self.nodes[row].items()):
                if isinstance(node, NodeOutput) and node.times is not None and node.output is not None:
                    seconds, work = node.times.ended_at - node.times.begun_at, node.work
                    yield Seen(path, node.output, seconds, work.prompt_tokens, work.output_tokens, work.cached_tokens)

    def tallies(self) -> list[Tally]:
        groups: dict[tuple[str, How], list[NodeOutput]] = {}
        for node in self.outputs():
            groups.setdefault((node.path, _how(node)), []).append(node)
        return [_tally(path, how, groups[path, how]) for path, how in sorted(groups)]

    def call_spans(self) -> list[CallSpan]:
        spans = [
            CallSpan(node.path, node.engine, node.times.begun_at, node.times.ended_at)
            for node in self.outputs()
            if node.engine is not None and node.times is not None
        ]
        return sorted(spans, key=lambda span: (span.begun_at, span.ended_at, span.path))


def _how(node: NodeOutput) -> How:
    if node.shared_from is None:
        return How.MADE
    return How.RECALLED if node.shared_from == RESULT_CACHE else How.SHARED


def _tally(path: str, how: How, nodes: Sequence[NodeOutput]) -> Tally:
    times = [node.times for node in nodes if node.times is not None]
    return Tally(
        path=path,
        how=how,
        nodes=len(nodes),
        **{name: sum(countable(getattr(node.work, name)) for node in nodes) for name in MADE},
        waited_s=sum(at.begun_at - at.ready_at for at in times),
        took_s=sum(at.ended_at - at.begun_at for at in times),
        first_begun_at=min((at.begun_at for at in times), default=None),
        last_ended_at=max((at.ended_at for at in times), default=None),
    )
