"""A run: what is asked for, how it stands, what happened in it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from executor.commands import Status
from halo.service.schemas.base import Row, Told
from halo.service.schemas.plans import PlanSource

PRIORITIES = {"interactive": -100, "standard": 0, "batch": 100, "background": 200}
Priority = (
    Annotated[int, Field(ge=-1000, le=1000, strict=True)] | Literal["interactive", "standard", "batch", "background"]
)
Slo = Literal["interactive", "standard", "batch", "background"]
OnLate = Literal["reject", "degrade", "accept"]
MOST_DEADLINE_S = 30 * 24 * 3600.0


class RunRequest(PlanSource):
    """One program to run. Lower priority numbers go first among runs of a class.

    One that cannot meet its deadline is told so with 503 where `on_late` is `reject`; with `degrade` it is taken as of
    the next less urgent class, with `accept` as it is.
    """

    input: Annotated[Row, Field(description="one value for each input of the plan")] = Field(default_factory=dict)
    priority: Priority = "standard"
    metadata: Annotated[Row, Field(description="kept with the run and given back")] = Field(default_factory=dict)
    cache: Annotated[bool, Field(description="whether results of earlier runs may be used, and this one's kept")] = True
    slo: Annotated[Slo | None, Field(description="how urgent it is; without it, as its priority is called")] = None
    deadline_s: Annotated[
        float | None, Field(gt=0, le=MOST_DEADLINE_S, description="when it should be done, in seconds from acceptance")
    ] = None
    on_late: Annotated[OnLate, Field(description="what becomes of it when it cannot meet its deadline")] = "accept"


class Links(Told):
    run: str
    wait: str
    events: str
    cancel: str


class RunAccepted(Told):
    """The run is stored and will be done. The same idempotency key gets the same answer."""

    id: str
    workflow: str
    status: Literal["queued"] = "queued"
    created_at: str
    links: Links


class RunError(Told):
    """Why a run failed. `code` is stable, `message` is for people."""

    code: str
    message: str
    kind: str


class Doing(Told):
    """What a running program does right now. `since` is in seconds since 1970."""

    program: str
    node: str
    doing: str
    since: float
    engine: str | None
    turns: int
    attained_tokens: int


class RunDeadline(Told):
    """When the run should be done, in seconds from its acceptance; once it has ended, what it took and whether it met
    that. `left_s` is what was left, below 0 where it was missed."""

    deadline_s: float
    took_s: float | None = None
    met: bool | None = None
    left_s: float | None = None


class RunSummary(Told):
    """A run as it stands. `counts` has its programs by status; times are UTC."""

    id: str
    workflow: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    priority: int
    rows: int
    counts: dict[str, int]
    metadata: Row
    created_at: str
    started_at: str | None
    ended_at: str | None
    cancel_requested: bool
    slo: str
    deadline: RunDeadline | None
    links: Links


class Run(RunSummary):
    """`result` is there when the run succeeded, `error` when it failed, `live` while it runs; `usage` is what it took
    so far, and what sharing saved it.

    A run of several rows, which the batch runner made, tells only its counts: its results are at `/rows`.
    """

    result: Any = None
    error: RunError | None = None
    live: list[Doing] = Field(default_factory=list)
    usage: dict[str, int] = Field(default_factory=dict)


class RunPage(Told):
    """Newest first. `next_cursor` asks for the page after this one; it is null on the last."""

    runs: list[RunSummary]
    next_cursor: str | None


class RunRow(Told):
    """What became of one row. `result` is there when it succeeded, `error` when it failed."""

    row: int
    status: Status | Literal["pending"]
    result: Any = None
    error: RunError | None = None


class RowPage(Told):
    """In the order of the rows; `next_after` asks for those after the last. With no rows in it, there are no more."""

    rows: list[RunRow]
    next_after: int


class RunEvent(Told):
    """`seq` grows with every event; ask for those after the last you have."""

    seq: int
    kind: str
    at: str
    row: int | None
    detail: Any = None


class EventPage(Told):
    events: list[RunEvent]
    next_after: int
