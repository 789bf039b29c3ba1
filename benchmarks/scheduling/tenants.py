"""Programs of several tenants on a small simulated fleet, and what each tenant was given of it."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from zlib import crc32

from executor.commands import BeginProgram, Command, Dispatch
from executor.core.limits import Limits
from executor.drivers.simulated import Arrival, SimulatedJob, Simulation
from executor.engines.answers import Answer
from executor.engines.model.profiles import profile_of
from executor.engines.port import EngineSpec, GenerateRequest
from executor.events import BatchPlanned, CallFinished, Event
from executor.slo import SloClass
from planner.cost.load import RUNNING, rates_beside
from planner.cost.rates import LoadRates
from planner.ir.expressions import Column, Concat, Const, Output
from planner.ir.ids import EngineId, JobId, NodeRef, StageId, job_of
from planner.ir.plan import Generate, Input, Message, Plan, Sampling, ToolSpec
from planner.ir.values import Json
from planner.table import Table

ENGINES = 4
#: Room for some ten prompts: enough for those in flight, too little for the beginnings of all groups.
KV_TOKENS = 32_768
MAX_RUNNING = 16
#: Rows of a batch whose prompts begin alike, and how long that beginning is in characters.
GROUP_ROWS, SHARED_CHARS = 50, 6_000
ANSWER_TOKENS = {"draft": (60, 180), "check": (10, 40)}


def _plan(name: str, longer: int) -> Plan:
    """`longer` times as much to answer as others."""
    asks = (Column("database"), Const("\nQuestion: "), Column("question"))
    draft = _generate("draft", 256 * longer, *asks)
    check = _generate("check", 64 * longer, *asks, Const("\nAnswer: "), Output(StageId("draft")))
    return Plan(name, (Input("database"), Input("question")), (draft, check), Output(StageId("check")))


def _generate(stage: str, most: int, *segments: Column | Const | Output) -> Generate:
    return Generate(StageId(stage), "model", (Message("user", Concat(segments)),), Sampling(0.8, max_tokens=most))


SHORT, LONG = _plan("short", 1), _plan("long", 3)


def fleet(engines: int = ENGINES) -> list[EngineSpec]:
    plain = [EngineSpec(EngineId(f"L40S-{number}"), "modelled", ("model",), gpu="L40S") for number in range(engines)]
    profiles = [replace(profile_of(spec), kv_tokens=KV_TOKENS) for spec in plain]
    return [
        replace(spec, max_running=MAX_RUNNING, profile=profile) for spec, profile in zip(plain, profiles, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Lengths:
    """The world: how long an answer is comes from the call's name; `longer` has who answers more, by job."""

    longer: Mapping[JobId, int]

    def answer(self, node: NodeRef, request: GenerateRequest) -> Answer:
        low, high = ANSWER_TOKENS[node.path]
        tokens = low + crc32(str(node).encode()) % (high - low)
        return Answer(f"{node} says so", (), tokens * self.longer.get(job_of(node.program), 1))

    async def run_tool(self, node: NodeRef, spec: ToolSpec, arguments: Mapping[str, Json]) -> tuple[Json, float]:
        raise AssertionError("these programs call no tools")


def batch(name: str, tenant: str, rows: int, at: float = 0.0, plan: Plan = SHORT) -> Arrival:
    """All at once, those with one beginning one after the other."""
    cells = [_row(f"{name}-{number // GROUP_ROWS}", number) for number in range(rows)]
    return Arrival(at, JobId(name), plan, Table.from_rows(cells, plan.inputs), tenant=tenant)


def unlike(name: str, tenant: str, rows: int, at: float, chars: int) -> Arrival:
    """All at once, of prompts so long of which no two begin alike."""
    cells = [_row(f"{number} of {name}", number, chars) for number in range(rows)]
    return Arrival(at, JobId(name), SHORT, Table.from_rows(cells, SHORT.inputs), tenant=tenant)


def one_by_one(
    tenant: str, rate: float, count: int, seed: int, slo: SloClass = SloClass.STANDARD, slack_s: float | None = None
) -> Iterator[Arrival]:
    """Runs of one program each, by Poisson; each should be done `slack_s` after it came."""
    random, at = Random(seed), 0.0
    for number in range(count):
        at += random.expovariate(rate)
        table = Table.from_rows([_row(f"{tenant}-{number % 5}", number)], SHORT.inputs)
        due_s = None if slack_s is None else at + slack_s
        yield Arrival(at, JobId(f"{tenant}-{number}"), SHORT, table, tenant=tenant, slo=slo, deadline_s=due_s)


def _row(database: str, number: int, chars: int = SHARED_CHARS) -> dict[str, Json]:
    beginning = f"You write SQL for {database}. "
    return {
        "database": (beginning + f"{database} has a table with columns. " * (chars // 30))[:chars],
        "question": f"How many rows of {number} are new, and why are there so many of them this year?",
    }


@dataclass(frozen=True, slots=True)
class Given:
    """A call that was done: from when to when, and the seconds of its engine's time that its tokens come to."""

    begun_s: float
    ended_s: float
    engine_s: float
    prompt_tokens: int
    cached_tokens: int


class Service:
    """Listens to a simulation: what each tenant was given."""

    def __init__(self, engines: Sequence[EngineSpec], tenant_of: Mapping[JobId, str]) -> None:
        self._tenant_of = tenant_of
        self._sent: dict[tuple[NodeRef, int], tuple[float, EngineId]] = {}
        self.given: dict[str, list[Given]] = defaultdict(list)
        self.began_s: dict[str, list[float]] = defaultdict(list)
        self._rates = {spec.id: _rates(spec) for spec in engines}

    def __call__(self, event: Event, commands: Sequence[Command]) -> None:
        if isinstance(event, CallFinished):
            begun_s, engine = self._sent.pop((event.node, event.attempt))
            usage = event.usage
            engine_s = self._rates[engine].seconds(usage.prompt_tokens, usage.output_tokens, usage.cached_tokens)
            done = Given(begun_s, event.at, engine_s, usage.prompt_tokens, usage.cached_tokens)
            self.given[self._tenant_of[job_of(event.node.program)]].append(done)
        for command in commands:
            if isinstance(command, Dispatch):
                self._sent[command.node, command.attempt] = event.at, command.engine
            elif isinstance(command, BeginProgram):
                self.began_s[self._tenant_of[command.job]].append(event.at)

    def within(self, tenant: str, begin_s: float, end_s: float) -> float:
        """Seconds of engines' time in that window; what lasts beyond it counts in part."""
        return sum(one.engine_s * _overlap(one, begin_s, end_s) for one in self.given[tenant])

    def cached_share(self) -> float:
        calls = [one for given in self.given.values() for one in given]
        return sum(one.cached_tokens for one in calls) / sum(one.prompt_tokens for one in calls)


@dataclass(frozen=True, slots=True)
class Outcome:
    jobs: Mapping[JobId, SimulatedJob]
    arrivals: Mapping[JobId, Arrival]
    service: Service

    def took_s(self, tenant: str) -> list[float]:
        """From each program's arrival to its end."""
        mine = [arrival for arrival in self.arrivals.values() if arrival.tenant == tenant]
        return [at - one.at for one in mine if one.job in self.jobs for at in self.jobs[one.job].ended_at.values()]

    def ended_s(self, tenant: str) -> float:
        mine = [job for job, arrival in self.arrivals.items() if arrival.tenant == tenant]
        return max(at for job in mine for at in self.jobs[job].ended_at.values())


def run(arrivals: Sequence[Arrival], limits: Limits | None = None, engines: int = ENGINES) -> Outcome:
    several = fleet(engines)
    by_job = {arrival.job: arrival for arrival in arrivals}
    service = Service(several, {job: arrival.tenant for job, arrival in by_job.items()})
    longer = {job: 3 for job, arrival in by_job.items() if arrival.plan is LONG}
    simulation = Simulation(several, Lengths(longer), limits, as_written, listener=service)
    return Outcome(asyncio.run(simulation.run(arrivals)), by_job, service)


def capacity_per_s(rows: int = 600) -> float:
    """How many programs of a batch the fleet does in a second."""
    return rows / run([batch("all", "one", rows)]).ended_s("one")


def as_written(job: JobId, plan: Plan, table: Table, at: float, fleet: Sequence[EngineSpec]) -> BatchPlanned:
    """Nothing is planned over: rows are in groups already, or come one by one."""
    return BatchPlanned(at, job, plan, range(table.rows), {})


def _rates(spec: EngineSpec) -> LoadRates:
    """As the scheduler has them."""
    return rates_beside(spec.gpu, "model", RUNNING, spec.tensor_parallel, spec.profile)


def _overlap(one: Given, begin_s: float, end_s: float) -> float:
    length_s = one.ended_s - one.begun_s
    return max(0.0, min(end_s, one.ended_s) - max(begin_s, one.begun_s)) / length_s if length_s else 0.0
