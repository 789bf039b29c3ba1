"""Gathers the calls of one tool into batches, by back-pressure alone: what waits for a slot goes together in the next.

There is no timer. A call that finds a slot free is run in the same turn of the loop as those that came with it; while
all slots are taken, calls wait, and the next batch takes those of them that gain by it. No call waits for another's
answer: each is released as soon as it is known.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from executor.child_process import TakeAnswer, ToolFailed
from planner.ir.plan import ToolSpec
from planner.ir.values import Json

Arguments = Mapping[str, Json]
Begun = Callable[[], None]
#: Runs one call, within the tool's deadline; tells when it begins. Raises `ToolFailed`.
RunOne = Callable[[ToolSpec, Arguments, Begun], Awaitable[Json]]
#: Runs many within one deadline; answers are taken in the calls' order, as they come. Raises `ToolFailed` when no more
#: will.
RunMany = Callable[[ToolSpec, Sequence[Arguments], Begun, TakeAnswer], Awaitable[None]]
#: Names the calls that gain by going together: those with an equal name. None: such a call goes alone.
Together = Callable[[Arguments], Hashable | None]


@dataclass(eq=False, slots=True)
class _Call:
    spec: ToolSpec
    arguments: Arguments
    begun: Begun
    answer: "asyncio.Future[Json]"
    together: Hashable | None
    told: bool = False


class ToolBatches:
    """The calls of one tool that has a body for many. At most `slots` batches run, and no more than its `concurrency`.

    Calls of one name go together (see `Together`), up to the tool's `max_batch`. With `spread`, they are shared out
    evenly among the slots that are free. Answers missing when a batch fails are asked for call by call, so a call never
    fails for what stood beside it.
    """

    def __init__(self, one: RunOne, many: RunMany, together: Together, slots: int, *, spread: bool = False) -> None:
        self._one, self._many, self._together, self._slots, self._spread = one, many, together, slots, spread
        self._waiting: deque[_Call] = deque()
        self._running: dict[asyncio.Task[None], list[_Call]] = {}
        self._woken = False

    async def run(self, spec: ToolSpec, arguments: Arguments, begun: Begun) -> Json:
        """What the tool returns for this call; `begun` is told when it has a slot. Raises `ToolFailed`.

        Cancelling it harms no other call.
        """
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        call = _Call(spec, arguments, begun, answer, self._together(arguments))
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
        while self._waiting and (free := self._free(self._waiting[0].spec)) > 0:
            batch = self._next(free if self._spread else 1)
            task = asyncio.create_task(self._run(batch))
            self._running[task] = batch
            task.add_done_callback(self._ended)

    def _free(self, spec: ToolSpec) -> int:
        return min(self._slots, spec.concurrency) - len(self._running)

    def _next(self, shares: int) -> list[_Call]:
        """One share of those that may go with the call that waited longest."""
        first = self._waiting[0]
        if first.together is None:
            return [self._waiting.popleft()]
        alike = [call for call in self._waiting if _go_together(first, call)]
        batch = alike[: min(first.spec.max_batch, -(-len(alike) // shares))]
        taken = set(map(id, batch))
        self._waiting = deque(call for call in self._waiting if id(call) not in taken)
        return batch

    async def _run(self, batch: list[_Call]) -> None:
        first, unanswered = batch[0], iter(batch)

        def begun() -> None:
            for call in batch:
                _tell_begun(call)

        def take(outcome: Json | ToolFailed) -> None:
            _settle(next(unanswered), outcome)

        try:
            if len(batch) == 1:
                take(await self._one(first.spec, first.arguments, begun))
            else:
                await self._many(first.spec, [call.arguments for call in batch], begun, take)
        except ToolFailed as failure:
            self._failed(batch, failure)

    def _failed(self, batch: list[_Call], failure: ToolFailed) -> None:
        if len(batch) == 1:
            _settle(batch[0], failure)
        self._waiting.extendleft(_to_be_run_alone(call) for call in reversed(batch) if not call.answer.done())

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
    same_spec = first.spec is other.spec or first.spec == other.spec
    return first.together == other.together and same_spec


def _to_be_run_alone(call: _Call) -> _Call:
    call.together = None
    return call


def _tell_begun(call: _Call) -> None:
    if not call.told and not call.answer.done():
        call.told = True
        call.begun()


def _settle(call: _Call, outcome: Json | BaseException) -> None:
    if call.answer.done():
        return
    if isinstance(outcome, BaseException):
        call.answer.set_exception(outcome)
    else:
        call.answer.set_result(outcome)
