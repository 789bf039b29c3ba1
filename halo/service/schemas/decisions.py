"""Where the calls of a run went, and why."""

from pydantic import Field

from halo.service.schemas.base import Told


class EngineConsidered(Told):
    """What one engine would have done for the call, in predicted seconds: the work before it, the part of its prompt
    that was not warm, its answer. `room` tells whether it could have begun at once."""

    engine: str
    queue_s: float
    prefill_s: float
    decode_s: float
    done_s: float
    prompt_tokens: int
    warm_tokens: int
    running: int
    room: bool


class RunDecision(Told):
    """An attempt of the node at `path` of a row was sent to `engine` after it had waited `waited_s`, and why.

    `engines` were considered; `considered` has the best of them, in the order in which they would have been done.
    `after` says how the attempt before failed.
    """

    seq: int
    at: str
    row: int
    path: str
    attempt: int
    engine: str
    reason: str
    waited_s: float
    engines: int
    considered: list[EngineConsidered]
    after: str = ""


class RunDoing(Told):
    """What a row does now, or why it waits. Its path is empty before it has begun."""

    row: int
    path: str
    attempt: int
    waits: bool
    why: str
    engine: str | None


class DecisionPage(Told):
    """In the order the decisions were made; `next_after` asks for those after the last.

    Of a run of many rows they are kept of every `every`-th row, and of calls that were tried again; 0 says that none
    are kept. `now` tells what the run's calls and tools do, and why what waits does, while it runs in the process that
    is asked.
    """

    decisions: list[RunDecision]
    next_after: int
    every: int
    now: list[RunDoing] = Field(default_factory=list)
