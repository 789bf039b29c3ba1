"""A run's events as they happen, in the wire form of server-sent events."""

from collections.abc import AsyncIterator

from fastapi.sse import format_sse_event

from executor.store.failures import StoreUnavailable
from executor.store.jobs import JobRecord
from executor.store.told import StoredEvent
from halo.event_loop import wait_for
from halo.service import views
from halo.service.parts import Parts

LOOK_S = 0.5
PAGE = 500
#: Proxies cut connections that say nothing for long.
COMMENT_EVERY_S = 15.0
END = frozenset({"job.succeeded", "job.failed", "job.cancelled"})


async def event_stream(parts: Parts, run: JobRecord, after: int) -> AsyncIterator[bytes]:
    """Ends after the run's last event, when the service goes down, or when the store fails: the client asks again."""
    over, said_at = run.status.ended, parts.clock.now()
    while not parts.endings.closed:
        try:
            events = await parts.store.events(run.id, after, PAGE)
        except StoreUnavailable:
            return
        for stored in events:
            yield _written(stored)
            after, said_at = stored.seq, parts.clock.now()
            over = over or stored.kind in END
        if len(events) == PAGE:
            continue
        if over:
            return
        if parts.clock.now() - said_at > COMMENT_EVERY_S:
            yield format_sse_event(comment="still here")
            said_at = parts.clock.now()
        with parts.endings.watch(run.id) as ended:
            await wait_for(ended, LOOK_S)


def _written(stored: StoredEvent) -> bytes:
    told = views.event(stored)
    return format_sse_event(data_str=told.model_dump_json(), event=told.kind, id=str(told.seq))
