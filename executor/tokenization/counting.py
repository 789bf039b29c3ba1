"""The prompts of a planned job in an engine's own tokens, as far as that is cheap."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from executor.tokenization.port import NotTokenized, Tokenize
from planner.ir.plan import Plan
from planner.ir.values import Json
from planner.job import JobPart, JobPlan
from planner.optimize import optimize
from planner.prefix.blocks import StageBlocks
from planner.prefix.known import KnownPrompts, known_prompts
from planner.prefix.texts import BLOCK_TOKENS, Cut
from planner.table import Table

log = structlog.get_logger(__name__)

#: Up to so many prompts a tokenizer is asked for each; beyond, a sample says how long tokens are.
COUNTED_PROMPTS = 1000
SAMPLED_PROMPTS = 64


@dataclass(frozen=True, slots=True)
class Counted:
    """The parts with `token_blocks` where all prompts of a stage were counted; `cut` is for the others.

    `kv_tokens` is the room of an engine of each model that told. `problem` says why nothing was counted, where a
    tokenizer was asked for and not had.
    """

    parts: tuple[JobPart, ...]
    cut: Cut
    problem: str = ""
    kv_tokens: Mapping[str, float] = field(default_factory=dict)


async def count_tokens(
    parts: Sequence[JobPart],
    job_plan: JobPlan,
    tokenizers: Mapping[str, Tokenize],
    block_tokens: int = BLOCK_TOKENS,
    at_most: int = COUNTED_PROMPTS,
) -> Counted:
    """Prompts as `job_plan` has them, in the tokens of their models. `tokenizers` has a body for each model, or none.

    Stages are counted in the order of the plan while no more than `at_most` prompts are asked for. Raises
    `NotTokenized`.
    """
    counted: list[JobPart] = []
    left, sizes = at_most, _Sizes()
    for part, planned in zip(parts, job_plan.parts, strict=True):
        blocks: dict[str, StageBlocks] = {}
        for known in known_prompts(planned.plan, part.table, tokenizers):
            if len(known.messages) > left:
                await sizes.sample(known, tokenizers[known.model])
                continue
            tokens = await tokenizers[known.model](known.messages)
            sizes.add(known.messages, sum(map(len, tokens)))
            blocks[known.path] = known.as_blocks(tokens, block_tokens)
            left -= len(known.messages)
        counted.append(replace(part, token_blocks=blocks))
    return Counted(tuple(counted), Cut(block_tokens, sizes.chars_per_token))


class PromptCounter:
    """Counts a job's prompts before it is planned. A tokenizer that fails is done without: texts are cut instead."""

    def __init__(self, tokenizers: Mapping[str, Tokenize], block_tokens: int = BLOCK_TOKENS) -> None:
        self._tokenizers = tokenizers
        self._block_tokens = block_tokens

    async def count(self, plan: Plan, table: Table) -> Counted:
        """The one part, with the prompts of the plan as it will be run."""
        part = JobPart(plan, table)
        job_plan = await asyncio.to_thread(optimize, [part])
        try:
            counted = await count_tokens([part], job_plan, self._tokenizers, self._block_tokens)
        except NotTokenized as problem:
            log.warning("prompts are not counted in tokens", reason=str(problem))
            return Counted((part,), Cut(self._block_tokens), str(problem))
        return counted


class _Sizes:
    """How many characters the prompts have that were counted, and how many tokens."""

    def __init__(self) -> None:
        self._chars = self._tokens = 0

    async def sample(self, known: KnownPrompts, tokenize: Tokenize) -> None:
        """Of prompts from all over the job: neighbours may be alike."""
        messages = known.messages[:: -(-len(known.messages) // SAMPLED_PROMPTS)]
        self.add(messages, sum(map(len, await tokenize(messages))))

    def add(self, prompts: Sequence[Sequence[Json]], tokens: int) -> None:
        self._chars += sum(len(message["content"]) for prompt in prompts for message in prompt)
        self._tokens += tokens

    @property
    def chars_per_token(self) -> float:
        return self._chars / self._tokens if self._chars and self._tokens else Cut().chars_per_token
