"""Old jobs are forgotten, so that a database does not grow for ever."""

from executor.clock import Clock
from executor.store.port import Store

#: A job that ended just now may still be read by who waits for it.
LEAST_AGE_S = 3600.0
#: Between two pieces: longer than a writer of SQLite sleeps before it tries again, so that none waits for all of them.
PAUSE_S = 0.15


async def sweep(store: Store, older_than_s: float, clock: Clock) -> int:
    """How many jobs were forgotten of those that ended so long ago."""
    assert older_than_s >= LEAST_AGE_S
    old = await store.forgettable(older_than_s)
    for job in old:
        while await store.forget(job):
            await clock.sleep(PAUSE_S)
    return len(old)
