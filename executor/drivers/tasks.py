"""The tasks of the live driver: one for each call and tool that runs, and those that belong to no node."""

import asyncio
from collections.abc import Callable, Coroutine

from executor.drivers.underway import Running
from planner.ir.ids import NodeRef

Work = Coroutine[None, None, None]


class Tasks:
    """`broken` is told what a task raised: none should, so it is a promise of ours that broke."""

    def __init__(self, broken: Callable[[BaseException], None]) -> None:
        self._broken = broken
        self._of_nodes: dict[tuple[NodeRef, int], tuple[Running, asyncio.Task[None]]] = {}
        self._others: set[asyncio.Task[None]] = set()

    def spawn(self, work: Work) -> None:
        task = asyncio.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)
        task.add_done_callback(self._check)

    def begin(self, running: Running, work: Work) -> None:
        """Start what a node's attempt does; `end` or `abort` it."""
        task = asyncio.create_task(work)
        self._of_nodes[running.node, running.attempt] = running, task
        task.add_done_callback(self._check)

    def hand_over(self, node: NodeRef, attempt: int, heir: NodeRef, heir_attempt: int) -> None:
        """What the attempt does is done for another node from now on."""
        running, task = self._of_nodes.pop((node, attempt))
        running.node, running.attempt = heir, heir_attempt
        self._of_nodes[heir, heir_attempt] = running, task

    def end(self, running: Running) -> bool:
        """The attempt has its outcome. False when it was aborted before: nobody wants to hear it."""
        return self._of_nodes.pop((running.node, running.attempt), None) is not None

    def abort(self, node: NodeRef, attempt: int) -> None:
        if found := self._of_nodes.pop((node, attempt), None):
            found[1].cancel()

    async def close(self) -> None:
        """Cancel all, and wait until they are over."""
        tasks = (*(task for _, task in self._of_nodes.values()), *self._others)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _check(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)
