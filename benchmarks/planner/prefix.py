"""Shared prefixes on a small KV cache: Halo's order against a plain client's, on the real CPU vLLM.

    python -m benchmarks.planner.prefix [--prefixes 10] [--suffixes 40] [--rounds 5] [--out FILE.json]
    python -m benchmarks.planner.prefix --mooncake ../shared/data/mooncake_fast25 [--out FILE.json]

Prompts are `prefixes` long beginnings x `suffixes` short ends, in a random order. Arms, interleaved, each round with
prefixes of its own so that no cache outlives it: `client` sends them as they come, with vLLM's prefix cache on and the
concurrency that was best for it in a trial; `sorted` is the same client with its prompts sorted; `halo` runs the job;
`client again` is the noise. `prefilled` counts prompt tokens the engine computed; `optimum` is the least it could: each
block of the prefix tree of all prompts once, in the engine's own tokens and blocks. Needs `make engine`.

With `--mooncake`, no engine: what the traces in that folder share (see `prefix_traces`).
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import halo
from benchmarks.planner.prefix_traces import measure_trace, trace_lines, trace_report
from executor.engines.local_recipe import recipe_in
from executor.engines.local_vllm import LocalVllm
from executor.engines.port import EngineSpec, GenerateRequest, Usage
from executor.engines.vllm_http import VllmHttp
from executor.store.jobs import NewJob
from executor.tokenization.vllm import VllmTokenizer
from halo.wiring import open_runtime
from planner.ir.codec import encode
from planner.ir.ids import JobId
from planner.ir.plan import Sampling
from planner.ir.values import Json
from planner.prefix.blocks import token_blocks
from planner.prefix.tree import PrefixTree

ROOT = Path(__file__).resolve().parents[2]
MODEL = "tiny-llama"
ANSWER_TOKENS = 8
#: 4,096 tokens of context and a little over that of KV: room for two or three of the prefixes.
CONTEXT_TOKENS, BLOCK_TOKENS, KV_BLOCKS = 4096, 32, 136
CONCURRENCIES = (4, 8, 16, 32)

Row = dict[str, Json]


@halo.llm(model=MODEL, max_tokens=ANSWER_TOKENS)
def answer(document: str, question: str) -> str:
    return f"{document}\n\n{question}"


@halo.workflow
def ask(document: str, question: str) -> str:
    return answer(document, question)


@dataclass(frozen=True, slots=True)
class Run:
    arm: str
    round: int
    seconds: float
    prompt_tokens: int
    prefilled_tokens: int
    optimum_tokens: float


def main() -> None:
    arguments = _arguments()
    if arguments.mooncake:
        return _measure_traces(arguments.mooncake, arguments.out)
    runs = asyncio.run(measure(arguments.prefixes, arguments.suffixes, arguments.rounds))
    report = summarise(runs, arguments.prefixes, arguments.suffixes)
    for line in table(report):
        print(line)
    print(json.dumps(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report | {"runs": [asdict(run) for run in runs]}, indent=1))
    return None


def _measure_traces(folder: Path, out: Path | None) -> None:
    savings = [measure_trace(path) for path in sorted(folder.glob("*.jsonl"))]
    for saving in savings:
        print("\n".join(trace_lines(saving)))
    print(json.dumps(trace_report(savings)))
    if out:
        out.write_text(json.dumps(trace_report(savings), indent=1))


async def measure(prefixes: int, suffixes: int, rounds: int) -> list[Run]:
    recipe = replace(recipe_in(ROOT), context_tokens=CONTEXT_TOKENS, block_tokens=BLOCK_TOKENS, kv_blocks=KV_BLOCKS)
    async with LocalVllm(recipe) as engine:
        spec = replace(engine.spec, max_running=16, context_tokens=CONTEXT_TOKENS)
        await _client(spec, make_rows("warm-up", 2, 4), 8)
        concurrency = await _best_concurrency(spec, prefixes, max(2, suffixes // 8))
        arms: dict[str, Callable[[Sequence[Row]], Awaitable[Usage]]] = {
            "client": lambda rows: _client(spec, rows, concurrency),
            "sorted": lambda rows: _client(spec, sorted(rows, key=str), concurrency),
            "halo": lambda rows: _halo(spec, rows),
            "client again": lambda rows: _client(spec, rows, concurrency),
        }
        runs = []
        for number in range(rounds):
            order = list(arms) if number % 2 == 0 else list(reversed(arms))
            for arm in order:
                rows = make_rows(f"{number} {arm}", prefixes, suffixes)
                optimum = await _optimum_tokens(spec, rows)
                begun = time.perf_counter()
                usage = await arms[arm](rows)
                seconds = time.perf_counter() - begun
                prefilled = usage.prompt_tokens - usage.cached_tokens
                runs.append(Run(arm, number, seconds, usage.prompt_tokens, prefilled, optimum))
        return runs


def make_rows(name: str, prefixes: int, suffixes: int, words: int = 560) -> list[Row]:
    """Rows in a random order that depends on `name`, as the texts do."""
    random = Random(name)
    documents = [f"{name} {number} " + _words(random, words) for number in range(prefixes)]
    rows: list[Row] = [
        {"document": document, "question": _words(random, 20)} for document in documents for _ in range(suffixes)
    ]
    random.shuffle(rows)
    return rows


def summarise(runs: Sequence[Run], prefixes: int, suffixes: int) -> dict[str, Json]:
    """Medians over the rounds; ratios are of the same round."""
    by_arm: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.round):
        by_arm.setdefault(run.arm, []).append(run)
    base = [run.seconds for run in by_arm["client"]]
    arms = {}
    for arm, of_arm in by_arm.items():
        ratios = [plain / run.seconds for plain, run in zip(base, of_arm, strict=True)]
        arms[arm] = {
            "seconds": statistics.median(run.seconds for run in of_arm),
            "speedup": statistics.median(ratios),
            "speedup_range": [min(ratios), max(ratios)],
            "prefilled_tokens": statistics.median(run.prefilled_tokens for run in of_arm),
            "prompt_tokens": statistics.median(run.prompt_tokens for run in of_arm),
            "optimum_tokens": statistics.median(run.optimum_tokens for run in of_arm),
            "over_optimum": statistics.median(run.prefilled_tokens / run.optimum_tokens - 1 for run in of_arm),
        }
    return {"prefixes": prefixes, "suffixes": suffixes, "rounds": len(base), "arms": arms}


def table(report: dict[str, Json]) -> list[str]:
    head = f"{'arm':>12}  seconds  speed-up  (range)          prefilled   optimum  over it  of prompt tokens"
    lines = [f"{report['prefixes']} prefixes x {report['suffixes']} suffixes, {report['rounds']} rounds", head]
    for arm, found in report["arms"].items():
        low, high = found["speedup_range"]
        lines.append(
            f"{arm:>12}  {found['seconds']:7.1f}  {found['speedup']:8.2f}  ({low:.2f}..{high:.2f})"
            f"  {found['prefilled_tokens']:14,.0f}  {found['optimum_tokens']:8,.0f}  {found['over_optimum']:7.1%}"
            f"  {found['prompt_tokens']:,.0f}"
        )
    return lines


async def _best_concurrency(spec: EngineSpec, prefixes: int, suffixes: int) -> int:
    seconds = {}
    for concurrency in CONCURRENCIES:
        begun = time.perf_counter()
        await _client(spec, make_rows(f"trial {concurrency}", prefixes, suffixes), concurrency)
        seconds[concurrency] = time.perf_counter() - begun
    return min(seconds, key=lambda concurrency: seconds[concurrency])


async def _client(spec: EngineSpec, rows: Sequence[Row], concurrency: int) -> Usage:
    """A plain asynchronous client: so many calls at once, in the order of the rows."""
    engine, free = VllmHttp(spec), asyncio.Semaphore(concurrency)

    async def call(number: int, row: Row) -> Usage:
        request = GenerateRequest(str(number), "client", MODEL, _messages(row), Sampling(max_tokens=ANSWER_TOKENS))
        async with free:
            return (await engine.generate(request)).usage

    usages = await asyncio.gather(*(call(number, row) for number, row in enumerate(rows)))
    await engine.close()
    return Usage(sum(usage.prompt_tokens for usage in usages), 0, sum(usage.cached_tokens for usage in usages))


def _messages(row: Row) -> tuple[Json, ...]:
    """What `answer` sends."""
    return ({"role": "user", "content": f"{row['document']}\n\n{row['question']}"},)


async def _optimum_tokens(spec: EngineSpec, rows: Sequence[Row]) -> float:
    """What the engine must compute of these prompts at least, by its own tokenizer and in its own blocks."""
    async with VllmTokenizer(spec.url, MODEL) as tokenize:
        tokens = await tokenize([_messages(row) for row in rows])
        cache = await tokenize.cache()
    assert cache is not None
    return PrefixTree(token_blocks(tokens, cache.block_tokens)).distinct_tokens


async def _halo(spec: EngineSpec, rows: Sequence[Row]) -> Usage:
    async with open_runtime([spec], ask.tools) as runtime:
        await runtime.store.create_job(NewJob(JobId("prefix"), ask.name, encode(ask.plan), rows))
        claim = await runtime.store.claim("benchmark", 3600.0)
        assert claim is not None
        await runtime.driver.run(claim)
        usage = await runtime.store.usage(claim.job)
    return Usage(usage["prompt_tokens"], usage["output_tokens"], usage["cached_tokens"])


def _words(random: Random, count: int) -> str:
    words = _VOCABULARY.split()
    return " ".join(random.choice(words) for _ in range(count))


_VOCABULARY = """
    table column order customer price total count select where group join date city name value index query plan engine
    batch prefix cache token stage program result answer question schema database river mountain garden
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefixes", type=int, default=10)
    parser.add_argument("--suffixes", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mooncake", type=Path, metavar="FOLDER", help="measure the traces there, not an engine")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
