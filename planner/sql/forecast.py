"""How many statements a tool's calls come to, before anything is run."""

from planner.ir.plan import ToolSpec


def least_statements(tool: ToolSpec, different_calls: int) -> int:
    """At least so many statements for the different calls of one stage: full batches, each of them merged into one.

    What does not merge, or is not there yet when its batch begins, adds to it; there are never more than calls.
    """
    assert different_calls >= 0
    return -(-different_calls // tool.max_batch)
