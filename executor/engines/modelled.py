"""The modelled engine: answers as `scripted` does, but takes the time that a GPU would take."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from executor.clock import Clock
from executor.engines.answers import Answers
from executor.engines.failures import closed, timed_out
from executor.engines.model.batches import model_of
from executor.engines.model.engine import EngineModel, Finished
from executor.engines.model.prepared import PreparedCall, prepare_call
from executor.engines.model.profiles import profile_of
from executor.engines.port import Completion, EngineFailed, EngineHealth, EngineSpec, GenerateRequest
from executor.engines.rungs import Rung
from halo_vllm.policy.hints import PROGRAM
from planner.cost.profile import Profile


class Modelled:
    """Body of the `Engine` port over an `EngineModel`. All its times, timeouts included, are those of `clock`.

    `profile` says how fast it is; without one it is as fast as its spec's, or as the spec's GPU kind.
    """

    def __init__(self, spec: EngineSpec, answers: Answers, clock: Clock, profile: Profile | None = None) -> None:
        self._spec = spec
        self._answers = answers
        self._clock = clock
        self._profile = profile or profile_of(spec)
        self._model: EngineModel[int] = model_of(spec, self._profile)
        self._numbers = count()
        self._inside: dict[int, _Inside] = {}
        self._alarm = _Alarm(clock, self._settle)
        self._closed = False

    @property
    def spec(self) -> EngineSpec:
        return self._spec

    async def generate(self, request: GenerateRequest) -> Completion:
        if self._closed:
            raise closed(self._spec)
        call = prepare_call(self._spec, request, self._answers, self._profile)
        finished = await self._finish(call, request)
        if self._profile.round_trip_s:
            await self._clock.sleep(self._profile.round_trip_s)
        usage = replace(call.completion.usage, cached_tokens=finished.usage.cached_tokens)
        return replace(call.completion, usage=usage)

    async def probe(self) -> EngineHealth:
        detail = "closed" if self._closed else ""
        version = f"modelled {self._profile.gpu}"
        context_tokens, kv_tokens = self._spec.context_tokens, self._profile.kv_tokens
        return EngineHealth(
            not self._closed,
            self._spec.served,
            context_tokens,
            version,
            detail,
            kv_tokens,
            rung=Rung.PLUGIN if self._spec.models_plugin else Rung.PREFIX_CACHE,
        )

    async def close(self) -> None:
        self._closed = True
        for number in list(self._inside):
            self._fail(number, closed(self._spec), self._clock.now())
        self._alarm.stop()

    async def _finish(self, call: PreparedCall, request: GenerateRequest) -> Finished[int]:
        number, now, timeout_s = next(self._numbers), self._clock.now(), request.timeout_s
        priority, said = request.priority or 0, {PROGRAM: request.program}
        self._model.submit(number, call.prompt_tokens, call.output_tokens, now, call.names, priority, said)
        inside = _Inside(asyncio.get_running_loop().create_future(), timeout_s, now + timeout_s)
        self._inside[number] = inside
        self._set_alarm()
        try:
            return await inside.finished
        finally:
            if self._inside.pop(number, None) is not None:  # nobody waits for it any more
                self._model.cancel(number, self._clock.now())
                self._set_alarm()

    def _settle(self) -> None:
        """Tell the calls that have ended, give up those whose time is over, and wait for the next."""
        now = self._clock.now()
        for finished in self._model.advance(now):
            if (inside := self._inside.pop(finished.id, None)) is not None:
                inside.tell(finished)
        for number in [number for number, inside in self._inside.items() if inside.deadline <= now]:
            self._fail(number, timed_out(self._inside[number].timeout_s), now)
        self._set_alarm()

    def _fail(self, number: int, failure: EngineFailed, now: float) -> None:
        self._model.cancel(number, now)
        self._inside.pop(number).fail(failure)

    def _set_alarm(self) -> None:
        instants = [inside.deadline for inside in self._inside.values()]
        next_at = self._model.next_at()
        if next_at is not None:
            instants.append(next_at)
        self._alarm.set(min(instants, default=None))


@dataclass(frozen=True, slots=True)
class _Inside:
    """A call in the engine, and who waits for it. The waiting one may be gone already."""

    finished: "asyncio.Future[Finished[int]]"
    timeout_s: float
    deadline: float

    def tell(self, finished: Finished[int]) -> None:
        if not self.finished.done():
            self.finished.set_result(finished)

    def fail(self, failure: EngineFailed) -> None:
        if not self.finished.done():
            self.finished.set_exception(failure)


class _Alarm:
    """Calls `ring` at the instant it was last set to."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def set(self, at: float | None) -> None:
        if at == self._at:
            return
        self.stop()
        if at is not None:
            self._at = at
            self._task = asyncio.create_task(self._wait(at))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._at = None

    async def _wait(self, at: float) -> None:
        await self._clock.sleep(max(0.0, at - self._clock.now()))
        self._task = self._at = None  # so that setting the alarm anew does not cancel the one that rings
        self._ring()
