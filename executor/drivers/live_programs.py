"""What live programs have given and what that took, from each program's begin to its end."""

import json
from collections.abc import Callable
from dataclasses import replace

from executor.clock import Clock
from executor.commands import BeginProgram, FinishProgram, ForgetShared, HandOver, KeepShared, Prepare, TakeShared
from executor.drivers.ledger import Ledger
from executor.drivers.live_job import LiveJob
from executor.drivers.live_state import LiveState
from executor.drivers.outcomes import Outcomes
from executor.drivers.reuse import Reuse
from executor.events import Event, Prepared
from executor.store.result_cache import CachedResult
from executor.values import Values, load_outputs
from planner.ir.ids import NodeRef


class LivePrograms:
    """`post` takes the events; `job_of` knows the job of a node that is live."""

    def __init__(
        self,
        values: Values,
        ledger: Ledger,
        reuse: Reuse | None,
        states: LiveState,
        outcomes: Outcomes,
        clock: Clock,
        job_of: Callable[[NodeRef], LiveJob],
        post: Callable[[Event], None],
    ) -> None:
        self._values, self._ledger, self._reuse, self._states = values, ledger, reuse, states
        self._outcomes, self._clock, self._job_of, self._post = outcomes, clock, job_of, post

    def begin(self, job: LiveJob, command: BeginProgram) -> None:
        saved = job.contents.saved.get(command.row)
        outputs = load_outputs(saved.outputs) if saved else None
        self._ledger.begin(command.program, saved)
        row, salt = job.table.row(command.row), job.cache_salt or ""
        self._values.open_program(command.program, command.plan, row, outputs, salt)

    def finish(self, job: LiveJob, command: FinishProgram) -> None:
        self._outcomes.finish_program(job, command)
        self._values.forget_program(command.program)
        self._ledger.end(command.program)
        if self._reuse is not None:
            self._reuse.end(command.program)
        self._states.forget(command.program)

    def prepare(self, command: Prepare) -> None:
        """Work out what the node asks; what an earlier job gave for it is looked up first."""
        now = self._clock.now()
        self._ledger.ready(command.node, now)
        event = self._values.answer(command, now)
        if not (isinstance(event, Prepared) and self._looks_up(event)):
            self._post(event)

    def share(self, command: KeepShared | TakeShared | ForgetShared) -> None:
        """What a node gave is kept for others, taken by one of them, or forgotten."""
        match command:
            case KeepShared(node=node, key=key):
                self._ledger.keep(node, key)
            case TakeShared(node=node, key=key):
                self._ledger.take(node, key)
            case ForgetShared(key=key):
                self._ledger.forget(key)
        self._values.apply(command)

    def hand_over(self, command: HandOver) -> None:
        self._values.hand_over(command.node, command.heir)
        self._ledger.hand_over(command.node, command.heir)

    def _looks_up(self, event: Prepared) -> bool:
        """Whether the node waits until it is known what an earlier job gave."""
        if self._reuse is None:
            return False
        job = self._job_of(event.node).contents.record
        return self._reuse.look_up(event, job, lambda found: self._looked_up(event, found))

    def _looked_up(self, event: Prepared, found: CachedResult | None) -> None:
        if found is not None:
            tools = self._values.take_recalled(event.node, json.loads(found.output))
            self._ledger.recalled(event.node, found.work, tools)
            event = replace(event, recalled=True, tools=tools)
        self._post(replace(event, at=self._clock.now()))
