"""Gathers the calls of one tool into batches, by back-pressure alone: what waits for a slot goes together in the next.

There is no timer. A call that finds a slot free is run in the same turn of the loop as those that came with it; while
all slots are taken, calls wait, and the next batch takes as many of them as the tool allows.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from executor.child_process import ToolFailed
from planner.ir.plan import ToolSpec
from planner.ir.values import Json

Arguments = Mapping[str, Json]
#: Runs one call, within the tool's deadline. Raises `ToolFailed`.
RunOne = Callable[[ToolSpec, Arguments], Awaitable[Json]]
#: Runs many within one deadline; a result or a failure for each. Raises `ToolFailed` when the batch failed as a whole.
RunMany = Callable[[ToolSpec, Sequence[Arguments]], Awaitable[Sequence[Json | ToolFailed]]]


@dataclass(eq=False, slots=True)
class _Call:
    spec: ToolSpec
    arguments: Arguments
    begun: Callable[[], None]
    answer: "asyncio.Future[Json]"
    alone: bool = False


class ToolBatches:
    """The calls of one tool that has a body for many. At most `slots` batches run, and no more than its `concurrency`.

    A batch that fails as a whole is run again call by call, so a call never fails for what stood beside it.
    """

    def __init__(self, one: RunOne, many: RunMany, slots: int) -> None:
        self._one, self._many, self._slots = one, many, slots
        self._waiting: deque[_Call] = deque()
        self._running: dict[asyncio.Task[None], list[_Call]] = {}
        self._woken = False

    async def run(self, spec: ToolSpec, arguments: Arguments, begun: Callable[[], None]) -> Json:
        """What the tool returns for this call; `begun` is told when it has a slot. Raises `ToolFailed`.

        Cancelling it harms no other call.
        """
        call = _Call(spec, arguments, begun, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._wake()
        try:
            return await call.answer
        finally:
            self._drop_given_up()

    async def close(self) -> None:
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wake(self) -> None:
        """Begin in the next turn of the loop: calls that became ready at one instant have then all come."""
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._woken = False
        while self._waiting and len(self._running) < min(self._slots, self._waiting[0].spec.concurrency):
            batch = self._next()
            task = asyncio.create_task(self._run(batch))
            self._running[task] = batch
            task.add_done_callback(self._ended)

    def _next(self) -> list[_Call]:
        batch = [self._waiting.popleft()]
        while self._waiting and len(batch) < batch[0].spec.max_batch and _go_together(batch[0], self._waiting[0]):
            batch.append(self._waiting.popleft())
        return batch

    async def _run(self, batch: list[_Call]) -> None:
        for call in batch:
            if not call.alone and not call.answer.done():
                call.begun()
        try:
            outcomes = await self._outcomes(batch)
        except ToolFailed:
            self._waiting.extendleft(_to_be_run_alone(call) for call in reversed(batch) if not call.answer.done())
            return
        for call, outcome in zip(batch, outcomes, strict=True):
            _settle(call, outcome)

    async def _outcomes(self, batch: list[_Call]) -> Sequence[Json | ToolFailed]:
        first = batch[0]
        if len(batch) > 1:
            return await self._many(first.spec, [call.arguments for call in batch])
        try:
            return [await self._one(first.spec, first.arguments)]
        except ToolFailed as failed:
            return [failed]

    def _ended(self, task: "asyncio.Task[None]") -> None:
        batch = self._running.pop(task)
        if task.cancelled():
            for call in batch:
                call.answer.cancel()
        elif (broken := task.exception()) is not None:
            for call in batch:
                _settle(call, broken)
        if self._waiting:
            self._wake()

    def _drop_given_up(self) -> None:
        """What nobody waits for any more is not begun, and is ended where it runs with others like it."""
        self._waiting = deque(call for call in self._waiting if not call.answer.done())
        for task, batch in self._running.items():
            if all(call.answer.cancelled() for call in batch):
                task.cancel()


def _go_together(first: _Call, other: _Call) -> bool:
    return not first.alone and not other.alone and (first.spec is other.spec or first.spec == other.spec)


def _to_be_run_alone(call: _Call) -> _Call:
    call.alone = True
    return call


def _settle(call: _Call, outcome: Json | BaseException) -> None:
    if call.answer.done():
        return
    if isinstance(outcome, BaseException):
        call.answer.set_exception(outcome)
    else:
        call.answer.set_result(outcome)
