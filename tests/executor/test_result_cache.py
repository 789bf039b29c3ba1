"""What every body of the result cache promises."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor.store.result_cache import ROW_BYTES, CacheBounds, CachedResult, CacheSize, ResultCache
from executor.store.writes import Work
from tests.executor.store_bodies import POSTGRES, Stores, fresh_stores, store_url

ROOM = CacheBounds()


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return store_url(request, tmp_path)


@pytest.fixture
async def stores(url: str | None) -> AsyncIterator[Stores]:
    async with fresh_stores(url) as stores:
        yield stores


@pytest.fixture
async def cache(stores: Stores) -> ResultCache:
    return (await stores.open()).result_cache


def result(name: str, output: str = '"yes"', tenant: str = "default") -> CachedResult:
    return CachedResult(name, tenant, "small", output, Work(1, 0, 100, 7))


async def test_what_is_kept_is_found_by_whoever_comes_later(stores: Stores) -> None:
    await (await stores.open()).result_cache.keep([result("a"), result("b", '"gr\u00fcn \\u0000"', "acme")])

    later = (await stores.open()).result_cache

    assert await later.find(["b", "nobody", "a"]) == {"a": result("a"), "b": result("b", '"gr\u00fcn \\u0000"', "acme")}
    assert list((await later.names()).names) == ["a", "b"]
    assert await later.find([]) == {}


async def test_texts_that_databases_do_not_like_come_back_as_they_went(cache: ResultCache) -> None:
    awkward = [result(str(place), text) for place, text in enumerate(["\x00", "\ud800", "\x01", ""])]
    await cache.keep(awkward)
    assert await cache.find([one.name for one in awkward]) == {one.name: one for one in awkward}


async def test_only_the_names_that_came_since_are_told_again(cache: ResultCache) -> None:
    await cache.keep([result("a"), result("b")])
    first = await cache.names()
    await cache.keep([result("c"), result("a")])

    since = await cache.names(first.last)

    assert list(since.names) == ["c"]
    assert list((await cache.names(since.last)).names) == []


async def test_what_is_kept_first_stays(cache: ResultCache) -> None:
    await cache.keep([result("a", '"first"')])
    await cache.keep([result("a", '"second"'), result("a", '"third"')])
    assert (await cache.find(["a"]))["a"].output == '"first"'
    assert (await cache.trim(ROOM)).entries == 1


async def test_what_was_not_used_for_longest_is_forgotten_first(cache: ResultCache) -> None:
    for name in "abcdefghij":
        await cache.keep([result(name)])
        await asyncio.sleep(0.005)
    await cache.keep([], used=["a", "a", "nobody"])

    assert await cache.trim(CacheBounds(entries=10)) == CacheSize(10, 10 * (5 + ROW_BYTES))
    assert (await cache.trim(CacheBounds(entries=5))).entries == 4
    assert sorted((await cache.names()).names) == ["a", "h", "i", "j"]


async def test_the_bound_is_one_of_bytes_too(cache: ResultCache) -> None:
    for place in range(10):
        await cache.keep([result(str(place), "x" * 1000)])
    bounds = CacheBounds(bytes=5 * (1000 + ROW_BYTES))
    assert (await cache.trim(bounds)).entries == 4
    assert await cache.trim(bounds) == CacheSize(4, 4 * (1000 + ROW_BYTES))


async def test_one_tenants_results_can_be_forgotten_and_then_all(cache: ResultCache) -> None:
    await cache.keep([result("a"), result("b", tenant="acme"), result("c", tenant="acme")])
    assert await cache.forget("acme") == 2
    assert list((await cache.names()).names) == ["a"]
    assert await cache.forget() == 1


async def test_many_may_keep_the_same_at_once(stores: Stores) -> None:
    doors = [(await stores.open()).result_cache for _ in range(3)]
    await asyncio.gather(*(door.keep([result(str(place)) for place in range(50)]) for door in doors))
    assert (await doors[0].trim(ROOM)).entries == 50


async def test_more_names_than_one_statement_takes(cache: ResultCache) -> None:
    await cache.keep([result(f"{place:04}") for place in range(1200)])
    assert len(await cache.find([f"{place:04}" for place in range(0, 1200, 2)])) == 600
