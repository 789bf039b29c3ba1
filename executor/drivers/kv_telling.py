"""Passes on what engines say of their KV caches."""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from urllib.parse import unquote

from executor.engines.port import EngineSpec
from executor.events import CacheTold, CacheUntold
from kvstore.kv_events import BlocksStored, KvBatch, KvEvent


def follow_kv_events(
    engines: Iterable[EngineSpec],
    now: Callable[[], float],
    post: Callable[[CacheTold | CacheUntold], None],
    spawn: Callable[[Coroutine[None, None, None]], None],
) -> None:
    """Follows each engine that publishes KV events, for as long as the spawned tasks run."""
    for spec in engines:
        if spec.kv_events:
            spawn(_follow(spec, now, post))


async def _follow(spec: EngineSpec, now: Callable[[], float], post: Callable[[CacheTold | CacheUntold], None]) -> None:
    from kvstore.kv_stream import KvStream  # of the extra `kv-events`

    def told(batch: KvBatch) -> None:
        if batch.events:
            post(CacheTold(now(), spec.id, tuple(map(_of_program, batch.events))))

    def lost() -> None:
        post(CacheUntold(now(), spec.id))

    async with KvStream(spec.kv_events, spec.kv_replay, told, lost) as stream:
        await stream.run()


def _of_program(event: KvEvent) -> KvEvent:
    """Engines know programs as headers can hold their ids."""
    if isinstance(event, BlocksStored) and event.session is not None:
        return replace(event, session=unquote(event.session))
    return event
