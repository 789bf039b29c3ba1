"""Everything a holder needs to run a job, or to go on with it; read a page at a time."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select

from executor.store.bulk import select_at
from executor.store.claims import check_fence
from executor.store.jobs import Claim, JobContents, SavedProgram
from executor.store.records import PENDING, decode_page, job_record
from executor.store.tables import WORK_COLUMNS, jobs, nodes, plans, programs
from executor.store.writes import NO_WORK, Work
from planner.ir.ids import JobId
from planner.ir.values import Json

_PROGRAMS_A_PAGE = 1000
_NODES_A_PAGE = 200
_Key = tuple[str, int, str]


@dataclass(slots=True)
class _Saved:
    outputs: dict[str, str] = field(default_factory=dict)
    tools: dict[str, tuple[str, ...]] = field(default_factory=dict)
    interrupted: list[str] = field(default_factory=list)
    work: dict[str, Work] = field(default_factory=dict)


def load(connection: Connection, claim: Claim) -> JobContents:
    check_fence(connection, claim)
    query = select(jobs, plans.c.text).join(plans, plans.c.hash == jobs.c.plan_hash).where(jobs.c.id == claim.job)
    job = connection.execute(query).one()
    rows, pending = _programs(connection, claim.job)
    # Nothing can be saved before the second attempt.
    saved = _saved(connection, claim.job, pending) if claim.attempt > 1 else {}
    open_rows = set(pending)
    ended = [row for row in range(len(rows)) if row not in open_rows]
    return JobContents(job_record(job), job.text, rows, ended, saved, job.beliefs)


def saved(connection: Connection, claim: Claim, rows: Sequence[int]) -> Mapping[int, SavedProgram]:
    check_fence(connection, claim)
    return _saved(connection, claim.job, sorted(set(rows)))


def _programs(connection: Connection, job: JobId) -> tuple[list[Mapping[str, Json]], list[int]]:
    """The inputs of all rows, and which rows have not ended."""
    rows: list[Mapping[str, Json]] = []
    pending: list[int] = []
    columns = select(programs.c.row_index, programs.c.input, programs.c.status).where(programs.c.job_id == job)
    while True:
        following = columns.where(programs.c.row_index >= len(rows)).order_by(programs.c.row_index)
        page = connection.execute(following.limit(_PROGRAMS_A_PAGE)).all()
        rows.extend(decode_page([row.input for row in page]))
        pending.extend(row.row_index for row in page if row.status == PENDING)
        if len(page) < _PROGRAMS_A_PAGE:
            return rows, pending


def _saved(connection: Connection, job: JobId, pending: Sequence[int]) -> dict[int, SavedProgram]:
    saved: dict[int, _Saved] = {}
    borrowed: list[tuple[int, str, _Key]] = []
    for chunk in _chunks(pending, _NODES_A_PAGE):
        at = [(job, row) for row in chunk]
        found = select_at(connection, [*nodes.c], [nodes.c.job_id, nodes.c.row_index], at).order_by(
            nodes.c.row_index, nodes.c.path
        )
        for node in connection.execute(found):
            _take_node(saved.setdefault(node.row_index, _Saved()), node, borrowed)
    lent = _lent(connection, {key for _, _, key in borrowed})
    for row, path, key in borrowed:
        # What was shared from a node that was never stored is simply not there: it is worked out again.
        if key in lent:
            saved[row].outputs[path] = lent[key]
        else:
            saved[row].tools.pop(path, None)
            saved[row].work.pop(path, None)
    return {row: SavedProgram(one.outputs, one.tools, tuple(one.interrupted), one.work) for row, one in saved.items()}


def _take_node(saved: _Saved, node: Row[Any], borrowed: list[tuple[int, str, _Key]]) -> None:
    if node.status == "begun":
        saved.interrupted.append(node.path)
        return
    saved.tools[node.path] = tuple(json.loads(node.tools)) if node.tools else ()
    work = Work(*(node._mapping[column] for column in WORK_COLUMNS.values()))
    if work != NO_WORK:
        saved.work[node.path] = work
    if node.output is not None:
        saved.outputs[node.path] = node.output
    elif node.shared_job is not None:
        borrowed.append((node.row_index, node.path, (node.shared_job, node.shared_row, node.shared_path)))


def _lent(connection: Connection, wanted: Iterable[_Key]) -> dict[_Key, str]:
    """The outputs behind the keys; a node that itself shares another's output is followed."""
    outputs: dict[_Key, str] = {}
    follows: dict[_Key, _Key] = {}
    asked: set[_Key] = set()
    asking = set(wanted)
    while asking:
        asked |= asking
        for chunk in _chunks(sorted(asking), _NODES_A_PAGE):
            for key, node in _nodes_at(connection, chunk):
                if node.output is not None:
                    outputs[key] = node.output
                elif node.shared_job is not None:
                    follows[key] = (node.shared_job, node.shared_row, node.shared_path)
        asking = set(follows.values()) - asked
    return outputs | dict(_followed(outputs, follows))


def _nodes_at(connection: Connection, keys: Sequence[_Key]) -> list[tuple[_Key, Row[Any]]]:
    key = [nodes.c.job_id, nodes.c.row_index, nodes.c.path]
    found = connection.execute(select_at(connection, [*nodes.c], key, keys))
    return [((node.job_id, node.row_index, node.path), node) for node in found]


def _followed(outputs: Mapping[_Key, str], follows: Mapping[_Key, _Key]) -> Iterator[tuple[_Key, str]]:
    for start in follows:
        key, seen = start, set[_Key]()
        while key in follows and key not in seen:
            seen.add(key)
            key = follows[key]
        if key in outputs:
            yield start, outputs[key]


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
