"""Measuring an engine through the ordinary port: a designed set of calls, run in turns until the time is used up."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from executor.clock import Clock
from executor.engines.model.trials import Ask, Trial, TrialRun
from executor.engines.port import Engine, EngineFailed, GenerateRequest, Usage
from executor.engines.prompts import prompt_text
from planner.ir.plan import Sampling
from planner.ir.values import Json

_ROUNDS = 7  # after so many, a median is as good as it gets
_CALL_S = 120.0
_TRIES = 3
_VOCABULARY = """
    table column order customer price total count select where group join date city name value index query plan engine
    batch prefix cache token stage program result answer question schema database river mountain garden the of and to in
    is that for it as was with be by on not he his but at are this have from or had an they which one you were her
"""
_PROBED_CHARACTERS = 1500

#: What the calls of a stream took, and the characters of their prompts.
_Calls = list[tuple[Usage, int]]


@dataclass(frozen=True, slots=True)
class Measuring:
    """What measuring needs. `model` is a name the engine's spec knows; `random` makes the prompts, and must not be one
    that made prompts for this engine before: a prompt it still knows costs it nothing.

    `min_tokens` is whether the engine knows how to be kept from stopping early; else answers end where they end.
    """

    engine: Engine
    model: str
    clock: Clock
    random: Random
    min_tokens: bool = True


async def run_trials(measuring: Measuring, trials: Sequence[Trial], budget_s: float) -> list[TrialRun]:
    """Every trial at least once, and all in turns up to seven times while the next round fits into `budget_s`.

    Raises `EngineFailed` as the engine does.
    """
    began = measuring.clock.now()
    tokens_a_word = await _tokens_a_word(measuring)
    runs: list[TrialRun] = []
    for _ in range(_ROUNDS):
        round_began = measuring.clock.now()
        runs.extend([await _run_trial(measuring, trial, tokens_a_word) for trial in trials])
        now = measuring.clock.now()
        if now - began + (now - round_began) > budget_s:
            break
    return runs


async def _tokens_a_word(measuring: Measuring) -> float:
    """Of this engine's tokenizer. The calls also wake up what an engine starts only when first asked."""
    words = _text(measuring.random, _PROBED_CHARACTERS // 6)
    short, _ = await _call(measuring, "a", 1)
    long, _ = await _call(measuring, words, 1)
    await asyncio.gather(*(_call(measuring, _text(measuring.random, 10), 8) for _ in range(8)))
    return max(0.25, (long.prompt_tokens - short.prompt_tokens) / len(words.split()))


async def _run_trial(measuring: Measuring, trial: Trial, tokens_a_word: float) -> TrialRun:
    """With new prompts, once more where a call failed: a server may close a connection just when it is used again."""
    for _ in range(_TRIES - 1):
        with suppress(EngineFailed):
            return await _try_trial(measuring, trial, tokens_a_word)
    return await _try_trial(measuring, trial, tokens_a_word)


async def _try_trial(measuring: Measuring, trial: Trial, tokens_a_word: float) -> TrialRun:
    shared = {ask.shared_tokens for stream in trial.streams for ask in stream if ask.shared_tokens}
    prefix = _text(measuring.random, int(max(shared, default=0) / tokens_a_word))
    texts = [[_prompt(measuring.random, ask, prefix, tokens_a_word) for ask in stream] for stream in trial.streams]
    began = measuring.clock.now()
    done = await _all([_stream(measuring, asks, prompts) for asks, prompts in zip(trial.streams, texts, strict=True)])
    seconds = measuring.clock.now() - began - trial.rests_s
    usages = tuple(tuple(usage for usage, _ in stream) for stream in done)
    return TrialRun(trial, usages, tuple(tuple(length for _, length in stream) for stream in done), seconds)


async def _all(streams: Sequence[Coroutine[None, None, _Calls]]) -> list[_Calls]:
    """All of them, or the first failure; nothing runs on after it."""
    tasks = [asyncio.ensure_future(stream) for stream in streams]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stream(measuring: Measuring, asks: Sequence[Ask], prompts: Sequence[str]) -> _Calls:
    done: _Calls = []
    for ask, prompt in zip(asks, prompts, strict=True):
        if ask.rest_s:
            await measuring.clock.sleep(ask.rest_s)
        done.append(await _call(measuring, prompt, ask.output_tokens))
    return done


def _prompt(random: Random, ask: Ask, prefix: str, tokens_a_word: float) -> str:
    own = _text(random, max(2, int((ask.prompt_tokens - ask.shared_tokens) / tokens_a_word)))
    return f"{prefix} {own}" if ask.shared_tokens else own


async def _call(measuring: Measuring, text: str, output_tokens: int) -> tuple[Usage, int]:
    """What the call took, and the characters of its prompt."""
    messages: tuple[Json, ...] = ({"role": "user", "content": text},)
    request = GenerateRequest(
        call_id=f"profile-{measuring.random.getrandbits(64):016x}",
        program="profile",
        model=measuring.model,
        messages=messages,
        sampling=Sampling(max_tokens=output_tokens, temperature=0.0),
        timeout_s=_CALL_S,
        min_tokens=output_tokens if measuring.min_tokens else 0,
    )
    completion = await measuring.engine.generate(request)
    return completion.usage, len(prompt_text(messages))


def _text(random: Random, words: int) -> str:
    """Begins with a number of its own, so that no two texts share a prefix."""
    return " ".join([str(random.getrandbits(40)), *random.choices(_VOCABULARY.split(), k=words)])
