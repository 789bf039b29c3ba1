"""What working-set admission in Halo's own queue does to the completion of agents, on an engine that knows of no
programs. Simulated: modelled engine, virtual time, no engine is started; only ratios mean anything.

    python -m benchmarks.kv.queue --rates 0.3 0.8 1.5 3.0 --seeds 3
"""

import argparse
import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from random import Random
from statistics import mean, quantiles

from executor.core.limits import Limits
from executor.core.working_sets import ADMISSION
from executor.drivers.simulated import Arrival, Simulation
from executor.engines.answers import Answer
from executor.engines.port import EngineSpec, GenerateRequest
from halo_vllm.policy.admission import Limits as Admission
from planner.cost.profile import Profile
from planner.ir.conversation import ToolCall
from planner.ir.expressions import Column, Concat
from planner.ir.ids import EngineId, JobId, NodeRef, StageId, job_of
from planner.ir.paths import turn_path
from planner.ir.plan import Agent, Input, Message, Plan, Sampling, ToolSpec
from planner.ir.tokens import CHARS_PER_TOKEN
from planner.ir.values import Json
from planner.table import Table

KV_TOKENS = 24_576
#: Steps of a small model on two CPU cores: 3.5 ms, 0.11 ms a prompt token, 0.43 us a token of context.
PROFILE = Profile(
    gpu="cpu",
    source="a step-cost model fitted to vLLM 0.32 on two cores",
    calibrated=True,
    weights_s=0.0,
    token_s=0.11e-3,
    blend=1.0,
    kv_read_s=0.43e-6,
    attend_s=0.0,
    kv_tokens=KV_TOKENS,
    overhead_s=3.5e-3,
    block_tokens=32,
)
ENGINE = EngineSpec(EngineId("cpu"), "modelled", ("m",), max_running=64, profile=PROFILE, kv_tokens=KV_TOKENS)
TOOL = ToolSpec("look", concurrency=1024)
STAGE = StageId("agent")
PLAN = Plan(
    "agent",
    (Input("task"),),
    (Agent(STAGE, "m", (Message("user", Concat((Column("task"),))),), (TOOL,), 50, Sampling(max_tokens=64)),),
    Column("task"),
)
_MEDIANS_S = (0.25, 0.7, 1.4)
_SPREAD = 0.6


@dataclass(frozen=True, slots=True)
class Program:
    """Lengths in tokens; `gaps_s` are those of its tools, one after each turn but the last."""

    at: float
    prompt_tokens: int
    answers: tuple[int, ...]
    results: tuple[int, ...]
    gaps_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scripted:
    """The `World` of these programs: what each turn answers, and what each tool gives, is drawn beforehand."""

    programs: Mapping[JobId, Program]

    def answer(self, node: NodeRef, request: GenerateRequest) -> Answer:
        program = self._program(node)
        turn = sum(1 for message in request.messages if message.get("role") == "tool")
        calls = (ToolCall(f"{node}", TOOL.name, "{}"),) if turn + 1 < len(program.answers) else ()
        tokens = program.answers[turn]
        return Answer(text(f"{node} ", tokens), calls, tokens)

    async def run_tool(self, node: NodeRef, spec: ToolSpec, arguments: Mapping[str, Json]) -> tuple[Json, float]:
        program = self._program(node)
        turn = next(i for i in range(len(program.answers)) if node.path.startswith(turn_path(STAGE, i) + "/"))
        return text(f"{node} ", program.results[turn]), program.gaps_s[turn]

    def _program(self, node: NodeRef) -> Program:
        return self.programs[job_of(node.program)]


def drawn(count: int, rate: float, seed: int) -> list[Program]:
    """Arrivals are Poisson with `rate` programs a second."""
    random, at, programs = Random(seed), 0.0, []
    for _ in range(count):
        at += random.expovariate(rate)
        turns = random.randint(5, 8)
        programs.append(
            Program(
                at,
                random.randint(1500, 3000),
                tuple(random.randint(16, 40) for _ in range(turns)),
                tuple(random.randint(200, 400) for _ in range(turns)),
                tuple(random.choice(_MEDIANS_S) * exp(random.gauss(0, _SPREAD)) for _ in range(turns)),
            )
        )
    return programs


def completions_s(programs: Sequence[Program], admission: Admission | None) -> list[float]:
    """Seconds from each program's arrival to its end, as jobs of one agent each."""
    limits = Limits(admission=admission)
    named = {JobId(f"p{number}"): program for number, program in enumerate(programs)}
    simulation = Simulation([ENGINE], Scripted(named), limits)
    arrivals = [
        Arrival(one.at, job, PLAN, Table.from_rows([{"task": text(f"{job} ", one.prompt_tokens)}], PLAN.inputs))
        for job, one in named.items()
    ]
    ended = asyncio.run(simulation.run(arrivals))
    return [ended[job].ended_at[0] - one.at for job, one in named.items()]


def text(begin: str, tokens: int) -> str:
    """So many tokens of text, as they are estimated."""
    length = tokens * CHARS_PER_TOKEN
    return (begin + "word " * length)[:length]


def main(run: Callable[[Sequence[Program], Admission | None], list[float]] = completions_s) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.3, 0.8, 1.5, 3.0], help="programs a second")
    parser.add_argument("--programs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print("simulated, virtual time; completion of a program in seconds")
    print(f"{'rate':>6}{'without mean':>14}{'p95':>8}{'with mean':>12}{'p95':>8}{'ratio':>8}")
    for rate in arguments.rates:
        drawings = [drawn(arguments.programs, rate, seed) for seed in range(arguments.seeds)]
        without = [s for programs in drawings for s in run(programs, None)]
        with_it = [s for programs in drawings for s in run(programs, ADMISSION)]
        means, tails = (mean(without), mean(with_it)), (_p95(without), _p95(with_it))
        figures = f"{means[0]:14.1f}{tails[0]:8.1f}{means[1]:12.1f}{tails[1]:8.1f}{means[0] / means[1]:8.2f}"
        print(f"{rate:6.2f}{figures}", flush=True)
    return 0


def _p95(values: Sequence[float]) -> float:
    return quantiles(values, n=20)[-1]


if __name__ == "__main__":
    raise SystemExit(main())
