"""`EngineModel`: one engine in virtual time. Whoever owns it says what time it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Generic

from executor.engines.model.batch import Batch
from executor.engines.model.block_pool import BlockName
from executor.engines.model.call import Call, Id
from executor.engines.port import Usage
from planner.cost.profile import Profile


@dataclass(frozen=True, slots=True)
class Finished(Generic[Id]):
    """A call that ended at `at`: it waited, read its prompt, and wrote its answer. The three add up to its stay."""

    id: Id
    at: float
    usage: Usage
    queued_s: float
    prefill_s: float
    decode_s: float
    preemptions: int


class EngineModel(Generic[Id]):
    """Continuous batching over paged, prefix-cached KV, one step after the other, as long as there is work.

    Times are seconds and never run backwards over all methods. Work that is handed over at one instant is taken up
    together. The same calls at the same times give the same answers.
    """

    def __init__(
        self,
        profile: Profile,
        max_running: int = 64,
        *,
        whole_stretches: bool = True,
        batch: Batch[Id] | None = None,
    ) -> None:
        """`whole_stretches=False` takes every step by itself: slower, and the same but for which idle blocks give way
        while a call writes a block that an idle one holds already. `batch` orders its calls in another way than first
        come, first served."""
        self._profile = profile
        self._batch: Batch[Id] = Batch(profile, max_running) if batch is None else batch
        self._calls: dict[Id, Call[Id]] = {}
        self._stretch: _Stretch | None = None
        self._now = 0.0
        self._worked_until = -inf  # nobody knows for how long it was idle before: for long
        self._ended: list[Finished[Id]] = []
        self._whole_stretches = whole_stretches
        self.steps = 0  # that have ended

    def submit(
        self,
        id: Id,
        prompt_tokens: int,
        output_tokens: int,
        at: float,
        names: Sequence[BlockName] = (),
        priority: int = 0,
        said: Mapping[str, object] | None = None,
    ) -> None:
        """A call comes in. Its id must not be that of a call inside.

        `names` are the `block_names` of its prompt and its answer; they may end anywhere, and what has no name is
        shared with nobody. `said` is what a client tells the plugin with it.
        """
        assert id not in self._calls, f"{id} is inside already"
        assert prompt_tokens > 0
        assert output_tokens > 0
        self._catch_up(at)
        call = self._calls[id] = Call(id, prompt_tokens, output_tokens, names, at, priority, said)
        if self._batch.enter(call):
            self._cut(at)

    def cancel(self, id: Id, at: float) -> bool:
        """Forget a call; the step at hand still ends when it would have. False where it is not inside (any more)."""
        self._catch_up(at)
        call = self._calls.pop(id, None)
        if call is None:
            return False
        self._cut(at)
        self._batch.drop(call, at)
        return True

    def hint(self, program: str, event: str, said: Mapping[str, object], at: float) -> None:
        """What a client tells the plugin of a program between its calls."""
        self._catch_up(at)
        self._batch.hint(program, event, said, at)

    def next_at(self) -> float | None:
        """When `advance` will next have something to tell or to change; `None` while the engine is empty."""
        if self._ended:
            return self._now
        if self._stretch is None and self._calls:
            self._begin()
        return self._stretch.end_at if self._stretch else None

    def advance(self, at: float) -> list[Finished[Id]]:
        """Let time pass until `at`. Returns the calls that finished since the last time, in the order they did."""
        self._catch_up(at)
        ended, self._ended = self._ended, []
        return ended

    @property
    def running(self) -> int:
        return len(self._batch.running)

    @property
    def waiting(self) -> int:
        return len(self._batch.waiting)

    def check(self) -> None:
        """Assert what must hold between any two calls of the methods above."""
        batch, pool = self._batch, self._batch.pool
        pool.check()
        inside = list(batch)
        assert {call.id for call in inside} == self._calls.keys()
        assert len(inside) == len(self._calls)
        assert pool.used <= sum(call.blocks for call in batch.running) <= pool.used * max(1, len(batch.running))
        assert all(call.blocks == 0 for call in batch.waiting)

    def _catch_up(self, at: float) -> None:
        assert at >= self._now, f"time runs backwards: {at} after {self._now}"
        stretch = self._stretch
        while stretch is not None or (self._calls and self._now < at):
            stretch = stretch or self._begin()
            if stretch.end_at > at:
                break
            self._end(stretch)
            stretch = None
        self._now = at

    def _begin(self) -> "_Stretch":
        self._batch.form(self._now)
        steps = self._batch.steps_alike() if self._whole_stretches else 1
        idle = not self._batch.running
        first_s = self._batch.step_s() + (0.0 if idle else self._waking_s())
        self._stretch = _Stretch(self._now, steps, first_s, self._batch.longer_s(), idle=idle)
        return self._stretch

    def _waking_s(self) -> float:
        """Only a step by itself is ever the first after others: it reads prompts."""
        return self._profile.waking_s(self._now - self._worked_until) if self._profile.wake_s else 0.0

    def _end(self, stretch: "_Stretch") -> None:
        self._now, self._stretch = stretch.end_at, None
        if not stretch.idle:
            self._worked_until = stretch.end_at
        self.steps += stretch.steps
        for call in self._batch.complete(stretch.steps, self._now):
            del self._calls[call.id]
            self._ended.append(_finished(call, self._now))

    def _cut(self, at: float) -> None:
        """Let the stretch end with the step that is under way: the next may hold other calls."""
        if self._stretch is not None and self._stretch.idle:
            self._stretch = replace(self._stretch, first_s=at - self._stretch.start_at)
        elif self._stretch is not None and self._stretch.steps > 1:
            self._stretch = replace(self._stretch, steps=self._stretch.steps_until(at))


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Steps of one batch: the first takes `first_s`, each further one `longer_s` more than the one before. An
    `idle` one holds no call: all that are inside are held back."""

    start_at: float
    steps: int
    first_s: float
    longer_s: float
    idle: bool = False

    @property
    def end_at(self) -> float:
        return self.end_of(self.steps)

    def end_of(self, step: int) -> float:
        return self.start_at + step * self.first_s + self.longer_s * (step * (step - 1) // 2)

    def steps_until(self, at: float) -> int:
        """The first of the steps that has ended by `at` or is the one under way then."""
        least, most = 1, self.steps
        while least < most:
            middle = (least + most) // 2
            if self.end_of(middle) >= at:
                most = middle
            else:
                least = middle + 1
        return least


def _finished(call: Call[Id], at: float) -> Finished[Id]:
    assert call.began_at is not None
    assert call.first_token_at is not None
    return Finished(
        call.id,
        at,
        Usage(call.prompt_tokens, call.output_tokens, min(call.cached_tokens, call.prompt_tokens)),
        call.began_at - call.submitted_at,
        call.first_token_at - call.began_at,
        at - call.first_token_at,
        call.preemptions,
    )
