"""A job while the live driver runs it: from what the store holds to what the core is told."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from executor.commands import Status
from executor.drivers.progress import Progress
from executor.engines import names
from executor.engines.port import EngineSpec
from executor.events import BatchPlanned, Before, JobSubmitted, Recovered
from executor.planning import plan_batch
from executor.store.jobs import Claim, JobContents, JobRecord
from executor.store.port import Store
from executor.store.records import unix_time
from kvstore.program_state import ProgramState
from planner.cost.quantiles import Quantiles
from planner.ir.codec import decode
from planner.ir.ids import ContentKey, NodeRef, ProgramId, program_id
from planner.ir.plan import Plan
from planner.prefix.blocks import StageBlocks
from planner.table import Table


@dataclass(frozen=True, slots=True)
class LiveJob:
    """`ended` is set when everything the job gave is committed, or with the error that stopped it."""

    claim: Claim
    cache_salt: str | None
    plan: Plan
    table: Table
    contents: JobContents
    ended: "asyncio.Future[Status]"
    progress: Progress


async def load_job(store: Store, claim: Claim, *, salted: bool) -> LiveJob:
    """Where its calls are `salted`, they share no prefix cache with other tenants'.

    Raises `PlanUnreadable` or `RowsInvalid` where what was stored is damaged."""
    contents = await store.load(claim)
    plan = decode(contents.plan)
    table = Table.from_rows(contents.rows, plan.inputs)
    ended: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
    before = len(contents.ended)
    salt = names.salted(contents.record.tenant) if salted else None
    return LiveJob(claim, salt, plan, table, contents, ended, Progress(rows=table.rows, ended=before, before=before))


def submitted(
    job: LiveJob,
    at: float,
    epoch_s: float,
    lengths: Mapping[str, Quantiles],
    states: Mapping[ProgramId, ProgramState] | None = None,
) -> JobSubmitted:
    """`at` is now by the driver's clock; at its 0, it was `epoch_s` seconds since 1970. `states` are those that are
    known of programs that an earlier process began."""
    recovered = {
        row: Recovered(
            {path: saved.tools.get(path, ()) for path in saved.outputs},
            saved.interrupted,
            _before((states or {}).get(program_id(job.claim.job, row))),
        )
        for row, saved in job.contents.saved.items()
    }
    record = job.contents.record
    ended = tuple(job.contents.ended)
    return JobSubmitted(
        at,
        record.id,
        job.plan,
        job.table.rows,
        record.priority,
        ended,
        recovered,
        lengths,
        tenant=record.tenant,
        slo=record.slo,
        deadline_s=_deadline(record, epoch_s),
    )


def _before(state: ProgramState | None) -> Before | None:
    if state is None:
        return None
    return Before(state.node, state.engine, state.turns, state.attained_tokens, state.sequence, state.context_tokens)


def _deadline(record: JobRecord, epoch_s: float) -> float | None:
    return None if record.deadline_s is None else unix_time(record.created_at) - epoch_s + record.deadline_s


def answered_before(job: LiveJob, planned: BatchPlanned) -> Iterator[tuple[ContentKey, NodeRef]]:
    """The equal work that a row which ended in an earlier process did, and that a row still to come asks for."""
    ended = frozenset(job.contents.ended)
    for stage, grouping in planned.groups.items():
        wanted = {group for row, group in enumerate(grouping.group_of_row) if row not in ended}
        for row in job.contents.ended:
            group = grouping.group_of_row[row]
            if group in wanted:
                wanted.discard(group)
                yield grouping.keys[group], NodeRef(program_id(job.claim.job, row), stage)


def planned(
    job: LiveJob,
    at: float,
    fleet: Sequence[EngineSpec],
    token_blocks: Mapping[str, StageBlocks] | None = None,
) -> BatchPlanned:
    return plan_batch(job.claim.job, job.plan, job.table, at, token_blocks, fleet)
