"""Which ready call goes first: between jobs, and between the calls of one job on one engine."""

from typing import NamedTuple


class QueueKey(NamedTuple):
    """Program order: lower priority number, then earlier job, then earlier program in the planned order.

    A program that has begun is ahead of every later one, so programs end instead of all being half done (the
    program-level order of Continuum, arXiv 2511.02230, section 4).
    """

    priority: int
    job: int
    position: int


class CallRank(NamedTuple):
    """The least goes first: most blocks warm here, so most seconds saved; of those that save as much, what is not
    warmer on another engine; then the longest path to the end of its program, so that a job has a short tail; then
    program order.

    `cold` is the number of warm leading blocks with its sign turned, `path` the seconds with theirs.
    """

    cold: int
    elsewhere: bool
    path: float
    position: int
    arrival: int


def passed_over(others: int, most: int) -> bool:
    """Whether a call that saw `others` go before it has waited long enough: nothing starves."""
    return others >= most
