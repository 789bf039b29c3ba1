"""What is believed of an engine follows what it says: by KV events, and by what each answer had cached."""

from dataclasses import dataclass

from executor.core.engine_cache import EngineCache
from executor.core.fleet import Fleet
from executor.engines.port import EngineSpec, Usage
from executor.policy.routing import Choice, choose_engine
from kvstore.kv_events import AllCleared, BlocksRemoved, BlocksStored
from planner.ir.ids import EngineId

KV_TOKENS = 32 * 40


@dataclass(eq=False)
class Call:
    prefix: tuple[int, ...]
    output_tokens: int = 10
    own_kv_tokens: float = 0.0
    model: str = "m"
    engine: EngineId | None = None
    load_s: float = 0.0
    sent_at: float = 0.0
    beside: int = 0
    suspect: bool = False

    @property
    def prompt_tokens(self) -> int:
        return 32 * len(self.prefix) + 5


def engine(name: str, kv_tokens: int = KV_TOKENS) -> EngineSpec:
    return EngineSpec(EngineId(name), "vllm", ("m",), kv_tokens=kv_tokens, kv_events="tcp://host:5557")


def cache(kv_tokens: int = KV_TOKENS) -> EngineCache:
    """Of an engine whose tokens are as long as estimated, so that its blocks are ours."""
    made = EngineCache(engine("e", kv_tokens))
    made.learn(10**9, 10**9)
    return made


def names(start: int, count: int) -> tuple[int, ...]:
    return tuple(range(start, start + count))


def answer(cache: EngineCache, call: Call, cached_blocks: int, session: str = "p") -> None:
    cache.enter(call)
    cache.found(call, session, Usage(call.prompt_tokens, 10, 32 * cached_blocks))
    cache.leave(call)


def stored(first: int, count: int, session: str = "p") -> BlocksStored:
    return BlocksStored(names(first, count), None, 32, session)


def test_a_block_is_cold_as_soon_as_the_engine_says_that_it_is_gone() -> None:
    one, prompt = cache(), names(100, 10)
    one.told([stored(1, 10)])
    answer(one, Call(prompt), 0)
    assert one.match(prompt) == 10
    one.told([BlocksRemoved((10, 9, 8))])
    assert one.match(prompt) == 7
    one.told([AllCleared()])
    assert one.match(prompt) == 0


def test_what_it_says_may_come_after_the_answer() -> None:
    one, prompt = cache(), names(100, 10)
    answer(one, Call(prompt), 0)
    one.told([stored(1, 10)])
    one.told([BlocksRemoved((10,))])
    assert one.match(prompt) == 9


def test_an_engine_that_tells_may_hold_more_than_was_believed() -> None:
    told, estimated = cache(), cache()
    for start in range(100, 160, 10):
        told.told([stored(start, 10)])
        answer(told, Call(names(start, 10)), 0)
        answer(estimated, Call(names(start, 10)), 0)
    assert estimated.match(names(100, 10)) == 0
    assert told.match(names(100, 10)) == 10


def test_an_engine_that_does_not_say_for_whom_is_estimated_still() -> None:
    one = cache()
    for start in range(100, 160, 10):
        one.told([BlocksStored(names(start, 10), None, 32)])
        answer(one, Call(names(start, 10)), 0)
    assert one.match(names(100, 10)) == 0


def test_when_something_it_said_was_lost_all_that_was_idle_is_unknown() -> None:
    one = cache()
    one.told([stored(1, 10)])
    answer(one, Call(names(100, 10)), 0)
    one.untold()
    assert one.match(names(100, 10)) == 0
    answer(one, Call(names(100, 10)), 0)
    assert one.match(names(100, 10)) == 10  # estimated from here on


def test_an_answer_that_had_less_cached_than_was_believed_corrects_what_is_as_old() -> None:
    one, old, talk, young = cache(10**6), names(100, 10), names(200, 20), names(300, 10)
    for prompt in (old, talk, young):
        answer(one, Call(prompt), 0)
    answer(one, Call(names(900, 2)), 2)  # it does tell what it had
    answer(one, Call(talk), 3)
    assert (one.match(old), one.match(talk), one.match(young)) == (0, 20, 10)


def test_an_engine_that_never_tells_what_it_had_cached_corrects_nothing() -> None:
    one, talk = cache(10**6), names(200, 20)
    answer(one, Call(names(100, 10)), 0)
    answer(one, Call(talk), 0)
    answer(one, Call(talk), 0)
    assert one.match(names(100, 10)) == 10


def test_a_call_goes_back_to_its_engine_only_while_the_engine_says_that_its_kv_is_there() -> None:
    fleet = Fleet[Call]([engine("a"), engine("b")], breaker_failures=3)
    prompt = names(100, 30)

    def chosen() -> EngineId:
        choice = choose_engine(fleet.offers(Call(prompt), fleet.serving("m")))
        assert choice is not None
        return choice.engine

    call = Call(prompt)
    fleet.enter(call, Choice(EngineId("b"), 1.0, ""), now=0.0)
    fleet.learn(call, "p", Usage(call.prompt_tokens, 10), now=1.0)
    fleet.leave(call)
    fleet.caches[EngineId("b")].told([stored(1, 30)])
    assert chosen() == "b"
    fleet.caches[EngineId("b")].told([BlocksRemoved(names(1, 30))])
    assert chosen() == "a"
