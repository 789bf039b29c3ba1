"""The tasks of the live driver: one for each call and tool that runs, and those that belong to no node."""

import asyncio
from collections.abc import Callable, Coroutine

from planner.ir.ids import NodeRef

Work = Coroutine[None, None, None]


class Tasks:
    """`broken` is told what a task raised: none should, so it is a promise of ours that broke."""

    def __init__(self, broken: Callable[[BaseException], None]) -> None:
        self._broken = broken
        self._of_nodes: dict[tuple[NodeRef, int], asyncio.Task[None]] = {}
        self._others: set[asyncio.Task[None]] = set()

    def spawn(self, work: Work) -> None:
        task = asyncio.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)
        task.add_done_callback(self._check)

    def begin(self, node: NodeRef, attempt: int, work: Work) -> None:
        """Start what a node's attempt does; `end` or `abort` it."""
        task = asyncio.create_task(work)
        self._of_nodes[node, attempt] = task
        task.add_done_callback(self._check)

    def end(self, node: NodeRef, attempt: int) -> bool:
        """The attempt has its outcome. False when it was aborted before: nobody wants to hear it."""
        return self._of_nodes.pop((node, attempt), None) is not None

    def abort(self, node: NodeRef, attempt: int) -> None:
        if task := self._of_nodes.pop((node, attempt), None):
            task.cancel()

    async def close(self) -> None:
        """Cancel all, and wait until they are over."""
        tasks = (*self._of_nodes.values(), *self._others)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _check(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)
