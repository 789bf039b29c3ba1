"""The KV tier: how soon a program's next turn begins on another engine, and after its KV was evicted.

    python -m benchmarks.kv.tier [--context 3000] [--new 100] [--rounds 5] [--out FILE.json]

Two CPU engines share a tier. A conversation of `context` tokens was answered by the first; its next turn adds `new`
tokens. `migrated`: the turn runs on the second engine. `evicted`: on the first, after other prompts took all of its KV.
`here`: on the first at once, from its own KV. Beside `migrated` and `evicted`, the very same prompt runs under another
tenant's salt, which finds nothing: `cold`. Who goes first alternates by round; each round has prompts of its own.
`loaded` are the tokens the engine says it took from the tier. Needs `make engine` and a quiet machine.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from benchmarks.intervals import median_interval, ratio_interval
from benchmarks.kv.tier_engines import BLOCK_TOKENS, KV_BLOCKS, Answer, TierEngine, tier_engines, tier_recipe

ANSWER_TOKENS = 16
#: A tool runs so long between two turns.
TOOL_S = 0.5
FILL_TOKENS = 4_000
SHARED_MEMORY = Path("/dev/shm")
CAPACITY_GIB = 1.0
TARGETS = {"migrated": 3.0, "evicted": 4.0}


@dataclass(frozen=True, slots=True)
class Turn:
    """One way to begin a next turn, and the same turn without any KV."""

    arm: str
    round: int
    warm: Answer
    cold: Answer | None = None

    @property
    def same(self) -> bool:
        return self.cold is None or self.warm.tokens == self.cold.tokens


def main() -> None:
    arguments = _arguments()
    turns = asyncio.run(measure(arguments.context, arguments.new, arguments.rounds))
    report = summarise(turns, arguments.context, arguments.new)
    print("\n".join(table(report)))
    print(json.dumps(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report | {"turns": [asdict(turn) for turn in turns]}, indent=1))


async def measure(context: int, new: int, rounds: int) -> list[Turn]:
    with tempfile.TemporaryDirectory(prefix="halo-kv-", dir=SHARED_MEMORY) as folder:
        recipes = [tier_recipe(core, Path(folder), CAPACITY_GIB) for core in (0, 1)]
        async with tier_engines(recipes) as (first, second):
            lab = _Lab(first, second, context, new)
            await lab.round(-1)  # warms up
            return [turn for number in range(rounds) for turn in await lab.round(number)]


class _Lab:
    def __init__(self, first: TierEngine, second: TierEngine, context: int, new: int) -> None:
        self._first, self._second, self._context, self._new = first, second, context, new

    async def round(self, number: int) -> list[Turn]:
        draw = Random(f"round {number}")
        here = Turn("here", number, await self._first.ask(await self._talk(draw), "us", ANSWER_TOKENS))
        migrated = await self._beside_cold("migrated", number, self._second, await self._talk(draw))
        talk = await self._talk(draw)
        await self._take_all_kv(draw)
        return [here, migrated, await self._beside_cold("evicted", number, self._first, talk)]

    async def _talk(self, draw: Random) -> list[int]:
        """The next prompt of a conversation whose last turn the first engine answered."""
        prompt = _tokens(draw, self._context - ANSWER_TOKENS)
        answer = await self._first.ask(prompt, "us", ANSWER_TOKENS)
        await asyncio.sleep(TOOL_S)
        return [*prompt, *answer.tokens, *_tokens(draw, self._new)]

    async def _take_all_kv(self, draw: Random) -> None:
        for _ in range(KV_BLOCKS * BLOCK_TOKENS // FILL_TOKENS + 1):
            await self._first.ask(_tokens(draw, FILL_TOKENS), "others", 1)
        await asyncio.sleep(TOOL_S)

    async def _beside_cold(self, arm: str, number: int, engine: TierEngine, prompt: Sequence[int]) -> Turn:
        if number % 2:
            cold = await engine.ask(prompt, f"{arm} {number}", ANSWER_TOKENS)
            return Turn(arm, number, await engine.ask(prompt, "us", ANSWER_TOKENS), cold)
        warm = await engine.ask(prompt, "us", ANSWER_TOKENS)
        return Turn(arm, number, warm, await engine.ask(prompt, f"{arm} {number}", ANSWER_TOKENS))


def summarise(turns: Sequence[Turn], context: int, new: int) -> dict[str, object]:
    arms = {arm: _arm([turn for turn in turns if turn.arm == arm]) for arm in ("here", "migrated", "evicted")}
    return {"context_tokens": context, "new_tokens": new, "arms": arms}


def _arm(turns: Sequence[Turn]) -> dict[str, object]:
    warm = [turn.warm.ttft_s for turn in turns]
    pairs = [(turn.cold.ttft_s, turn.warm.ttft_s) for turn in turns if turn.cold is not None]
    figures: dict[str, object] = {
        "rounds": len(turns),
        "ttft_s": statistics.median(warm),
        "ttft_s_interval": median_interval(warm),
        "loaded_tokens": statistics.median(turn.warm.loaded_tokens for turn in turns),
        "same_answers": sum(turn.same for turn in turns),
    }
    if not pairs:
        return figures
    return figures | {
        "cold_ttft_s": statistics.median(cold for cold, _ in pairs),
        "cold_loaded_tokens": max(turn.cold.loaded_tokens for turn in turns if turn.cold is not None),
        "times_sooner": ratio_interval(pairs),
        "target": TARGETS[turns[0].arm],
    }


def table(report: dict[str, object]) -> list[str]:
    arms = report["arms"]
    assert isinstance(arms, dict)
    head = (
        f"{'next turn':<10} {'TTFT':>8} {'cold':>8} {'sooner':>7} {'95 %':>13} {'target':>7} {'loaded':>7} {'same':>6}"
    )
    return [head, *(_line(arm, figures) for arm, figures in arms.items())]


def _line(arm: str, figures: dict[str, object]) -> str:
    start = f"{arm:<10} {_ms(figures['ttft_s']):>8}"
    end = f"{figures['loaded_tokens']:>7,.0f} {figures['same_answers']:>3}/{figures['rounds']}"
    if "times_sooner" not in figures:
        return f"{start} {'':>8} {'':>7} {'':>13} {'':>7} {end}"
    sooner, low, high = figures["times_sooner"]  # type: ignore[misc]
    interval = f"{low:.1f} .. {high:.1f}"
    return f"{start} {_ms(figures['cold_ttft_s']):>8} {sooner:>6.1f}x {interval:>13} {figures['target']:>6.1f}x {end}"


def _ms(seconds: object) -> str:
    assert isinstance(seconds, float)
    return f"{seconds * 1000:.0f} ms"


def _tokens(draw: Random, count: int) -> list[int]:
    return [draw.randrange(3, 2_000) for _ in range(count)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=3_000, help="tokens of the conversation so far")
    parser.add_argument("--new", type=int, default=100, help="tokens the turn adds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
