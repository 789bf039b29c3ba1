"""Calls and tools that run, and for whom."""

from dataclasses import dataclass

from executor.commands import HandOver
from planner.ir.ids import NodeRef


@dataclass(slots=True, eq=False)
class Running:
    """What runs, and for which node's attempt: that changes when a program ends whose work another one waits for."""

    node: NodeRef
    attempt: int


class Underway:
    """All that runs in a simulation. What was taken out of it ended, or was aborted: nobody wants to hear of it."""

    def __init__(self) -> None:
        self._of_nodes: dict[tuple[NodeRef, int], Running] = {}

    def begin(self, running: Running) -> None:
        self._of_nodes[running.node, running.attempt] = running

    def hand_over(self, command: HandOver) -> None:
        running = self._of_nodes.pop((command.node, command.attempt))
        running.node, running.attempt = command.heir, command.heir_attempt
        self.begin(running)

    def end(self, running: Running) -> bool:
        """False when it was aborted before."""
        of = running.node, running.attempt
        if self._of_nodes.get(of) is not running:
            return False
        del self._of_nodes[of]
        return True

    def abort(self, node: NodeRef, attempt: int) -> Running | None:
        return self._of_nodes.pop((node, attempt), None)
