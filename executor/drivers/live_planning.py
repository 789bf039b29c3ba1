"""A live job planned over its rows, beside the calls of others that go on."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from executor.drivers.job_beliefs import JobBeliefs
from executor.drivers.ledger import Ledger
from executor.drivers.live_job import LiveJob, answered_before, planned
from executor.engines.port import EngineSpec
from executor.events import BatchPlanned
from executor.placing import places
from executor.store.port import Store
from executor.tokenization.counting import PromptCounter
from executor.values import Values
from planner.ir.ids import ContentKey, NodeRef, row_of
from planner.prefix.blocks import StageBlocks

#: Below so many rows planning is done at once; above, in a thread, so that calls in flight are not held up.
ROWS_PLANNED_AT_ONCE = 64
#: How many answers of rows that ended in an earlier process are fetched for rows still to come.
MOST_RECALLED = 5000


class LivePlanning:
    """What planning needs of the driver: its fleet, a tokenizer where there is one, and what earlier rows gave."""

    def __init__(
        self,
        fleet: Sequence[EngineSpec],
        store: Store,
        values: Values,
        ledger: Ledger,
        beliefs: JobBeliefs,
        counter: PromptCounter | None,
    ) -> None:
        self._fleet, self._store, self._values, self._ledger = fleet, store, values, ledger
        self._beliefs, self._counter = beliefs, counter

    def is_quick(self, job: LiveJob) -> bool:
        """Whether planning the job asks nobody and takes no time."""
        few = job.table.rows <= ROWS_PLANNED_AT_ONCE and not job.contents.ended
        return few and not self._counter and not places(job.plan, job.table.rows, self._fleet)

    async def plan(self, job: LiveJob) -> BatchPlanned:
        """At instant 0. What the event says is known is at hand from now on. Raises `StoreUnavailable`."""
        token_blocks = await self._count(job, self._counter) if self._counter else {}
        event = await asyncio.to_thread(planned, job, 0.0, self._fleet, token_blocks)
        known = await self._answers_before(job, event) if job.contents.ended else {}
        return replace(event, known=known)

    async def _count(self, job: LiveJob, counter: PromptCounter) -> Mapping[str, StageBlocks]:
        counted = await counter.count(job.plan, job.table)
        self._beliefs.counted(job.claim.job, counted.cut.chars_per_token)
        return counted.parts[0].token_blocks

    async def _answers_before(self, job: LiveJob, event: BatchPlanned) -> dict[ContentKey, NodeRef]:
        """Have at hand what rows that ended before did for those still to come."""
        wanted = list(islice(answered_before(job, event), MOST_RECALLED))
        saved = await self._store.saved(job.claim, [row_of(node.program) for _, node in wanted])
        known = {}
        for key, node in wanted:
            program = saved.get(row_of(node.program))
            if program is not None and node.path in program.outputs:
                self._values.recall(key, json.loads(program.outputs[node.path]))
                self._ledger.recall(key, program, node.path)
                known[key] = node
        return known
