"""A job's prompts in the tokens of the engines that are named, for EXPLAIN: as exact as is cheap."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from executor.engines.open import open_engine
from executor.engines.port import EngineSpec
from executor.tokenization.counting import Counted, count_tokens
from executor.tokenization.open import block_tokens_of, engine_tokenizers, folder_tokenizers
from executor.tokenization.port import NotTokenized, Tokenize
from halo.priced_fleet import Fleet
from planner.cost.experience import NO_EXPERIENCE, Experience
from planner.foretell import Forecast, foretell
from planner.job import JobPart, JobPlan
from planner.prefix.texts import Cut


async def count_prompts(
    parts: Sequence[JobPart], job_plan: JobPlan, specs: Sequence[EngineSpec], environ: Mapping[str, str] = os.environ
) -> Counted:
    """Prompts known before the run by the tokenizer that a fleet file names for a model, else by its vLLM server.

    Where neither can be had, the parts as they are: estimated. Calls no model. Raises `FleetInvalid`.
    """
    specs = [await _with_models(spec) for spec in specs]
    try:
        async with engine_tokenizers(specs, environ) as asked:
            in_folders = await asyncio.to_thread(folder_tokenizers, specs)
            tokenizers: dict[str, Tokenize] = {**asked, **in_folders}
            told = {model: await tokenizer.cache() for model, tokenizer in asked.items()}
            caches = {model: cache for model, cache in told.items() if cache}
            block_tokens = min((cache.block_tokens for cache in caches.values()), default=block_tokens_of(specs))
            counted = await count_tokens(parts, job_plan, tokenizers, block_tokens)
            room = {model: float(cache.kv_tokens) for model, cache in caches.items() if cache.kv_tokens}
            return replace(counted, kv_tokens=room)
    except NotTokenized as problem:
        return Counted(tuple(parts), Cut(block_tokens_of(specs)), str(problem))


def foretell_counted(
    part: JobPart, job_plan: JobPlan, fleet: Fleet, counted: Counted | None, experience: Experience = NO_EXPERIENCE
) -> Forecast:
    """The forecast for the fleet, by what `count_prompts` told of the part; estimated where it was not asked."""
    forecast = partial(foretell, [part], fleet.engines, fleet.origin, job_plan=job_plan, experience=experience)
    if counted is None:
        return forecast()
    return forecast(counted=counted.parts, cut=counted.cut, kv_tokens=counted.kv_tokens)


async def _with_models(spec: EngineSpec) -> EngineSpec:
    if spec.models:
        return spec
    engine = open_engine(spec)
    health = await engine.probe()
    await engine.close()
    return replace(spec, models=health.bases, adapters=health.adapters)
