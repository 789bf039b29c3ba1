"""What the core believes of each engine."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import log2
from typing import Generic, NamedTuple, Protocol, TypeVar

from executor.core.engine_cache import CachedCall, EngineCache
from executor.core.pools import Pools
from executor.core.serving import Serving
from executor.core.stage_means import StageMean
from executor.core.tiers import Tiers
from executor.engines.port import EngineSpec, Failure, FailureClass, Usage
from executor.policy.giving_way import is_slow
from executor.policy.retry import may_be_the_calls
from executor.policy.routing import Choice, EngineView, Offer, has_room
from executor.prompt_blocks import BLOCK_TOKENS
from kvstore.block_holders import BlockHolders
from kvstore.prefix_index import BlockName
from planner.cost.correction import Correction
from planner.cost.load import RUNNING, rates_beside
from planner.cost.rates import LoadRates
from planner.ir.ids import EngineId, ProgramId

#: A retry after an engine's fault costs one token; each fresh call earns a tenth (retries stay within 10 % of calls).
RETRY_EARNED = 0.1
RETRY_TOKENS = 200.0
LONGEST_TRIP_S = 30.0


class SentCall(CachedCall, Protocol):
    """What the fleet asks of a call, and writes down with it while it is inside an engine. Those of its `pool` may take
    it; a suspect runs alone."""

    engine: EngineId | None
    pool: str
    load_s: float
    sent_at: float
    beside: int

    @property
    def model(self) -> str: ...

    @property
    def suspect(self) -> bool: ...


CallT = TypeVar("CallT", bound=SentCall)


class KnownLoad(NamedTuple):
    """What a call takes of an engine, as long as the engine's cache has seen no more `changes`."""

    changes: int
    output_tokens: float
    load_s: float


class Fleet(Generic[CallT]):
    """Engines by id, and the calls inside each in the order they were sent."""

    def __init__(self, engines: Sequence[EngineSpec], breaker_failures: int) -> None:
        self.views = {spec.id: EngineView(spec) for spec in engines}
        self._holders = BlockHolders() if len(engines) > 1 else None
        self.caches = {spec.id: EngineCache(spec, self._holders) for spec in engines}
        self.tiers = Tiers(engines)
        self._tiered = bool(self.tiers)
        self.corrections = {spec.id: Correction() for spec in engines}
        self.pools = Pools(engines)
        self._serving = {
            pool: Serving([self.views[engine] for engine in members]) for pool, members in self.pools.engines.items()
        }
        self.sharing = self.pools.sharing()
        self._pools_of = self.pools.with_engine()
        self._serving_of = {spec.id: [self._serving[pool] for pool in self.pools_of(spec.id)] for spec in engines}
        self._rates: dict[tuple[EngineId, str, int], LoadRates] = {}
        self.inside: dict[EngineId, dict[CallT, None]] = {spec.id: {} for spec in engines}
        self._breaker_failures = breaker_failures
        self._blamed_by: dict[EngineId, set[ProgramId]] = {spec.id: set() for spec in engines}
        self.changes = 0  # of any view
        self._retry_tokens = RETRY_TOKENS
        assert len(self.views) == len(engines), "two engines with one id"

    def pool_of(self, model: str, tenant: str) -> str:
        """The name of the engines that may take the tenant's calls to the model."""
        return self.pools.of(model, tenant)

    def pools_of(self, engine: EngineId) -> Sequence[str]:
        """Those that it is in."""
        return self._pools_of.get(engine, ())

    def knows(self, pool: str) -> bool:
        """Whether any engine is of it."""
        return pool in self._serving

    def serves(self, pool: str) -> bool:
        return bool(self.serving(pool))

    def serving(self, pool: str) -> list[EngineView]:
        """The engines of the pool that answer and take calls."""
        found = self._serving.get(pool)
        return found.up() if found else []

    def all_up(self, engines: Iterable[EngineId]) -> bool:
        return all(self.views[engine].takes_calls for engine in engines)

    def with_room(self, pool: str) -> list[EngineView]:
        """Those that have room for one more call, the least loaded first."""
        found = self._serving.get(pool)
        return found.with_room() if found else []

    def takes(self, pool: str, engine: EngineId) -> bool:
        """Whether it is one of those `with_room`."""
        return self._serving[pool].has_room(engine)

    def is_slow(self, engine: EngineId, pool: str) -> bool:
        """Beside the median engine of the pool that takes calls."""
        view = self.views[engine]
        return view.up and is_slow(view.slowness, self._serving[pool].usual_slowness)

    def offers(self, work: CallT, views: Sequence[EngineView]) -> list[Offer]:
        model = work.model
        return [self._offer(work, model, view) for view in views]

    def shares(
        self, work: CallT, views: Sequence[EngineView], output_tokens: float, inside_share: float
    ) -> list[Offer]:
        """As `offers`, of engines as full of calls like this one as their KV and their slots allow: so much of the
        engine the call takes from others."""
        return [self._share(work, view, output_tokens, inside_share) for view in views]

    def step_s(self, engine: EngineId, model: str, running: int, tokens: float) -> float:
        """A step in which so many calls, of so many tokens in all, write; 0 where nobody does."""
        return self._rates_of(engine, model, running).step_s(running, tokens) if running else 0.0

    def load_s(self, work: CallT, engine: EngineId, output_tokens: float, known: dict[EngineId, KnownLoad]) -> float:
        """As the `load_s` of `shares`. What is `known` of the call is kept while little changes."""
        changes, found = self.caches[engine].changes if work.prefix else 0, known.get(engine)
        if found is None or found.changes != changes or not 0.9 < found.output_tokens / output_tokens < 1.1:
            load_s = self._share(work, self.views[engine], output_tokens, 1.0).load_s
            found = known[engine] = KnownLoad(changes, output_tokens, load_s)
        return found.load_s

    def long_enough(self, work: CallT, output_tokens: int, engines: Sequence[EngineId]) -> Sequence[EngineId]:
        """Those whose context the prompt and so long an answer fit into; all where there is none: one has to say so."""
        scaled = ((engine, work.prompt_tokens * self.caches[engine].scale + output_tokens) for engine in engines)
        return [one for one, tokens in scaled if tokens <= self.views[one].spec.context_tokens] or engines

    def not_begun(self, engine: EngineId) -> list[CallT]:
        """The calls inside that surely wait there for KV, where its room is known: those sent last, the last one first.
        What calls share is not looked at, so there may be more."""
        cache = self.caches[engine]
        spare = cache.in_flight_tokens - cache.kv_tokens if cache.kv_tokens else 0.0
        waiting: list[CallT] = []
        for work in reversed(self.inside[engine]):
            if spare <= 0:
                break
            spare -= work.own_kv_tokens + len(work.prefix) * BLOCK_TOKENS * cache.scale
            waiting.append(work)
        return waiting

    def kinds(self, pool: str) -> list[list[EngineView]]:
        """The engines of the pool that take calls, those together that are as fast and as large."""
        found: dict[tuple[object, ...], list[EngineView]] = {}
        for view in self.serving(pool):
            spec = view.spec
            like = (spec.gpu, spec.tensor_parallel, spec.profile, spec.max_running, self.caches[spec.id].kv_tokens)
            found.setdefault(like, []).append(view)
        return list(found.values())

    def mean_load_s(self, engine: EngineId, model: str, mean: StageMean) -> float:
        """What a call of a stage takes of the engine's time where it is as full as can be."""
        tokens = mean.prompt_tokens + mean.output_tokens
        running = self.caches[engine].places(tokens, self.views[engine].spec.max_running)
        rates = self._rates_of(engine, model, running)
        return rates.seconds(mean.prompt_tokens, mean.output_tokens, mean.cached_tokens)

    def alone_s(self, engine: EngineId, model: str, mean: StageMean) -> float:
        """What a call of a stage takes on the engine with nothing beside it, and nothing warm."""
        return self._rates_of(engine, model, 1).seconds(mean.prompt_tokens, mean.output_tokens)

    def warmer_elsewhere(self, engine: EngineId, pool: str, blocks: Sequence[BlockName], warm: int) -> bool:
        """Whether another engine has more than the `warm` leading blocks of a prompt that this one has."""
        if self._holders is None or warm == len(blocks):
            return False
        block = blocks[warm]
        return any(
            other != engine and self._takes_calls(EngineId(other), pool) and self.caches[EngineId(other)].warm(block)
            for other in self._holders.of(block)
        )

    def _takes_calls(self, engine: EngineId, pool: str) -> bool:
        return pool in self._serving and self._serving[pool].takes_calls(engine)

    def enter(self, work: CallT, choice: Choice, now: float) -> None:
        view = self.views[choice.engine]
        work.engine, work.load_s = choice.engine, choice.load_s
        self.inside[choice.engine][work] = None
        self.caches[choice.engine].enter(work)
        work.sent_at, work.beside = now, view.running + 1
        load_s = view.load_s + work.load_s
        self._put(_loaded(view, view.running + 1, load_s, view.slowness, exclusive=work.suspect))
        self._retry_tokens = min(RETRY_TOKENS, self._retry_tokens + RETRY_EARNED)

    def leave(self, work: CallT) -> EngineView:
        assert work.engine is not None
        engine, view = work.engine, self.views[work.engine]
        del self.inside[engine][work]
        self.caches[engine].leave(work)
        load_s = view.load_s - work.load_s if view.running > 1 else 0.0
        slowness = self.corrections[engine].factor
        work.engine = None
        return self._put(_loaded(view, view.running - 1, load_s, slowness))

    def learn(self, work: CallT, session: str, usage: Usage, now: float) -> None:
        """The engine, which knew the call's program as `session`, counted the tokens of the call, and the call is done.
        Its view shows it once the call left."""
        assert work.engine is not None
        self.caches[work.engine].found(work, session, usage)
        self.tiers.keep(work.engine, work.prefix)
        if usage.prompt_tokens and work.prompt_tokens:
            self.caches[work.engine].learn(work.prompt_tokens, usage.prompt_tokens)
        if now > work.sent_at and usage.prompt_tokens:
            self._correct(work.engine, work.model, work, usage, now - work.sent_at)

    def _correct(self, engine: EngineId, model: str, work: CallT, usage: Usage, actual_s: float) -> None:
        """The call shared the engine with those that were there when it came and when it ends: so much longer than its
        share of the engine's time it lasts."""
        beside = (work.beside + self.views[engine].running) / 2
        rates = self._rates_of(engine, model, 2 ** round(log2(beside)))
        share_s = rates.seconds(usage.prompt_tokens, usage.output_tokens, usage.cached_tokens)
        profile = self.views[engine].spec.profile
        predicted_s = beside * share_s + (profile.round_trip_s if profile else 0.0)
        self.corrections[engine] = self.corrections[engine].after(predicted_s, actual_s)

    def took_s(self, work: CallT, usage: Usage) -> float:
        """The seconds of its engine's time that the call's tokens come to, in the measure of what it was sent for."""
        assert work.engine is not None
        rates = self._rates_of(work.engine, work.model)
        return rates.seconds(usage.prompt_tokens, usage.output_tokens, usage.cached_tokens)

    def gives(self, view: EngineView) -> float:
        """The seconds that calls count as which a full engine does in one. With few places it reads its weights for few
        at a time."""
        model, places = view.spec.models[0], min(view.spec.max_running, RUNNING)
        full, measure = self._rates_of(view.spec.id, model, places), self._rates_of(view.spec.id, model)
        return measure.output_token_s / full.output_token_s / view.slowness

    def answered(self, view: EngineView) -> None:
        if view.failures or view.trips:
            self._blamed_by[view.spec.id].clear()
            self._put(replace(view, failures=0, trips=0))

    def failed(self, view: EngineView, failure: Failure, program: ProgramId) -> bool:
        """Note that the engine failed a call of the program; True when it should now be taken out until it answers a
        probe. What the call itself may have brought about counts once for a program, however often it is tried."""
        if not view.up or failure.failure_class not in (FailureClass.ENGINE, FailureClass.ENGINE_DIED):
            return False
        if may_be_the_calls(failure):
            if program in self._blamed_by[view.spec.id]:
                return False
            self._blamed_by[view.spec.id].add(program)
        failures = view.failures + 1
        self._put(replace(view, failures=failures))
        died = failure.failure_class is FailureClass.ENGINE_DIED or failure.code == "refused"
        return died or failures >= self._breaker_failures

    def down(self, engine: EngineId) -> None:
        view = self.views[engine]
        self._put(replace(view, up=False, trips=view.trips + 1))

    def back(self, engine: EngineId, kv_tokens: int | None) -> None:
        self.caches[engine].start_anew(kv_tokens)
        self._blamed_by[engine].clear()
        self._put(replace(self.views[engine], up=True, failures=0))

    def drain(self, engine: EngineId, *, draining: bool) -> None:
        """From now on it takes no calls, or takes them again."""
        self._put(replace(self.views[engine], draining=draining))

    def leave_room(self, engine: EngineId, for_others: int, kv_for_others: float) -> None:
        """So many of its places, and that part of its KV, are for calls that are not sent from here."""
        self.caches[engine].leave_room(kv_for_others)
        self._put(replace(self.views[engine], for_others=for_others))

    def running(self) -> dict[EngineId, int]:
        """How many calls are inside each engine."""
        return {engine: view.running for engine, view in self.views.items()}

    def full(self, engines: Iterable[EngineId]) -> set[EngineId]:
        """Those of them that take calls and have no place left."""
        return {engine for engine in engines if self.views[engine].takes_calls and not has_room(self.views[engine])}

    def reading_s(self, engine: EngineId, model: str, tokens: int) -> float:
        """What it takes to read so many tokens in short prompts."""
        return self._rates_of(engine, model).prompt_token_s * tokens

    def probe_delay_s(self, engine: EngineId) -> float:
        """Longer after each trip without an answer in between, so that a sick engine is not hammered."""
        return float(min(LONGEST_TRIP_S, 0.5 * 2 ** (self.views[engine].trips - 1)))

    def spend_retry(self) -> bool:
        """Whether the retry budget allows one more now."""
        if self._retry_tokens < 1:
            return False
        self._retry_tokens -= 1
        return True

    def _offer(self, work: CallT, model: str, view: EngineView) -> Offer:
        engine = view.spec.id
        cache = self.caches[engine]
        warm_tokens = cache.warm_tokens(work) if work.prefix else 0
        prompt_tokens = round(work.prompt_tokens * cache.scale)
        loaded = self._loaded_tokens(work, engine, warm_tokens) if self._tiered else 0
        rates = self._rates_of(engine, model)
        prefill_s, decode_s = rates.parts(prompt_tokens, work.output_tokens, warm_tokens + loaded)
        if loaded:
            prefill_s += self.tiers.load_s(engine, loaded)
        has_kv = cache.fits(work) and not cache.comes_warm(work.prefix)
        return Offer(view, prefill_s + decode_s, prompt_tokens, warm_tokens, has_kv, prefill_s, loaded)

    def _share(self, work: CallT, view: EngineView, output_tokens: float, inside_share: float) -> Offer:
        cache, engine = self.caches[view.spec.id], view.spec.id
        warm_tokens = cache.warm_tokens(work) if work.prefix else 0
        prompt_tokens = round(work.prompt_tokens * cache.scale)
        running = cache.places(prompt_tokens + output_tokens, view.spec.max_running)
        loaded = self._loaded_tokens(work, engine, warm_tokens) if self.tiers else 0
        prefill_s, decode_s = self._rates_of(engine, work.model, running).parts(
            prompt_tokens, output_tokens, warm_tokens + loaded
        )
        prefill_s += self.tiers.load_s(engine, loaded)
        has_kv = cache.fits(work, inside_share) and not cache.comes_warm(work.prefix)
        return Offer(view, prefill_s + decode_s, prompt_tokens, warm_tokens, has_kv, prefill_s, loaded)

    def _loaded_tokens(self, work: CallT, engine: EngineId, warm_tokens: int) -> int:
        """What of the prompt the engine has not, and would find in its tier."""
        kept = self.tiers.match(engine, work.prefix) * BLOCK_TOKENS
        within = min(kept, max(0, work.prompt_tokens - 1)) * self.caches[engine].scale
        return max(0, int(within) - warm_tokens)

    def _rates_of(self, engine: EngineId, model: str, running: int = RUNNING) -> LoadRates:
        rates = self._rates.get((engine, model, running))
        if rates is None:
            spec = self.views[engine].spec
            base = spec.base_of(model)
            served = spec.served_names.get(base, base)
            rates = rates_beside(spec.gpu, served, running, spec.tensor_parallel, spec.profile)
            self._rates[engine, model, running] = rates
        return rates

    def _put(self, view: EngineView) -> EngineView:
        self.changes += 1
        self.views[view.spec.id] = view
        for serving in self._serving_of[view.spec.id]:
            serving.put(view)
        return view


def _loaded(view: EngineView, running: int, load_s: float, slowness: float, *, exclusive: bool = False) -> EngineView:
    """`replace`, in a third of the time: it is done twice for every call."""
    failures, trips, for_others, draining = view.failures, view.trips, view.for_others, view.draining
    return EngineView(view.spec, view.up, running, load_s, exclusive, failures, trips, slowness, for_others, draining)
