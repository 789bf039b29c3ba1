"""An engine that counts blocks instead of having any: the plugin's deciders at the rate that 10^5 programs need.

A text is a conversation; its KV is a number of blocks from its beginning. Texts share nothing. What decides is
`halo_vllm.programs`; what vLLM's scheduler and block pool would do with that is done here in the plainest way.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from halo_vllm.program import Asked
from halo_vllm.programs import Programs
from halo_vllm.virtual_time.costs import Step, StepCosts

#: Tokens of a text's chain are numbered from its own multiple of this.
LONGEST_TEXT = 1 << 16
#: Tokens that every running call gets in one step: answers are short, and single steps would tell nothing more.
DECODED = 8


@dataclass(frozen=True, slots=True)
class TextCall:
    """`text` names the conversation, of which the prompt is the first `prompt_tokens`."""

    id: str
    text: int
    prompt_tokens: int
    output_tokens: int
    tenant: str = ""
    hints: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    call: TextCall
    computed: int = 0
    decoded: int = 0

    @property
    def tokens(self) -> int:
        return self.call.prompt_tokens + self.decoded

    @property
    def full_tokens(self) -> int:
        """Those that have KV."""
        return self.computed + self.decoded


class LightEngine:
    """Calls in, steps taken one at a time, the clock moved by what each step costs."""

    def __init__(self, programs: Programs, capacity_blocks: int, block_tokens: int, step_tokens: int = 2048) -> None:
        self.now_s, self.steps = 0.0, 0
        self.programs, self.capacity_blocks = programs, capacity_blocks
        self.pool = TextPool(programs, capacity_blocks)
        self._block_tokens, self._step_tokens, self._costs = block_tokens, step_tokens, StepCosts()
        self._held: dict[str, _Run] = {}
        self._ready: dict[str, _Run] = {}
        self._running: dict[str, _Run] = {}

    @property
    def busy(self) -> bool:
        return bool(self._held or self._ready or self._running)

    @property
    def kept_blocks(self) -> int:
        return self.pool.kept_blocks

    def ask(self, call: TextCall) -> None:
        chain, tokens = self._context(call.text, call.prompt_tokens)
        asked = Asked(call.id, chain, tokens, call.tenant, said=call.hints)
        ready = self.programs.asked(asked, self.now_s)
        (self._ready if ready else self._held)[call.id] = _Run(call)

    def abort(self, call_id: str) -> None:
        for calls in (self._held, self._ready, self._running):
            if run := calls.get(call_id):
                self._end(run, aborted=True)
                return

    def hint(self, hint: Mapping[str, object]) -> None:
        told = dict(hint)
        name, event, tenant = (str(told.pop(part, "")) for part in ("program", "event", "cache_salt"))
        for branch in self.programs.hinted(tenant, name, event, told, self.now_s):
            self.pool.let_go(branch)

    def reset(self) -> bool:
        """Empties the cache; what runs starts again."""
        for run in list(self._running.values()):
            self._preempt(run)
        self.pool.reset()
        self.programs.reset(self.now_s)
        return True

    def step(self) -> list[str] | None:
        """Takes one step; the calls that it finished. None: nothing could be scheduled."""
        self._admit()
        prefilled = self._prefill()
        decoding = [run for run in self._running.values() if run.computed >= run.call.prompt_tokens]
        for run in decoding:
            if run.call.id in self._running and self._has_room(run, run.tokens + DECODED):
                run.decoded += DECODED
        if not prefilled and not decoding:
            return None
        self.steps += 1
        duration_s = self._costs(Step(prefilled, len(decoding) * DECODED, sum(run.tokens for run in decoding)))
        self.programs.measured.prefill.step(prefilled, duration_s)
        self.now_s += duration_s
        done = [run for run in decoding if run.decoded >= run.call.output_tokens and run.call.id in self._running]
        for run in done:
            self._end(run, aborted=False)
        return [run.call.id for run in done]

    def _admit(self) -> None:
        for program in self.programs.expired(self.now_s):
            self.pool.let_go(program)
        for call_id in self.programs.admitted(self.now_s, idle=not self._running and not self._ready):
            self._ready[call_id] = self._held.pop(call_id)
        self.programs.aged(self.now_s)

    def _prefill(self) -> int:
        """Of the calls that run, then of those that are ready, in program order, until the step is full."""
        budget = self._step_tokens
        for run in list(self._running.values()):
            budget -= self._computed(run, budget)
        for call_id in sorted(self._ready, key=self.programs.place):
            if budget <= 0 or not self._start(self._ready[call_id]):
                break
            budget -= self._computed(self._running[call_id], budget)
        return self._step_tokens - budget

    def _start(self, run: _Run) -> bool:
        cached = min(self.pool.blocks_of(run.call.text), (run.call.prompt_tokens - 1) // self._block_tokens)
        wanted = -(-run.tokens // self._block_tokens)
        if not self.pool.fits(run.call.text, wanted):
            return False
        self.pool.use(run.call.text)
        self._running[run.call.id] = self._ready.pop(run.call.id)
        run.computed = cached * self._block_tokens
        for resumed in self.programs.started(run.call.id, run.computed, self.now_s):
            self.pool.let_go(resumed.branch)
        self.pool.grow(run.call.text, wanted, self.now_s)
        return True

    def _computed(self, run: _Run, budget: int) -> int:
        tokens = max(min(run.call.prompt_tokens - run.computed, budget), 0)
        run.computed += tokens
        return tokens

    def _has_room(self, run: _Run, tokens: int) -> bool:
        """Takes the blocks; if there are none, the last in program order starts again later."""
        wanted = -(-tokens // self._block_tokens)
        while not self.pool.fits(run.call.text, wanted):
            last = max(self._running.values(), key=lambda other: self.programs.place(other.call.id))
            self._preempt(last)
            if last is run:
                return False
        self.pool.grow(run.call.text, wanted, self.now_s)
        return True

    def _preempt(self, run: _Run) -> None:
        self._ready[run.call.id] = self._running.pop(run.call.id)
        self.programs.preempted(run.call.id, self.now_s)
        self.pool.unuse(run.call.text, run.full_tokens // self._block_tokens)

    def _end(self, run: _Run, *, aborted: bool) -> None:
        ran = self._running.pop(run.call.id, None)
        self._held.pop(run.call.id, None)
        self._ready.pop(run.call.id, None)
        chain, tokens = self._context(run.call.text, run.tokens)
        outcome = self.programs.finished(run.call.id, chain, tokens, self.now_s, aborted=aborted)
        assert outcome is not None
        for branch in outcome.gone:
            self.pool.let_go(branch)
        if outcome.keep:
            self.pool.keep(outcome.branch, run.call.text)
        else:
            self.pool.let_go(outcome.branch)
        if ran is not None:
            self.pool.unuse(run.call.text, run.full_tokens // self._block_tokens)
        for program, blocks in self.programs.over(self.now_s, self.pool, self.capacity_blocks):
            self.pool.give(program, blocks)

    def _context(self, text: int, tokens: int) -> tuple[range, range]:
        first = text * LONGEST_TEXT
        return range(first, first + tokens // self._block_tokens), range(first, first + tokens)


class TextPool:
    """Blocks of texts: used, kept for a program, or ordinary; ordinary ones go first, then what is kept, by rank."""

    def __init__(self, programs: Programs, capacity_blocks: int) -> None:
        self._programs, self._capacity = programs, capacity_blocks
        self._blocks: dict[int, int] = {}
        self._users: dict[int, int] = {}
        self._claims: dict[int, list[str]] = {}
        self._kept: dict[str, int] = {}
        self._ordinary: OrderedDict[int, None] = OrderedDict()
        self._blank, self._used = capacity_blocks, 0

    @property
    def kept_blocks(self) -> int:
        return sum(self._blocks.get(text, 0) for text in self._claims if text not in self._users)

    def kept_of(self, program: str) -> int:
        text = self._kept.get(program)
        if text is None or text in self._users or self._claims[text][0] != program:
            return 0
        return self._blocks.get(text, 0)

    def blocks_of(self, text: int) -> int:
        return self._blocks.get(text, 0)

    def fits(self, text: int, blocks: int) -> bool:
        """Whether the text may have so many, if all that nobody uses is taken."""
        has = self._blocks.get(text, 0) if text in self._users else 0
        return self._used - has + blocks <= self._capacity

    def use(self, text: int) -> None:
        if text not in self._users:
            self._used += self._blocks.setdefault(text, 0)
            self._ordinary.pop(text, None)
        self._users[text] = self._users.get(text, 0) + 1

    def unuse(self, text: int, full_blocks: int) -> None:
        """Only full blocks are found again: the rest is blank at once."""
        self._users[text] -= 1
        if not self._users[text]:
            del self._users[text]
            self._used -= self._blocks[text]
            self._blank += self._shrink(text, max(self._blocks[text] - full_blocks, 0))
            self._settle(text)

    def grow(self, text: int, blocks: int, now_s: float) -> None:
        more = max(blocks - self._blocks[text], 0)
        self._take(more, now_s)
        self._blocks[text] += more
        self._used += more

    def keep(self, program: str, text: int) -> None:
        self.let_go(program)
        self._kept[program] = text
        self._claims.setdefault(text, []).append(program)
        self._ordinary.pop(text, None)

    def let_go(self, program: str) -> None:
        text = self._kept.pop(program, None)
        if text is None:
            return
        self._claims[text].remove(program)
        if not self._claims[text]:
            del self._claims[text]
            self._settle(text)

    def give(self, program: str, blocks: int) -> None:
        text = self._kept.get(program)
        if text is not None and text not in self._users:
            self._blank += self._shrink(text, blocks)

    def reset(self) -> None:
        assert not self._users
        for program in list(self._kept):
            self.let_go(program)
        self._blocks.clear()
        self._ordinary.clear()
        self._blank = self._capacity

    def _settle(self, text: int) -> None:
        if text not in self._users and text not in self._claims and text in self._blocks:
            self._ordinary[text] = None

    def _take(self, blocks: int, now_s: float) -> None:
        taken = min(self._blank, blocks)
        while taken < blocks and self._ordinary:
            text = next(iter(self._ordinary))
            taken += self._shrink(text, blocks - taken)
        for program in self._programs.order(now_s) if taken < blocks else ():
            taken += self._taken_from(program, blocks - taken, now_s)
        assert taken >= blocks, "a program for which blocks are kept has no place in the order"
        self._blank -= min(self._blank, blocks)

    def _taken_from(self, program: str, blocks: int, now_s: float) -> int:
        text = self._kept.get(program)
        if text is None or text in self._users or not blocks:
            return 0
        taken = self._shrink(text, blocks)
        all_gone = not self._blocks.get(text)
        self._programs.lost(program, taken, now_s, all_gone=all_gone)
        if all_gone:
            self.let_go(program)
        return taken

    def _shrink(self, text: int, blocks: int) -> int:
        left = max(self._blocks.get(text, 0) - blocks, 0)
        gone = self._blocks.pop(text, 0) - left
        if left:
            self._blocks[text] = left
        else:
            self._ordinary.pop(text, None)
        return gone
