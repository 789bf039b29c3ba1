"""Random placement problems: DAGs of model calls and tools on mixed GPUs, with the seconds of the cost model."""

from collections.abc import Sequence
from math import inf

import numpy as np

from planner.cost.gpus import gpu_named
from planner.cost.load import RUNNING, load_rates
from planner.cost.model import Replica, kv_tokens, room_bytes
from planner.cost.shapes import LLAMA_3_8B, QWEN_2_5_7B, QWEN_2_5_32B
from planner.cost.switching import WeightsAt, switch_seconds
from planner.placement.problem import Engine, Model, Operator, Problem

SHAPES = (QWEN_2_5_7B, LLAMA_3_8B, QWEN_2_5_32B)
KINDS = ("H100", "H200", "A100-80", "MI300X", "L40S", "A6000", "A10", "L4")
LARGE = KINDS[:4]
TOOL_WORKERS = 8


def random_fleet(random: np.random.Generator, engines: int) -> list[str]:
    """One at least has room for the largest model."""
    drawn = [KINDS[int(i)] for i in random.integers(len(KINDS), size=engines - 1)]
    return [LARGE[int(random.integers(len(LARGE)))], *drawn]


def random_problem(
    random: np.random.Generator, operators: int, gpus: Sequence[str], rows: int, batches: int
) -> Problem:
    """Engines are empty at first. Each operator but some roots reads one or two of the six before it."""
    models = tuple(Model(shape.name, shape.weights * shape.weight_bytes) for shape in SHAPES)
    replicas = [_replicas(gpu) for gpu in gpus]
    engines = [_engine(f"{gpu}-{i}", models, own) for i, (gpu, own) in enumerate(zip(gpus, replicas, strict=True), 1)]
    engines.append(Engine("tool:database", 0.0, (inf,) * len(models)))
    made: list[Operator] = []
    for o in range(operators):
        near = random.integers(max(0, o - 6), o, size=random.integers(1, 3)) if o and random.random() < 0.9 else ()
        parents = tuple(sorted({int(parent) for parent in near}))
        tool = o > 0 and random.random() < 0.2
        made.append(_tool(random, o, parents, len(gpus), rows) if tool else _call(random, o, parents, replicas, rows))
    return Problem(models, tuple(engines), tuple(made), batches)


def _tool(random: np.random.Generator, o: int, parents: tuple[int, ...], engines: int, rows: int) -> Operator:
    one = float(random.choice([0.005, 0.02, 0.05]))
    nowhere, never = (inf,) * engines, (0.0,) * engines
    return Operator(f"tool {o}", None, (*nowhere, rows * one / TOOL_WORKERS), (*never, one), parents)


def _call(
    random: np.random.Generator,
    o: int,
    parents: tuple[int, ...],
    replicas: Sequence[Sequence[Replica | None]],
    rows: int,
) -> Operator:
    model, prompt, output = int(random.integers(3)), random.integers(100, 1500), random.integers(20, 300)
    pairs = [_seconds(own[model], float(prompt), float(output), rows) for own in replicas]
    works, lags = zip(*pairs, strict=True)
    return Operator(f"call {o}", model, (*works, inf), (*lags, 0.0), parents)


def _replicas(gpu: str) -> list[Replica | None]:
    kind = gpu_named(gpu)
    assert kind
    return [replica if kv_tokens(replica) > 0 else None for replica in (Replica(kind, shape) for shape in SHAPES)]


def _engine(name: str, models: Sequence[Model], own: Sequence[Replica | None]) -> Engine:
    fitting = [(model, replica) for model, replica in zip(models, own, strict=True) if replica is not None]
    room = 0.7 * room_bytes(fitting[0][1])
    load_s = tuple(inf if replica is None else switch_seconds(replica, WeightsAt.HOST) for replica in own)
    return Engine(name, max(room, *(model.weight_bytes for model, _ in fitting)), load_s)


def _seconds(replica: Replica | None, prompt: float, output: float, rows: int) -> tuple[float, float]:
    if replica is None:
        return inf, 0.0
    running = max(1.0, min(RUNNING, kv_tokens(replica) // (prompt + output)))
    one = load_rates(replica, running).seconds(prompt, output)
    return rows * one, (running - 1) * one
