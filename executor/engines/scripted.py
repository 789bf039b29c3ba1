"""The scripted engine: answers at once, from a file, a function or a seed. For tests, demos and benchmarks of Halo."""

import asyncio
from collections.abc import Callable

from executor.clock import Clock, WallClock
from executor.engines.answers import Answers, completion_of
from executor.engines.failures import closed, timed_out
from executor.engines.port import Completion, EngineFailed, EngineHealth, EngineSpec, Failure, GenerateRequest
from executor.engines.prompts import checked_prompt_tokens, prompt_text
from executor.engines.rungs import Rung
from planner.ir.tokens import estimate_tokens

#: What shall befall a call: a failure, a delay in seconds, or nothing.
Fault = Failure | float | None


def no_fault(_: GenerateRequest) -> Fault:
    return None


class Scripted:
    """Body of the `Engine` port. A call gives way to the loop once, and is answered; usage is estimated.

    `faults` is asked of every call first, so that a test or a demo can slow the engine or let it fail.
    """

    def __init__(
        self,
        spec: EngineSpec,
        answers: Answers,
        *,
        faults: Callable[[GenerateRequest], Fault] = no_fault,
        clock: Clock | None = None,
    ) -> None:
        self._spec = spec
        self._answers = answers
        self._faults = faults
        self._clock = clock or WallClock()
        self._closed = False

    @property
    def spec(self) -> EngineSpec:
        return self._spec

    async def generate(self, request: GenerateRequest) -> Completion:
        if self._closed:
            raise closed(self._spec)
        estimated = estimate_tokens(prompt_text(request.messages, request.tools))
        tokens = checked_prompt_tokens(self._spec, request, estimated, self._spec.context_tokens)
        await self._suffer(request)
        return completion_of(request, self._answers.answer(request), tokens)

    async def probe(self) -> EngineHealth:
        detail = "closed" if self._closed else ""
        ready, context_tokens = not self._closed, self._spec.context_tokens
        return EngineHealth(ready, self._spec.served, context_tokens, "scripted", detail, rung=Rung.NOTHING)

    async def close(self) -> None:
        self._closed = True

    async def _suffer(self, request: GenerateRequest) -> None:
        fault = self._faults(request)
        if isinstance(fault, Failure):
            raise EngineFailed(fault)
        if fault is None:
            await asyncio.sleep(0)
            return
        await self._clock.sleep(min(fault, request.timeout_s))
        if fault >= request.timeout_s:
            raise timed_out(request.timeout_s)
