"""Which calls share a step, and with how many tokens each: continuous batching as vLLM's V1 scheduler does it.

Running calls come first, in the order they were admitted; then waiting ones, first come first served, while the step's
token budget, the number of running calls and the KV blocks allow. Long prompts are read in chunks. Where blocks run
out, the call admitted last gives its own back and starts again later (Kwon et al., SOSP 2023, section 4.5: recompute).
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from executor.engines.model.block_pool import BlockName, BlockPool
from planner.cost.profile import Profile

Id = TypeVar("Id", bound=Hashable)


@dataclass(slots=True, eq=False)
class Call(Generic[Id]):
    """A call inside the engine. `computed` tokens have their KV in memory, `written` are the answer so far."""

    id: Id
    prompt_tokens: int
    output_tokens: int
    names: Sequence[BlockName]
    submitted_at: float
    computed: int = 0
    written: int = 0
    chunk: int = 0  # tokens it has in the step at hand
    blocks: int = 0
    shared: list[BlockName] = field(default_factory=list)  # those of its blocks that others may use
    published: int = 0  # blocks from the first that are full and offered to others
    cached_tokens: int = 0
    began_at: float | None = None
    first_token_at: float | None = None
    preemptions: int = 0

    @property
    def known(self) -> int:
        """Tokens whose KV it needs before it can write the next one."""
        return self.prompt_tokens + self.written

    @property
    def decodes(self) -> bool:
        return self.written > 0 and self.computed + 1 == self.known


class Batch(Generic[Id]):
    """The calls of one engine, without time: `form` begins a step, `complete` ends it and any that are like it."""

    def __init__(self, profile: Profile, max_running: int) -> None:
        assert max_running > 0
        self.running: list[Call[Id]] = []
        self.waiting: deque[Call[Id]] = deque()
        self.pool = BlockPool(profile.kv_blocks)
        self._profile = profile
        self._max_running = min(max_running, profile.step_tokens)  # a step holds a token of each running call
        self._blocked = False  # the first in line did not fit, and nothing was freed since
        self._begun = 0  # calls that are in their first step

    @property
    def open_to_next(self) -> bool:
        """Whether a call that comes now might be part of the next step."""
        return not self.waiting and len(self.running) < self._max_running

    def enter(self, call: Call[Id]) -> None:
        assert self._blocks_for(call.prompt_tokens + call.output_tokens) <= self.pool.capacity, "it can never fit"
        self.waiting.append(call)

    def drop(self, call: Call[Id]) -> None:
        """Forget a call wherever it stands."""
        if call in self.waiting:
            self.waiting.remove(call)
        else:
            self.running.remove(call)
        self._free(call)

    def form(self, at: float) -> None:
        """Give each call that takes part in the next step its chunk of tokens, and the blocks for them."""
        self._begun = 0
        budget, preempted = self._continue_running()
        if not preempted:
            self._admit_waiting(budget, at)
        assert self.running or not self.waiting, "an empty engine keeps calls waiting"

    def step_s(self) -> float:
        """How long the formed step takes."""
        tokens = reads = backward = 0
        pairs = 0.0
        for call in self.running:
            tokens += call.chunk
            if call.chunk == 1:
                reads += call.computed + 1
            else:
                pairs += call.chunk * call.chunk / 2
                backward += call.chunk * call.computed
        return self._profile.step_s(tokens, len(self.running), self._begun, reads, pairs, backward)

    def longer_s(self) -> float:
        """By how much each further step of decoding takes longer than the one before: every context has grown."""
        return self._profile.kv_read_s * len(self.running)

    def steps_alike(self) -> int:
        """How many steps from the formed one on hold the same calls, all decoding: they can be taken at once."""
        if not self.running or not all(call.decodes for call in self.running):
            return 1
        if self.waiting and not self._blocked and len(self.running) < self._max_running:
            return 1
        return self._steps_with_room(min(call.output_tokens - call.written for call in self.running))

    def complete(self, steps: int, at: float) -> list[Call[Id]]:
        """The formed step, or `steps` alike, ended at `at`. Returns the calls that are finished, in batch order."""
        finished = []
        for call in self.running:
            self._compute(call, steps, at)
            if call.written == call.output_tokens:
                finished.append(call)
        if finished:
            self.running = [call for call in self.running if call.written < call.output_tokens]
            for call in finished:
                self._free(call)
        return finished

    def _continue_running(self) -> tuple[int, bool]:
        budget, preempted, index = self._profile.step_tokens, False, 0
        while index < len(self.running):
            call = self.running[index]
            call.chunk = min(call.known - call.computed, budget)
            while not self._grow(call, call.chunk):
                preempted = True
                self._preempt()
                if index == len(self.running):
                    return budget, preempted
            budget -= call.chunk
            index += 1
        return budget, preempted

    def _preempt(self) -> None:
        call = self.running.pop()
        self._free(call)
        call.computed = call.chunk = 0
        call.preemptions += 1
        self.waiting.appendleft(call)

    def _admit_waiting(self, budget: int, at: float) -> None:
        while self.waiting and not self._blocked and budget > 0 and len(self.running) < self._max_running:
            call = self.waiting[0]
            if self._waits_for_a_step(call, budget):
                return
            if not self._admit(call, budget):
                self._blocked = True
                return
            self.running.append(self.waiting.popleft())
            budget -= call.chunk
            if call.began_at is None:
                call.began_at, call.cached_tokens = at, call.computed
                self._begun += 1

    def _waits_for_a_step(self, call: Call[Id], budget: int) -> bool:
        """Without chunked prefill, a prompt that a later step has room for is not begun in this one."""
        if self._profile.chunked:
            return False
        size = self._profile.block_tokens
        new = call.known - self.pool.hits(call.names, (call.known - 1) // size) * size
        return budget < new <= self._profile.step_tokens

    def _admit(self, call: Call[Id], budget: int) -> bool:
        """The last token is computed even where all are cached: the engine needs what comes out of it."""
        size = self._profile.block_tokens
        hits = self.pool.hits(call.names, (call.known - 1) // size)
        chunk = min(call.known - hits * size, budget)
        needed = self._blocks_for(hits * size + chunk) - hits
        prefix = call.names[:hits]
        if needed > self.pool.available - self.pool.idle_among(prefix):
            return False
        self.pool.share(prefix)
        call.shared.extend(prefix)
        call.blocks = call.published = hits
        call.computed = hits * size
        call.chunk = chunk
        return self._grow(call, chunk)

    def _grow(self, call: Call[Id], tokens: int) -> bool:
        """Take the blocks for `tokens` more, and offer those that become full. False where there are not enough."""
        reach = call.computed + tokens
        if reach > call.blocks * self._profile.block_tokens:
            needed = self._blocks_for(reach) - call.blocks
            if needed > self.pool.available:
                return False
            self.pool.take(needed)
            call.blocks += needed
        full = min(reach // self._profile.block_tokens, len(call.names))
        if full > call.published:
            self._publish(call, call.names[call.published : full])
        return True

    def _publish(self, call: Call[Id], names: Sequence[BlockName]) -> None:
        for name in names:
            if self.pool.publish(name):
                call.shared.append(name)
            call.published += 1

    def _compute(self, call: Call[Id], steps: int, at: float) -> None:
        if steps > 1:
            call.chunk = steps
            fits = self._grow(call, steps)
            assert fits, "steps_alike promised more than there is"
            call.computed += steps
            call.written += steps
            return
        call.computed += call.chunk
        if call.computed < call.known:
            return
        call.written += 1
        if call.first_token_at is None:
            call.first_token_at = at

    def _steps_with_room(self, most: int) -> int:
        """The largest number of steps up to `most` whose blocks are there."""
        least, available = 1, self.pool.available
        if self._blocks_wanted(most) <= available:
            return most
        while least < most - 1:
            middle = (least + most) // 2
            if self._blocks_wanted(middle) <= available:
                least = middle
            else:
                most = middle
        return least

    def _blocks_wanted(self, steps: int) -> int:
        size = self._profile.block_tokens
        return sum((call.computed + steps + size - 1) // size - call.blocks for call in self.running)

    def _free(self, call: Call[Id]) -> None:
        self.pool.release(call.shared, call.blocks - len(call.shared))
        call.shared = []
        call.blocks = call.published = 0
        self._blocked = False

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self._profile.block_tokens)
