"""Old jobs are forgotten, so that a database does not grow for ever."""

from executor.clock import Clock
from executor.store.port import Store

#: A job that ended just now may still be read by who waits for it.
LEAST_AGE_S = 3600.0
#: Between two transactions: longer than a writer of SQLite sleeps before it tries again, so that none waits for all.
PAUSE_S = 0.15
#: In one transaction, which others wait for: so many jobs are forgotten, so many rows are deleted.
JOBS_AT_ONCE, ROWS_AT_ONCE = 500, 5_000


async def sweep(store: Store, older_than_s: float, clock: Clock) -> int:
    """How many jobs were forgotten of those that ended so long ago. What an earlier sweep left half done is ended."""
    assert older_than_s >= LEAST_AGE_S
    old = await store.forgettable(older_than_s)
    for first in range(0, len(old), JOBS_AT_ONCE):
        await store.forget(old[first : first + JOBS_AT_ONCE])
        await clock.sleep(PAUSE_S)
    while await store.erase(ROWS_AT_ONCE):
        await clock.sleep(PAUSE_S)
    return len(old)
