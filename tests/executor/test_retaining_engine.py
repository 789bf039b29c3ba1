"""The modelled engine under the plugin: the same programs with what `halo_vllm` keeps for them, and who waits."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from executor.engines.model.batch import Batch
from executor.engines.model.engine import EngineModel
from executor.engines.model.kept_pool import KeptPool
from executor.engines.model.profiles import PROFILES
from executor.engines.model.retaining import RetainingBatch
from halo_vllm.settings import Settings

PROFILE = replace(PROFILES["cpu"], kv_tokens=128 * 32, step_tokens=2048, chunked=True)
OTHERS = 6


def play(batch):
    """One program asks, waits a second for its tool, and asks again, while others come that fill the KV."""
    model = EngineModel(PROFILE, batch=batch)
    model.submit("one/0", 960, 8, 0.0, names("one", 40), said=said("one", 0))
    for other in range(OTHERS):
        model.submit(f"{other}/0", 960, 8, 0.1, names(f"{other}", 40), said=said(f"{other}", 1))
    finished = until(model, 1.5)
    model.submit("one/1", 1200, 8, 1.5, names("one", 40), said=said("one", 1))
    finished += until(model, 60.0)
    assert model.next_at() is None
    return {done.id: done for done in finished}


def names(program, blocks):
    return tuple(1000 * sum(map(ord, program)) + block for block in range(blocks))


def said(program, last):
    return {"session_id": program, "halo_tool": "look"} | ({"halo_last": 1} if last else {})


def until(model, at):
    finished = []
    while (due := model.next_at()) is not None and due <= at:
        finished += model.advance(due)
        model.check()
    return finished + model.advance(at)


def test_what_is_kept_for_a_program_outlasts_others_that_need_room():
    stock, kept = play(Batch(PROFILE, 64)), play(RetainingBatch(PROFILE, 64, Settings()))
    assert stock["one/1"].usage.cached_tokens == 0
    assert kept["one/1"].usage.cached_tokens >= 928
    assert len(kept) == len(stock) == OTHERS + 2


def test_new_programs_wait_until_they_fit_beside_those_that_run():
    kept = play(RetainingBatch(PROFILE, 64, Settings()))
    assert not any(done.preemptions for done in kept.values())
    assert max(done.queued_s for done in kept.values()) > 0


def test_a_held_call_can_be_cancelled():
    model = EngineModel(PROFILE, batch=RetainingBatch(PROFILE, 64, Settings()))
    for number in range(6):
        model.submit(number, 1800, 30, 0.0, names(f"{number}", 60), said=said(f"{number}", 1))
    until(model, 0.05)
    for number in reversed(range(6)):
        model.cancel(number, 0.05)
        model.check()
    until(model, 1.0)
    assert model.next_at() is None
    model.check()  # nothing runs, so no block is in use


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(0, 2)), max_size=40))
def test_kept_blocks_go_last_and_the_books_balance(steps):
    """Contexts of three programs come and go, and are kept or let go."""
    lost, held = [], []
    pool = KeptPool(8, lambda: iter(["0", "1", "2"]), lambda program, blocks: lost.append((program, blocks)))
    for action, count, program in steps:
        chain = [10 * program + block for block in range(5)]
        if action == 0 and held:
            shared, private, owner = held.pop(0)
            pool.keep(str(owner), shared)
            pool.release(shared, private)
        elif action == 1:
            pool.let_go(str(program))
        elif action == 2:
            pool.leave(str(program))
        elif action == 3:
            pool.give(str(program), count)
        else:
            hits = pool.hits(chain, count)
            if count - hits > pool.available - pool.idle_among(chain[:hits]):
                continue
            before, ordinary = pool.kept_blocks, pool.capacity - pool.used - pool.kept_blocks
            pool.share(chain[:hits])
            pool.take(count - hits)
            assert pool.kept_blocks == before or count > ordinary or hits
            shared = [*chain[:hits], *(name for name in chain[hits:count] if pool.publish(name))]
            held.append((shared, count - len(shared), program))
        pool.check()
