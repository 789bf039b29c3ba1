"""Programs in a closed loop through Halo's door, on real engines that share a KV tier."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from random import Random

from benchmarks.kv.tier_engines import tier_recipe
from benchmarks.one_process import in_one_process
from executor.clock import WallClock
from executor.door.reading import COMPLETIONS
from executor.drivers.door import Asked, Door
from executor.engines.local_recipe import EngineRecipe
from executor.engines.local_vllm import LocalVllm
from executor.engines.open import open_engine, open_upstream
from executor.engines.port import EngineSpec
from kvstore.memory_state import MemoryStates
from planner.ir.ids import EngineId
from planner.ir.values import Json

#: Room for five long programs.
KV_BLOCKS = 2048
CONTEXT_TOKENS = 16_352
CAPACITY_GIB = 2.0
TIER = "migration"
_VOCABULARY = (3, 2_000)


@dataclass(frozen=True, slots=True)
class Turn:
    """One call: what the turn adds to the conversation, how long its answer is, and how long its tool takes then."""

    new_tokens: int
    answer_tokens: int
    tool_s: float


@dataclass(frozen=True, slots=True)
class AgentProgram:
    """Begins `arrives_s` after the load does. A name of its own, so that its prompts are like no other's."""

    name: str
    arrives_s: float
    turns: tuple[Turn, ...]

    @property
    def tokens_read(self) -> int:
        """Those that its answers look back at: what engines with long contexts are busy with."""
        said = accumulate(turn.new_tokens + turn.answer_tokens for turn in self.turns)
        return sum(context * turn.answer_tokens for context, turn in zip(said, self.turns, strict=True))


@dataclass(frozen=True, slots=True)
class Ran:
    """One program: from its arrival to the end of its last turn, where each turn ran and how long, what was cached."""

    name: str
    arrives_s: float
    seconds: float
    engines: tuple[str, ...]
    turns_s: tuple[float, ...]
    prompt_tokens: int
    cached_tokens: int

    @property
    def moves(self) -> int:
        return sum(one != other for one, other in zip(self.engines, self.engines[1:], strict=False))


@asynccontextmanager
async def engines_with_tier(
    folder: Path, cores: Sequence[int], kv_blocks: int = KV_BLOCKS
) -> AsyncIterator[list[EngineSpec]]:
    """One engine of `kv_blocks` on each of the cores, with a tier in `folder`; stopped at the end.

    All of an engine is on its core, with its steps in one process: free to spin where they like, the processes of one
    busy engine take a second core, and those of two take time from each other, as on hosts of their own they never
    would.
    """
    recipes = [_recipe(core, folder, kv_blocks) for core in cores]
    children = [LocalVllm(recipe) for recipe in recipes]
    try:
        await asyncio.gather(*(child.start() for child in children))
        yield [_spec(number, recipe, kv_blocks) for number, recipe in enumerate(recipes)]
    finally:
        await asyncio.gather(*(child.stop() for child in children))


async def run_load(places: Sequence[tuple[AgentProgram, Door]], salt: str) -> list[Ran]:
    """Each program through its door. KV is shared within a `salt` only."""
    begun = time.monotonic()
    return list(await asyncio.gather(*(_run(program, door, salt, begun) for program, door in places)))


@asynccontextmanager
async def doors_on(fleets: Sequence[Sequence[EngineSpec]]) -> AsyncIterator[list[Door]]:
    """A door in front of each fleet."""
    async with AsyncExitStack() as stack:
        doors = []
        for specs in fleets:
            engines = [open_engine(spec) for spec in specs]
            for engine in engines:
                stack.push_async_callback(engine.close)
            upstreams = {engine.spec.id: open_upstream(engine) for engine in engines}
            doors.append(await stack.enter_async_context(Door(engines, upstreams, MemoryStates(), WallClock())))
        yield doors


async def tier_gb_per_s(specs: Sequence[EngineSpec], kv_bytes_per_token: float, context: int = 6000) -> float:
    """How fast the second engine takes a conversation of the first from the tier: its time to the answer's end, less
    that of a prompt as short as what the turn adds."""
    async with doors_on([[spec] for spec in specs]) as (first, second):
        taken = []
        for number in range(4):  # the first warms up
            prompt = _tokens(Random(f"tier {number}"), context)
            await _ask(first, prompt, 1, f"tier {number}", "tier")
            await asyncio.sleep(1.0)  # blocks are written when the request is done
            new = _tokens(Random(f"new {number}"), 64)
            loaded = await _ask(second, [*prompt, *new], 1, f"tier {number}", "tier")
            short = await _ask(second, new, 1, f"short {number}", "tier")
            taken.append(max(1e-3, loaded.seconds - short.seconds) / max(1, loaded.cached_tokens))
        return kv_bytes_per_token / sorted(taken[1:])[1] / 1e9


@dataclass(frozen=True, slots=True)
class _Answer:
    tokens: tuple[int, ...]
    engine: str
    seconds: float
    prompt_tokens: int
    cached_tokens: int


class _Collected:
    """Body of the `Sink` port that keeps what comes."""

    def __init__(self) -> None:
        self.headers: Mapping[str, str] = {}
        self.status = 0
        self._parts: list[bytes] = []

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.status, self.headers = status, headers

    async def write(self, part: bytes) -> None:
        self._parts.append(part)

    def told(self) -> Json:
        return json.loads(b"".join(self._parts))


async def _run(program: AgentProgram, door: Door, salt: str, begun: float) -> Ran:
    await asyncio.sleep(begun + program.arrives_s - time.monotonic())
    draw, said = Random(program.name), list[int]()
    answers: list[_Answer] = []
    for turn in program.turns:
        said += _tokens(draw, turn.new_tokens)
        answer = await _ask(door, said, turn.answer_tokens, salt, program.name)
        answers.append(answer)
        said += answer.tokens
        await asyncio.sleep(turn.tool_s if turn is not program.turns[-1] else 0.0)
    return Ran(
        program.name,
        program.arrives_s,
        time.monotonic() - begun - program.arrives_s,
        tuple(answer.engine for answer in answers),
        tuple(answer.seconds for answer in answers),
        sum(answer.prompt_tokens for answer in answers),
        sum(answer.cached_tokens for answer in answers),
    )


async def _ask(door: Door, prompt: Sequence[int], answer_tokens: int, salt: str, session: str) -> _Answer:
    body: dict[str, Json] = {
        **{"model": "tiny-llama", "prompt": list(prompt), "max_tokens": answer_tokens, "cache_salt": salt},
        **{"temperature": 0, "ignore_eos": True, "return_token_ids": True, "session_id": f"{salt} {session}"},
    }
    sink, begun = _Collected(), time.monotonic()
    await door.answer(Asked("benchmark", COMPLETIONS, body, {}), sink)
    told = sink.told()
    assert sink.status == 200, told
    usage = told["usage"]
    return _Answer(
        tuple(told["choices"][0]["token_ids"]),
        sink.headers["X-Halo-Engine"],
        time.monotonic() - begun,
        usage["prompt_tokens"],
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
    )


def _recipe(core: int, folder: Path, kv_blocks: int) -> EngineRecipe:
    recipe = tier_recipe(core, folder, CAPACITY_GIB)
    return in_one_process(replace(recipe, kv_blocks=kv_blocks, context_tokens=CONTEXT_TOKENS), (core,))


def _spec(number: int, recipe: EngineRecipe, kv_blocks: int) -> EngineSpec:
    return EngineSpec(
        EngineId(f"engine-{number}"),
        "vllm",
        (recipe.served_name,),
        url=recipe.url,
        gpu="cpu",
        max_running=recipe.max_running,
        context_tokens=recipe.context_tokens,
        kv_tokens=kv_blocks * recipe.block_tokens,
        kv_tier=TIER,
        kv_tier_gib=CAPACITY_GIB,
    )


def _tokens(draw: Random, count: int) -> list[int]:
    return [draw.randrange(*_VOCABULARY) for _ in range(count)]
