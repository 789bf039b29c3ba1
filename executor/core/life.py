"""The life of a node, as a table of the steps it may take."""

from enum import StrEnum


class Life(StrEnum):
    PREPARING = "preparing"  # its inputs are being rendered
    WAITING = "waiting"  # another node does the same work; its output will be taken
    HELD = "held"  # ready to run, and waits until an engine has room for its conversation
    QUEUED = "queued"  # ready to run; no engine or tool slot has been given yet
    DELAYED = "delayed"  # failed; will be queued again when its time comes
    RUNNING = "running"  # inside an engine or a tool
    DECIDING = "deciding"  # a Choose, Map or Loop works out where it goes
    OPEN = "open"  # its bodies or turns are running
    SETTLING = "settling"  # its value is being worked out
    DONE = "done"
    FAILED = "failed"
    DROPPED = "dropped"  # its program ended before it


_ENDS = frozenset({Life.DONE, Life.FAILED, Life.DROPPED})

#: From each state, the states that may follow. `None` is the state before the first.
STEPS: dict[Life | None, frozenset[Life]] = {
    None: frozenset({Life.PREPARING, Life.WAITING, Life.DECIDING, Life.OPEN, Life.SETTLING, *_ENDS}),
    Life.PREPARING: frozenset({Life.WAITING, Life.HELD, Life.QUEUED, *_ENDS}),
    Life.WAITING: frozenset({Life.PREPARING, Life.WAITING, Life.HELD, Life.QUEUED, Life.DECIDING, Life.OPEN, *_ENDS}),
    Life.HELD: frozenset({Life.HELD, Life.QUEUED, *_ENDS}),
    Life.QUEUED: frozenset({Life.HELD, Life.RUNNING, *_ENDS}),
    Life.DELAYED: frozenset({Life.HELD, Life.QUEUED, *_ENDS}),
    Life.RUNNING: frozenset({Life.DELAYED, Life.HELD, Life.QUEUED, *_ENDS}),
    Life.DECIDING: frozenset({Life.OPEN, Life.SETTLING, *_ENDS}),
    Life.OPEN: frozenset({Life.DECIDING, Life.SETTLING, *_ENDS}),
    Life.SETTLING: _ENDS,
    Life.DONE: frozenset(),
    Life.FAILED: frozenset(),
    Life.DROPPED: frozenset(),
}
