"""Why a run's calls went where they went: read from a database, from a batch's folder, or asked of a server."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from executor.drivers.reasons import MOST_PROGRAMS, every
from executor.store.port import Store
from executor.store.told import StoredDecision
from halo.analysis import require_batch, require_file
from halo.batch.errors import FolderRefused
from halo.batch.folder import DATABASE
from halo.sdk.client import RunHandle, server_url
from halo.service import views
from halo.service.schemas.decisions import RunDecision, RunDoing
from halo.wiring import open_any_store
from planner.ir.ids import JobId

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """Of which calls of a run: all, those of a `row`, those at the path `node`; of no more than `limit`."""

    run: str
    row: int | None = None
    node: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Why:
    """`more` says that there are more decisions than were asked for. They are kept of every `every`-th row. `now` is
    what the run does, where a server was asked that runs it."""

    run: str
    decisions: Sequence[RunDecision]
    more: bool = False
    every: int = 1
    now: Sequence[RunDoing] = field(default_factory=tuple)


def why_on_server(asked: Asked, url: str | None) -> Why:
    """Raises `ServerFailed`."""
    handle = RunHandle(asked.run, server_url(url))
    found = [
        RunDecision.model_validate(one) for one in islice(handle.decisions(asked.node, asked.row), asked.limit + 1)
    ]
    now = [RunDoing.model_validate(one) for one in handle.doing_now()]
    rows = handle.details().get("rows")
    return _why(asked, found, rows if isinstance(rows, int) else 1, [one for one in now if _is_asked(one, asked)])


async def why_in_folder(asked: Asked, folder: Path) -> Why:
    """Of the batch in an output folder. Raises `FolderRefused` where there is none."""
    require_batch(folder)
    store = await open_any_store(f"sqlite:///{folder / DATABASE}")
    try:
        records = await store.jobs(limit=1)
        if not records:
            raise FolderRefused(f"{folder} holds a batch that was never accepted: run it again")
        return await _stored(asked, store, records[0].id)
    finally:
        await store.close()


async def why_stored(asked: Asked, database_url: str) -> Why:
    """Raises `JobUnknown`, `StoreRefused` or `StoreUnavailable`."""
    require_file(database_url)
    store = await open_any_store(database_url)
    try:
        return await _stored(asked, store, JobId(asked.run))
    finally:
        await store.close()


async def _stored(asked: Asked, store: Store, job: JobId) -> Why:
    record = await store.job(job)
    found = [views.decision(one) async for one in _decisions(asked, store, job)]
    return _why(asked, found, record.rows)


async def _decisions(asked: Asked, store: Store, job: JobId) -> AsyncIterator[StoredDecision]:
    """One more than was asked for, where there is one."""
    after, left = 0, asked.limit + 1
    while page := await store.decisions(job, after, min(left, _PAGE), asked.row, asked.node):
        for one in page:
            yield one
        after, left = page[-1].seq, left - len(page)
        if not left:
            return


def _why(asked: Asked, found: Sequence[RunDecision], rows: int, now: Sequence[RunDoing] = ()) -> Why:
    more = len(found) > asked.limit
    return Why(asked.run, found[: asked.limit], more, every(rows, MOST_PROGRAMS), now)


def _is_asked(one: RunDoing, asked: Asked) -> bool:
    return asked.row in (None, one.row) and asked.node in (None, one.path)
