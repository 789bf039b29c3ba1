"""The ladder of `benchmarks.kv` on one CUDA GPU: a Llama of 8 billion parameters' shape, its weights made up.

    python -m benchmarks.gpu.ladder [--loads 1.25,1.5] [--rounds 5] [--minutes 60] [--kv-gib 16] [--out FILE.json]
    python -m benchmarks.gpu.ladder --dry-run

The same arms, traces and rounds. Prompts are token ids, answers have fixed lengths, so that made-up weights cost what
real ones do. `--kv-gib` bounds the KV cache: with less of it, fewer programs make it scarce. Flags are vLLM's own
unless `--sweep` or `--flags` is given. Each arm is an engine of its own; `--alive` of them share the GPU, one under
load at a time, and others are started anew whenever their turn comes.

`--dry-run` needs no GPU: it makes the model folder, draws all programs, says what does not fit, prints every command,
and runs the ladder itself on a small plan in virtual time where a vLLM can be imported.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gpu.card import Card, card_of
from benchmarks.gpu.recipe import GpuEngine, problems, size_of, stock_flags, unable
from benchmarks.gpu.shape import LLAMA_31_8B, write_model
from benchmarks.gpu.unpack import ENVIRONMENT
from benchmarks.kv.arms import ARMS
from benchmarks.kv.climb import Ladder, Plan
from benchmarks.kv.distributions import Distributions, distributions_in
from benchmarks.kv.lab import CannotRun, Lab
from benchmarks.kv.ladder import DATA, asked_plan, ladder_parser, measure, tell
from benchmarks.kv.ladder_report import read_runs
from benchmarks.kv.real_lab import ROOT, RealLab
from benchmarks.kv.traces import Scale, draw_programs
from benchmarks.kv.virtual_lab import PYTHON, VirtualLab
from executor.engines.local_recipe import command_of
from halo.event_loop import run_async

MODEL, LOGS = ROOT / ".engine" / "llama-8b-shaped", ROOT / ".engine"
#: Of the GPU's memory, for all engines.
MEMORY_SHARE = 0.92
#: Of one H100 with an 8B model.
PREFILL_TOKENS_PER_S = 20_000.0
#: A dry run's load, in KV caches; its cache has room for so many contexts.
DRY_CLOSED, DRY_CONTEXTS, DRY_PROGRAMS = 1.5, 3, 6
DRY_PORT = 8000


@dataclass(frozen=True, slots=True)
class Kit:
    """All that a run needs. Without a `card`, nothing was asked of a machine."""

    plan: Plan
    engine: GpuEngine
    card: Card | None
    alive: int
    known: Distributions

    def skipped(self) -> Iterator[str]:
        yield from (f"arm {name}: {why}" for name in self.plan.arms if (why := unable(ARMS[name], self.card)))

    def able(self) -> Plan:
        return replace(self.plan, arms=[name for name in self.plan.arms if not unable(ARMS[name], self.card)])


def main() -> int:
    arguments = _arguments()
    if arguments.merge:
        tell(read_runs(arguments.merge))
        return 0
    try:
        kit = _kit(arguments)
    except CannotRun as problem:
        print(f"gpu ladder: {problem}", file=sys.stderr)
        return 1
    found = list(problems(kit.engine, kit.card))
    for problem in found:
        print(f"gpu ladder: {problem}", file=sys.stderr)
    if found:
        return 1
    write_model(kit.engine.model)
    return _dry_run(kit) if arguments.dry_run else _run(kit, arguments.out)


def _run(kit: Kit, out: Path | None) -> int:
    assert kit.card is not None
    print(kit.card, flush=True)
    ladder = Ladder(kit.able(), kit.known, out)
    run_async(measure(ladder, RealLab(kit.engine.recipe, kit.alive)))
    tell(ladder.runs, [*kit.skipped(), *ladder.skipped], kit.plan.device)
    return 0


def _dry_run(kit: Kit) -> int:
    """All but the GPU; a vLLM of this machine simulates, if there is one."""
    for line in described(kit):
        print(line)
    python = next((path for path in (kit.engine.python, PYTHON) if _has_vllm(path)), None)
    if python is None:
        print("No vLLM can be imported here: the ladder itself was not run (`make engine` brings one).")
        return 0
    return rehearse(kit, VirtualLab(small_plan(kit).size, python))


def described(kit: Kit) -> Iterator[str]:
    """What would be run, for people."""
    shape, size = LLAMA_31_8B, kit.engine.size
    yield f"model: {shape.parameters:,} parameters, {shape.kv_bytes_per_token / 1024:.0f} KiB of KV a token"
    yield f"KV: {size.kv_blocks:,} blocks, {size.kv_tokens:,} tokens; contexts up to {size.context_tokens:,}"
    yield f"{kit.known.source}; {kit.plan.scale}"
    for trace in kit.plan.traces:
        programs = draw_programs(trace, kit.plan.programs, kit.plan.seed, kit.known, kit.plan.scale)
        longest = max(program.final_tokens for program in programs)
        turns = sum(len(program.turns) for program in programs)
        yield f"{trace}: {len(programs)} programs a round, {turns} turns, the longest context {longest:,} tokens"
        assert longest <= size.context_tokens, "a program would not fit"
    for name in kit.able().arms:
        serving = ARMS[name].serving(kit.plan.flags or kit.plan.stock, kit.plan.stock)
        yield f"{name}: {shlex.join(command_of(kit.engine.recipe(serving, DRY_PORT)))}"
    yield from (f"skipped: {what}" for what in kit.skipped())


def small_plan(kit: Kit) -> Plan:
    """The same arms and traces, once, with few programs and little KV."""
    size = kit.plan.size
    blocks = DRY_CONTEXTS * size.context_tokens // size.block_tokens
    return replace(
        kit.able(),
        size=replace(size, kv_blocks=blocks),
        loads=[],
        closed=[DRY_CLOSED],
        rounds=1,
        programs=DRY_PROGRAMS,
        flags=kit.plan.stock,
    )


def rehearse(kit: Kit, lab: Lab) -> int:
    """The ladder's own code, on a small plan. What it says of speed means nothing. 1 if an arm could not be run."""
    ladder = Ladder(small_plan(kit), kit.known)
    run_async(measure(ladder, lab))
    tell(ladder.runs, [*kit.skipped(), *ladder.skipped], "none: a dry run")
    return 1 if ladder.skipped or any(run.outcome.failed for run in ladder.runs) else 0


def _has_vllm(python: Path) -> bool:
    try:
        card_of(python)
    except CannotRun:
        return False
    return True


def _kit(arguments: argparse.Namespace) -> Kit:
    """Raises `CannotRun` without a vLLM, unless it is a dry run."""
    card = None if arguments.dry_run else card_of(arguments.python)
    scale = Scale(
        tokens=arguments.tokens,
        engine_prefill_tokens_per_s=arguments.prefill_tokens_per_s,
        context_tokens=arguments.context_tokens,
        largest_output_tokens=round(Scale().largest_output_tokens * arguments.tokens / Scale().tokens),
    )
    size = size_of(arguments.kv_gib, scale)
    plan = replace(asked_plan(arguments, size, scale), stock=stock_flags(card), device=str(card or ""))
    plan = plan if plan.flags or arguments.sweep else replace(plan, flags=plan.stock)
    engine = GpuEngine(arguments.python, MODEL, LOGS, size, round(MEMORY_SHARE / arguments.alive, 3))
    return Kit(plan, engine, card, arguments.alive, distributions_in(DATA))


def _arguments() -> argparse.Namespace:
    parser = ladder_parser(__doc__)
    parser.set_defaults(loads=[1.25, 1.5])
    unpacked = ENVIRONMENT / "bin" / "python"
    python = unpacked if unpacked.exists() else Path(sys.executable)
    parser.add_argument("--python", type=Path, default=python, help="the one with vLLM")
    parser.add_argument("--kv-gib", type=float, default=16.0, help="of KV cache, each engine")
    parser.add_argument("--alive", type=int, default=2, help="engines on the GPU side by side, one of them loaded")
    parser.add_argument("--tokens", type=float, default=0.5, help="of the recorded runs' tokens")
    parser.add_argument("--context-tokens", type=int, default=21_000, help="where programs are ended")
    parser.add_argument("--prefill-tokens-per-s", type=float, default=PREFILL_TOKENS_PER_S, help="this GPU's own")
    parser.add_argument("--sweep", action="store_true", help="find the best flags first: about ten engine starts")
    parser.add_argument("--dry-run", action="store_true", help="no GPU: check all, print commands, simulate")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
