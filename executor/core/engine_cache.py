"""What is believed of one engine's KV cache: what is warm, what the calls in flight take, and what room is left."""

from collections.abc import Iterable, Sequence
from math import ceil, log2
from typing import Protocol

from executor.engines.port import EngineSpec, Usage
from executor.policy.kv_peak import Holding, peak_tokens
from executor.prompt_blocks import BLOCK_TOKENS
from kvstore.block_holders import BlockHolders
from kvstore.engine_blocks import EngineBlocks
from kvstore.kv_events import KvEvent
from kvstore.prefix_index import BlockName, PrefixIndex
from planner.ir.tokens import CHARS_PER_TOKEN

#: The room of an engine that does not tell.
ASSUMED_KV_TOKENS = 400_000
#: What of the KV may be taken before what is warm must give way: answers grow, and estimates err.
KV_SHARE = 0.9
#: What the calls inside may take together, in KVs: those that do not fit wait in the engine, so that no step is short
#: for want of a call that is on its way. More would only take away their order.
INSIDE_SHARE = 1.8
#: A call waits for one that computes its beginning where that is at least so many blocks more than are there.
WORTH_WAITING_BLOCKS = 4
#: How far estimates are believed before the engine counted any prompt, and how soon old counts are forgotten.
PRIOR_TOKENS = 1_000.0
REMEMBERED_TOKENS = 200_000.0
#: An engine that has so many blocks fewer than was believed has lost more than estimates of lengths explain.
SURELY_GONE_BLOCKS = 4
#: Where the engine tells what goes, our own count of its room must not be what ends a block.
ROOM_WHERE_TOLD = 2
#: By how much the tokens of a block must change before the room is counted anew.
WORTH_RESIZING = 0.02


class CachedCall(Protocol):
    """What the cache asks of a call, and writes down with it: `prefix` names the full blocks of its prompt, and
    `own_kv_tokens` is what it takes beside them while it is in the engine."""

    prefix: tuple[BlockName, ...]
    prompt_tokens: int
    output_tokens: int
    own_kv_tokens: float


class Watcher(Protocol):
    def warmed(self) -> None:
        """The block became warm. Whoever wants to hear of another must say so again."""


class EngineCache:
    """Counts in the engine's own tokens: estimates, times what its counts so far were to their estimates. The `holders`
    are told which blocks it has."""

    def __init__(self, spec: EngineSpec, holders: BlockHolders | None = None) -> None:
        profile = spec.profile
        self._told = spec.kv_tokens > 0
        self.kv_tokens = spec.kv_tokens or (profile.kv_tokens if profile else 0)
        self.warm_first = spec.warm_first
        self._estimated = PRIOR_TOKENS
        self._counted = PRIOR_TOKENS * CHARS_PER_TOKEN / (profile.chars_per_token if profile else CHARS_PER_TOKEN)
        #: The engine's tokens for each estimated one.
        self.scale = self._counted / self._estimated
        self._inside = 0
        self.changes = 0  # of what is warm
        self._own_tokens = 0.0  # of the calls inside, beside the full blocks of their prompts
        self._for_others = 0.0  # that part of the KV
        self._watchers: dict[BlockName, dict[Watcher, None]] = {}
        self._blocks = EngineBlocks()
        self._publishes = bool(spec.kv_events)
        self._tells_blocks = False  # by KV events, as far as they came without a gap
        self._tells_cached = False  # in its answers
        self._index = PrefixIndex(self._capacity(), shares_in_flight=not spec.warm_first, holders=holders, name=spec.id)

    @property
    def in_flight_tokens(self) -> float:
        """What the calls inside take, with the answers expected of them; what they share counts once."""
        return self._index.used * self._block_tokens + self._own_tokens

    @property
    def blocks_in_flight(self) -> int:
        """Different blocks of the calls inside."""
        return self._index.used

    @property
    def in_flight_blocks(self) -> float:
        """What the calls inside take, with the answers expected of them, in blocks."""
        return self.in_flight_tokens / self._block_tokens

    @property
    def room_blocks(self) -> int:
        """How many blocks the KV holds; 0 is not known."""
        return int(self.kv_tokens / self._block_tokens)

    @property
    def others_blocks(self) -> int:
        """What is for calls that are not counted here."""
        return ceil(self._for_others * self.room_blocks)

    def leave_room(self, share: float) -> None:
        """That part of the KV is for others."""
        self._for_others = share

    def own_blocks(self, work: CachedCall) -> int:
        """What the call takes beside the full blocks of its prompt, its answer among it."""
        return ceil(self._own(work) / self._block_tokens)

    def match(self, blocks: Sequence[BlockName]) -> int:
        """How many leading blocks are warm."""
        return self._index.match(blocks)

    def warm(self, block: BlockName) -> bool:
        return self._index.warm(block)

    def warm_tokens(self, work: CachedCall) -> int:
        """How much of the prompt need not be read again; its last token always is."""
        found = self._index.match(work.prefix)
        return int(min(found * BLOCK_TOKENS, max(0, work.prompt_tokens - 1)) * self.scale) if found else 0

    def comes_warm(self, blocks: Sequence[BlockName]) -> bool:
        """Whether it is better to wait: a call inside computes the beginning, and the engine shares it when that has
        ended."""
        return self.warm_first and self._index.in_use(blocks) - self.match(blocks) >= WORTH_WAITING_BLOCKS

    def fits(self, work: CachedCall, share: float = INSIDE_SHARE) -> bool:
        """Whether the call may join those inside, which take no more than `share` of the KV then. One call alone always
        may."""
        if not self.kv_tokens or not self._inside:
            return True
        new_blocks = len(work.prefix) - self._index.in_use(work.prefix)
        added = new_blocks * self._block_tokens + self._own(work)
        return self.in_flight_tokens + added <= self._window(share)

    def fits_over_time(self, work: CachedCall, share: float, inside: Iterable[tuple[CachedCall, float]]) -> bool:
        """As `fits`, where calls give their KV back before others have grown. `inside` are the calls, each with the
        share of its answer that is believed to be written."""
        if self.fits(work, share):
            return True
        holdings = [_holding(call, written) for call, written in inside]
        holdings.append(Holding(self._own(work) - work.output_tokens, work.output_tokens))
        shared = self._index.used + len(work.prefix) - self._index.in_use(work.prefix)
        return shared * self._block_tokens + peak_tokens(holdings) <= self._window(share)

    def places(self, tokens: float, most: int) -> int:
        """How many calls of so many tokens there is room for, of `most` that the engine takes; fewer figures where they
        are many, so that what follows from them need not be worked out for each."""
        if not self.kv_tokens:
            return most
        places = min(float(most), max(1.0, KV_SHARE * self.kv_tokens / tokens))
        return round(places) if places < 8 else round(2 ** (round(8 * log2(places)) / 8))

    def holds(self, blocks: int) -> bool:
        """Whether so many blocks fit beside the calls inside, so that nothing that is warm must give way to them."""
        most = (KV_SHARE - self._for_others) * self.kv_tokens
        return bool(self.kv_tokens) and self.in_flight_tokens + blocks * self._block_tokens <= most

    def enter(self, work: CachedCall) -> None:
        self.changes += 1
        self._inside += 1
        work.own_kv_tokens = self._own(work)
        self._own_tokens += work.own_kv_tokens
        if work.prefix:
            self._tell(self._index.enter(work.prefix))

    def leave(self, work: CachedCall) -> None:
        self.changes += 1
        self._inside -= 1
        self._own_tokens = self._own_tokens - work.own_kv_tokens if self._inside else 0.0
        if work.prefix:
            self._tell(self._index.leave(work.prefix))

    def believe(self, blocks: Sequence[BlockName]) -> None:
        """Another process had them computed here."""
        self.changes += 1
        self._tell(self._index.enter(blocks))
        self._index.leave(blocks)

    def learn(self, estimated: int, counted: int) -> None:
        """A prompt that was estimated so long was counted so long by the engine."""
        self._estimated += estimated
        self._counted += counted
        if self._estimated > REMEMBERED_TOKENS:
            self._estimated, self._counted = self._estimated / 2, self._counted / 2
        self.scale = self._counted / self._estimated
        capacity = self._capacity()
        if abs(self._index.capacity - capacity) > WORTH_RESIZING * self._index.capacity:
            self._index.resize(capacity)

    def found(self, work: CachedCall, session: str, usage: Usage) -> None:
        """The call, still inside, was answered: so much of its prompt the engine had."""
        if not usage.prompt_tokens or not work.prompt_tokens:
            return
        if self._publishes:  # what it says of this call may still be on its way
            name_tokens = BLOCK_TOKENS * usage.prompt_tokens / work.prompt_tokens
            self._blocks.answered(session, work.prefix, name_tokens, usage.prompt_tokens)
        self._tells_cached = self._tells_cached or usage.cached_tokens > 0
        if not self._tells_cached:
            return
        missing = int(usage.cached_tokens / self._block_tokens) + SURELY_GONE_BLOCKS
        if missing < len(work.prefix):
            self._index.was_gone(work.prefix[missing])

    def told(self, events: Sequence[KvEvent]) -> None:
        """The engine says what it stored and what it removed. Where it says for which program (vLLM from 0.32 on), what
        it holds is no estimate from now on."""
        self.changes += 1
        for event in events:
            self._index.drop(self._blocks.apply(event))
        if not self._tells_blocks and any(getattr(event, "session", None) for event in events):
            self._tells_blocks = True
            self._index.resize(self._capacity())

    def untold(self) -> None:
        """The engine said something that did not arrive: what it holds is estimated until it tells again."""
        self._index.drop(self._blocks.forget())
        self._tells_blocks = False
        self._index.resize(self._capacity())

    def start_anew(self, kv_tokens: int | None) -> None:
        """The engine is there (again) with an empty cache, and told its room if it can. The fleet file knows better."""
        self.changes += 1
        self._index.forget()
        if kv_tokens and not self._told:
            self.kv_tokens = kv_tokens
            self._index.resize(self._capacity())

    def watch(self, block: BlockName, watcher: Watcher) -> None:
        """Tell `watcher` once, when the block becomes warm."""
        self._watchers.setdefault(block, {})[watcher] = None

    def unwatch(self, block: BlockName, watcher: Watcher) -> None:
        watchers = self._watchers.get(block)
        if watchers is not None:
            watchers.pop(watcher, None)
            if not watchers:
                del self._watchers[block]

    def _window(self, share: float) -> float:
        """What calls wait for inside the engine would go before all that others ask for later: the more of the KV is
        theirs, the less of that. Where they have half of what may be taken, or wait for it, only what fits beside."""
        if not self._for_others:  # asked for each call that may go
            return share * self.kv_tokens
        shared = min(1.0, self._for_others / (KV_SHARE / 2))
        return ((1 - shared) * share + shared * min(share, KV_SHARE - self._for_others)) * self.kv_tokens

    @property
    def _block_tokens(self) -> float:
        return BLOCK_TOKENS * self.scale

    def _capacity(self) -> int:
        room = ROOM_WHERE_TOLD if self._tells_blocks else 1
        return max(1, int(room * (self.kv_tokens or ASSUMED_KV_TOKENS) / self._block_tokens))

    def _own(self, work: CachedCall) -> float:
        tail = max(0, work.prompt_tokens - len(work.prefix) * BLOCK_TOKENS)
        return tail * self.scale + work.output_tokens

    def _tell(self, blocks: Sequence[BlockName]) -> None:
        if not self._watchers:
            return
        for block in blocks:
            for watcher in self._watchers.pop(block, ()):
                watcher.warmed()


def _holding(call: CachedCall, written: float) -> Holding:
    left = (1 - written) * call.output_tokens
    return Holding(call.own_kv_tokens - left, left)
