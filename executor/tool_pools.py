"""Where the calls of tools run, and how long they wait there: the queue of `executor.tools`, in virtual time."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from executor.tools import MAX_THREADS, ToolBody
from planner.ir.plan import ToolSpec

#: `executor.tools.ToolRunner` has so many processes for an isolated tool.
PROCESSES = 2
#: From the start of an interpreter to the end of the import of a tool's module that imports `halo`, as seen on the two
#: cores of the `cpu` profile's machine: 0.4 s of it are work of a core; 3 s where engines keep both busy.
PROCESS_START_S = 0.6


@dataclass(frozen=True, slots=True)
class ToolPool:
    """`slots` calls or batches of one tool run at once, none of them before `start_s` of the run."""

    slots: int
    start_s: float = 0.0


def tool_pools(tools: Mapping[str, ToolBody], *, started: bool = False) -> dict[str, ToolPool]:
    """As a `ToolRunner` has them that is told of the job when it is planned. `started`: its processes run already."""
    return {name: _pool(tool, started) for name, tool in tools.items()}


def _pool(tool: ToolBody, started: bool) -> ToolPool:
    concurrency = tool.spec.concurrency
    if tool.isolated:
        return ToolPool(min(PROCESSES, concurrency), 0.0 if started else PROCESS_START_S)
    in_threads = not inspect.iscoroutinefunction(tool.function)
    return ToolPool(min(MAX_THREADS, concurrency) if in_threads else concurrency)


class ToolQueue:
    """First come, first served. Calls that wait go together, as many as the tool takes at once."""

    def __init__(self, spec: ToolSpec, pool: ToolPool) -> None:
        self._most = spec.max_batch
        self._free_at = [pool.start_s] * pool.slots
        self._slot, self._begins_at, self._together = 0, 0.0, self._most  # of the batch that begins last

    def ends_at(self, now: float, seconds: float) -> float:
        """When a call ends that comes `now`, and takes `seconds` from when it begins. Calls come in order of time."""
        if not (now < self._begins_at and self._together < self._most):
            self._slot = min(range(len(self._free_at)), key=self._free_at.__getitem__)
            self._begins_at, self._together = max(now, self._free_at[self._slot]), 0
        self._together += 1
        ends_at = self._begins_at + seconds
        self._free_at[self._slot] = max(self._free_at[self._slot], ends_at)
        return ends_at
