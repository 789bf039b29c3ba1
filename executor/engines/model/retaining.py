"""A batch under the plugin: `halo_vllm.programs` decides who runs and what is kept, as it does inside vLLM.

What is done with its decisions is what `halo_vllm.Scheduler` does with them, step for step.
"""

from collections.abc import Iterator, Mapping
from itertools import count

from executor.engines.model.batch import Batch
from executor.engines.model.call import Call, Id
from executor.engines.model.kept_pool import KeptPool
from executor.engines.model.line import ByKey
from halo_vllm.program import Asked, Outcome
from halo_vllm.programs import Programs
from halo_vllm.settings import Settings
from planner.cost.profile import Profile

#: Where calls are held and nothing runs, vLLM looks again so often.
LOOK_AGAIN_S = 0.001
#: Of its blocks, vLLM uses one for nothing; the plugin counts it.
NULL_BLOCKS = 1


class RetainingBatch(Batch[Id]):
    """New programs wait until they fit; calls go in program order; the KV of programs that wait for a tool goes last.

    Kept blocks are ranked, not pinned. Programs that are kept for too long are let go when a step begins, and not
    within steps that are taken at once.
    """

    def __init__(self, profile: Profile, max_running: int, settings: Settings) -> None:
        assert settings.keep == "rank", "a modelled engine pins nothing"
        self._pool_blocks = profile.kv_blocks + NULL_BLOCKS
        self._programs = Programs(settings, self._pool_blocks, profile.block_tokens)
        self._now_s = self._formed_s = 0.0
        self._come: list[Call[Id]] = []
        self._held: dict[str, Call[Id]] = {}
        self._names: dict[Call[Id], str] = {}
        self._numbers = count()
        self._started: list[Call[Id]] = []
        self._unsorted = False
        self._kept = KeptPool(profile.kv_blocks, lambda: self._programs.order(self._now_s), self._lost)
        super().__init__(profile, max_running, ByKey(self._place), self._kept)

    def enter(self, call: Call[Id]) -> bool:
        """The engine looks at what came in when its step is over."""
        self._names[call] = str(next(self._numbers))
        self._come.append(call)
        return True

    def drop(self, call: Call[Id], at: float) -> None:
        if call in self._come:
            self._come.remove(call)
            del self._names[call]
        elif self._held.pop(self._names[call], None) is not None:
            self._leave(call, at, aborted=True)
        else:
            super().drop(call, at)

    def hint(self, program: str, event: str, said: Mapping[str, object], at: float) -> None:
        for branch in self._programs.hinted("", program, event, said, at):
            self._kept.let_go(branch)

    def form(self, at: float) -> None:
        self._now_s = self._formed_s = at
        for call in self._come:
            self._ask(call, at)
        self._come.clear()
        self._prepare(at)
        super().form(at)
        self._note_starts(at)

    def step_s(self) -> float:
        return super().step_s() if self.running else LOOK_AGAIN_S

    def steps_alike(self) -> int:
        """Who waits, held or not, is asked about at every step."""
        return 1 if self._held or len(self.waiting) else super().steps_alike()

    def complete(self, steps: int, at: float) -> list[Call[Id]]:
        self._now_s = at
        prefilled = sum(max(0, call.chunk - 1) for call in self._reading)
        for _ in range(steps if self.running else 0):
            self._programs.measured.prefill.step(prefilled, (at - self._formed_s) / steps)
        return super().complete(steps, at)

    def __iter__(self) -> Iterator[Call[Id]]:
        yield from super().__iter__()
        yield from self._held.values()
        yield from self._come

    def _ask(self, call: Call[Id], at: float) -> None:
        name, chain = self._names[call], call.names[: call.prompt_tokens // self._profile.block_tokens]
        asked = Asked(name, chain, range(call.prompt_tokens), said=call.said or {})
        if self._programs.asked(asked, at):
            super().enter(call)
        else:
            self._held[name] = call

    def _prepare(self, at: float) -> None:
        for program in self._programs.expired(at):
            self._kept.let_go(program)
        for name in self._programs.admitted(at, idle=not self.running and not len(self.waiting)):
            self._line_up(self._held.pop(name))
        if (aged := self._programs.aged(at)) is not None:
            self._line_up_anew(aged)
        if self._unsorted:
            self.running = dict.fromkeys(sorted(self.running, key=self._place))
            self._unsorted = False

    def _line_up_anew(self, name: str) -> None:
        """Its place is another now."""
        for call in [call for call in self.waiting if self._names[call] == name]:
            self.waiting.remove(call)
            self._line_up(call)

    def _continue_running(self) -> tuple[int, bool]:
        """In program order a prompt that is half read may stand before calls that decode."""
        return self._continue_one_by_one() if self._reading else super()._continue_running()

    def _admit(self, call: Call[Id], hits: int, budget: int) -> None:
        super()._admit(call, hits, budget)
        self._unsorted = True
        self._started.append(call)

    def _preempt(self, index: int) -> Call[Id]:
        call = super()._preempt(index)
        self._programs.preempted(self._names[call], self._now_s)
        self._give_back(self._now_s)
        return call

    def _note_starts(self, at: float) -> None:
        started, self._started = self._started, []
        for call in started:
            for resumed in self._programs.started(self._names[call], call.cached_tokens, at):
                (self._kept.leave if resumed.left else self._kept.let_go)(resumed.branch)

    def _leave(self, call: Call[Id], at: float, *, aborted: bool) -> None:
        self._now_s = at
        tokens = call.prompt_tokens + call.written
        chain = call.names[: tokens // self._profile.block_tokens]
        outcome = self._programs.finished(self._names.pop(call), chain, range(tokens), at, aborted=aborted)
        if outcome is not None:
            self._end(outcome, call)
        super()._leave(call, at, aborted=aborted)
        self._give_back(at)

    def _end(self, outcome: Outcome, call: Call[Id]) -> None:
        for branch in outcome.gone:
            self._kept.let_go(branch)
        if outcome.keep:
            self._kept.keep(outcome.branch, call.shared)
        else:
            self._kept.let_go(outcome.branch)

    def _give_back(self, at: float) -> None:
        """What is over the caps, now that the blocks are nobody's. One given by its branch may be kept for another,
        which gives it next."""
        while gives := self._programs.over(at, self._kept, self._pool_blocks):
            for branch, blocks in gives:
                self._kept.give(branch, blocks)

    def _lost(self, program: str, blocks: int) -> None:
        self._programs.lost(program, blocks, self._now_s, all_gone=not self._kept.kept_of(program))

    def _place(self, call: Call[Id]) -> tuple[float, ...]:
        return self._programs.place(self._names[call])
