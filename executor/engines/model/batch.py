"""Which calls share a step, and with how many tokens each: continuous batching as vLLM's V1 scheduler does it.

Running calls come first, in the order they were admitted; then waiting ones, in the order of their line, while the
step's token budget, the number of running calls and the KV blocks allow. Long prompts are read in chunks, but begun
only where all of the prompt fits. Where blocks run out, the call admitted last, or with priorities the least urgent,
gives its own back and starts again later (Kwon et al., SOSP 2023, section 4.5: recompute).
"""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Generic

from executor.engines.model.block_pool import BlockPool
from executor.engines.model.call import Call, Id
from executor.engines.model.decoding import Decoding
from executor.engines.model.line import FirstCome, Line
from planner.cost.profile import Profile


class Batch(Generic[Id]):
    """The calls of one engine, without time: `form` begins a step, `complete` ends it and any that are like it."""

    def __init__(
        self, profile: Profile, max_running: int, waiting: Line[Id] | None = None, pool: BlockPool | None = None
    ) -> None:
        assert max_running > 0
        self.running: dict[Call[Id], None] = {}
        self.waiting: Line[Id] = FirstCome() if waiting is None else waiting
        self.pool = BlockPool(profile.kv_blocks) if pool is None else pool
        self._profile = profile
        self._max_running = min(max_running, profile.step_tokens)  # a step holds a token of each running call
        self._decoding: Decoding[Id] = Decoding(profile.block_tokens)
        self._reading: list[Call[Id]] = []  # the other running calls
        self._places = count()
        self._blocked = False  # the first in line did not fit, and nothing was freed since
        self._begun = 0  # calls that are in their first step,
        self._intake_tokens = 0  # and their prompts

    def __iter__(self) -> Iterator[Call[Id]]:
        """All calls inside."""
        yield from self.running
        yield from self.waiting

    def enter(self, call: Call[Id]) -> bool:
        """Whether it might be part of the next step."""
        assert self._blocks_for(call.prompt_tokens + call.output_tokens) <= self.pool.capacity, "it can never fit"
        return self._line_up(call)

    def drop(self, call: Call[Id], at: float) -> None:
        """Forget a call wherever it stands."""
        if call.place < 0:
            self.waiting.remove(call)
        else:
            del self.running[call]
            self._stop(call)
        self._leave(call, at, aborted=True)

    def hint(self, program: str, event: str, said: Mapping[str, object], at: float) -> None:
        """vLLM itself has no use for hints."""

    def form(self, at: float) -> None:
        """Give each call that takes part in the next step its chunk of tokens, and the blocks for them."""
        self._begun = self._intake_tokens = 0
        budget, preempted = self._continue_running()
        if not preempted:
            self._admit_waiting(budget, at)
        assert self.running or not self.waiting, "an empty engine keeps calls waiting"

    def step_s(self) -> float:
        """How long the formed step takes."""
        tokens = len(self._decoding)
        reads = self._decoding.context_tokens + tokens
        pairs, backward = 0.0, 0
        for call in self._reading:
            tokens += call.chunk
            if call.chunk == 1:
                reads += call.computed + 1
            else:
                pairs += call.chunk * call.chunk / 2
                backward += call.chunk * call.computed
        calls, begun = len(self.running), self._begun
        return self._profile.step_s(tokens, calls, begun, reads, pairs, backward, self._intake_tokens)

    def longer_s(self) -> float:
        """By how much each further step of decoding takes longer than the one before: every context has grown."""
        return self._profile.kv_read_s * len(self.running)

    def steps_alike(self) -> int:
        """How many steps from the formed one on hold the same calls, all decoding: they can be taken at once."""
        if self._reading or not self.running:
            return 1
        if self.waiting and not self._blocked and len(self.running) < self._max_running:
            return 1
        return self._steps_with_room(self._decoding.steps_left())

    def complete(self, steps: int, at: float) -> list[Call[Id]]:
        """The formed step, or `steps` alike, ended at `at`. Returns the calls that are finished, in batch order."""
        if steps > 1:
            self._grow_decoding(1, steps)
        finished = self._decoding.take(steps) if self._decoding else []
        if self._reading:
            finished += self._read(at)
            finished.sort(key=lambda call: call.place)
        for call in finished:
            del self.running[call]
            self._leave(call, at, aborted=False)
        return finished

    def _line_up(self, call: Call[Id]) -> bool:
        self.waiting.push(call)
        if self.waiting.first() is not call:
            return False
        self._blocked = False
        return len(self.running) < self._max_running

    def _continue_running(self) -> tuple[int, bool]:
        """The tokens that are left of the step, and whether a call had to give its blocks back."""
        budget = self._profile.step_tokens - len(self._decoding)
        wanted = self._decoding.blocks_wanted(0, 1)
        for call in self._reading:
            call.chunk = min(call.known - call.computed, budget)
            budget -= call.chunk
            wanted += self._blocks_for(call.computed + call.chunk) - call.blocks
        if wanted > self.pool.available:
            return self._continue_one_by_one()
        self._grow_decoding(0, 1)
        for call in self._reading:
            self._grow(call, call.chunk)
        return budget, False

    def _continue_one_by_one(self) -> tuple[int, bool]:
        """Where not all get the blocks that they need, one after the other takes them from those that give way. Once
        one gave way to itself, the others have no part in the step."""
        self._decoding.dissolve()
        self._reading = list(self.running)
        budget, index, preempted = self._profile.step_tokens, 0, False
        for call in self._reading:
            call.chunk = 0
        while index < len(self._reading):
            call = self._reading[index]
            call.chunk = min(call.known - call.computed, budget)
            while not self._grow(call, call.chunk):
                victim, preempted = self.waiting.gives_way(self._reading), True
                other = self._preempt(victim)
                if other is call:
                    return budget, True
                if victim < index:
                    budget, index = budget + other.chunk, index - 1
            budget -= call.chunk
            index += 1
        return budget, preempted

    def _preempt(self, index: int) -> Call[Id]:
        call = self._reading.pop(index)
        del self.running[call]
        self._free(call)
        call.computed = 0
        call.preemptions += 1
        self.waiting.put_back(call)
        return call

    def _admit_waiting(self, budget: int, at: float) -> None:
        while self.waiting and not self._blocked and budget > 0 and len(self.running) < self._max_running:
            call = self.waiting.first()
            hits = self.pool.hits(call.names, (call.known - 1) // self._profile.block_tokens)
            if self._waits_for_a_step(call, hits, budget):
                return
            if not self._fits(call, hits):
                self._blocked = True
                return
            self.waiting.remove(call)
            self._admit(call, hits, budget)
            budget -= call.chunk
            if call.began_at is None:
                call.began_at, call.cached_tokens = at, call.computed
                self._begun += 1
                self._intake_tokens += call.prompt_tokens

    def _waits_for_a_step(self, call: Call[Id], hits: int, budget: int) -> bool:
        """Without chunked prefill, a prompt that a later step has room for is not begun in this one."""
        if self._profile.chunked:
            return False
        return budget < call.known - hits * self._profile.block_tokens <= self._profile.step_tokens

    def _fits(self, call: Call[Id], hits: int) -> bool:
        """All of its prompt, not only what the next step reads of it."""
        needed = self._blocks_for(call.known) - hits
        return needed <= self.pool.available - self.pool.idle_among(call.names[:hits])

    def _admit(self, call: Call[Id], hits: int, budget: int) -> None:
        """The last token is computed even where all are cached: the engine needs what comes out of it."""
        self.pool.share(call.names[:hits])
        call.shared.extend(call.names[:hits])
        call.blocks = call.published = hits
        call.computed = hits * self._profile.block_tokens
        call.chunk = min(call.known - call.computed, budget)
        call.place = next(self._places)
        self.running[call] = None
        self._reading.append(call)
        self._grow(call, call.chunk)

    def _grow(self, call: Call[Id], tokens: int) -> bool:
        """Take the blocks for `tokens` more, and offer those that become full. False where there are not enough."""
        reach = call.computed + tokens
        needed = self._blocks_for(reach) - call.blocks
        if needed > 0:
            if needed > self.pool.available:
                return False
            self.pool.take(needed)
            call.blocks += needed
        full = min(reach // self._profile.block_tokens, len(call.names))
        if full > call.published:
            self._publish(call, full)
        return True

    def _grow_decoding(self, first: int, last: int) -> None:
        """What decoding calls need for these steps, counted from the next one; there is room for it."""
        size, turns = self._profile.block_tokens, self._decoding.turns(first)
        for after in range(min(last - first, size)):
            blocks = (last - first - 1 - after) // size + 1
            if growing := turns[after]:
                self.pool.take(blocks * len(growing))
                for call in growing:
                    call.blocks += blocks
            for call in turns[after + 1 - size]:
                if call.published < len(call.names):
                    self._publish(call, min(call.published + blocks, len(call.names)))

    def _publish(self, call: Call[Id], full: int) -> None:
        for name in call.names[call.published : full]:
            if self.pool.publish(name):
                call.shared.append(name)
        call.published = full

    def _read(self, at: float) -> list[Call[Id]]:
        """The step is over for the calls that do not decode. Those that are finished; the others may decode now."""
        finished, reading = [], []
        for call in self._reading:
            call.computed += call.chunk
            if call.computed < call.known:
                reading.append(call)
                continue
            call.written += 1
            if call.first_token_at is None:
                call.first_token_at = at
            if call.written == call.output_tokens:
                finished.append(call)
            else:
                self._decoding.join(call)
        self._reading = reading
        return finished

    def _stop(self, call: Call[Id]) -> None:
        if call.since >= 0:
            self._decoding.leave(call)
        else:
            self._reading.remove(call)

    def _steps_with_room(self, most: int) -> int:
        """The largest number of steps up to `most` whose blocks are there."""
        least, available = 1, self.pool.available
        if self._decoding.blocks_wanted(1, most) <= available:
            return most
        while least < most - 1:
            middle = (least + most) // 2
            if self._decoding.blocks_wanted(1, middle) <= available:
                least = middle
            else:
                most = middle
        return least

    def _leave(self, call: Call[Id], at: float, *, aborted: bool) -> None:
        self._free(call)

    def _free(self, call: Call[Id]) -> None:
        self.pool.release(call.shared, call.blocks - len(call.shared))
        call.shared = []
        call.blocks = call.published = 0
        call.place = -1
        self._blocked = False

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self._profile.block_tokens)
