"""Which ready call goes first."""

from typing import NamedTuple


class QueueKey(NamedTuple):
    """Program order: lower priority number, then earlier job, then earlier program in the planned order.

    A program that has begun is ahead of every later one, so programs end instead of all being half done (the
    program-level order of Continuum, arXiv 2511.02230, section 4).
    """

    priority: int
    job: int
    position: int
