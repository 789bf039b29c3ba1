"""Simulates one load a line, on vLLM's own scheduler; `VirtualLab` starts it with the engine's interpreter."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.kv.arms import Flags
from benchmarks.kv.hints import fields_for, notes_after
from benchmarks.kv.programs import Load, Program
from benchmarks.kv.results import ProgramResult, TurnResult
from benchmarks.kv.virtual_line import Order, from_line, to_line
from halo_vllm.virtual_time import programs as virtual
from halo_vllm.virtual_time.costs import Step, StepCosts
from halo_vllm.virtual_time.engine import HALO_SCHEDULER, STOCK_SCHEDULER, EngineShape
from halo_vllm.virtual_time.replay import Stuck, replay
from planner.cost.profile import Profile


def main() -> None:
    """What vLLM prints goes to the log, and answers alone to the parent."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin.buffer:
        answers.write(to_line(_answer(from_line(line))))
        answers.flush()


def _answer(order: Order) -> list[ProgramResult] | str:
    flags = order.serving.flags
    if flags != Flags(flags.max_running, flags.step_tokens):
        return "virtual time knows neither a watermark nor a limit for long prefills"
    if order.serving.door:
        return "virtual time has no door"
    programs = tuple(_program(program, order.load, number) for number, program in enumerate(order.load.programs))
    client = _Client(order, {program.id: program for program in order.load.programs})
    try:
        round_trip_s = order.profile.round_trip_s if order.profile is not None else 0.0
        at_once = order.load.at_once or None
        replayed = replay(programs, _shape(order), client, at_once=at_once, round_trip_s=round_trip_s)
    except Stuck as problem:
        return str(problem)
    return [_result(result) for result in replayed.programs]


def _shape(order: Order) -> EngineShape:
    serving, size = order.serving, order.size
    return EngineShape(
        scheduler=STOCK_SCHEDULER if serving.plugin is None else HALO_SCHEDULER,
        policy="priority" if serving.by_priority else "fcfs",
        kv_blocks=size.kv_blocks,
        block_tokens=size.block_tokens,
        context_tokens=size.context_tokens,
        max_running=serving.flags.max_running,
        step_tokens=serving.flags.step_tokens,
        halo=dict(serving.plugin or ()),
        costs=StepCosts() if order.profile is None else partial(_profiled_s, order.profile),
    )


def _profiled_s(profile: Profile, step: Step) -> float:
    """As the modelled engine takes it."""
    tokens = step.prefill_tokens + step.decode_sequences
    calls = step.prefill_sequences + step.decode_sequences
    reads = step.context_tokens + step.decode_sequences
    pairs, backward = step.chunk_pairs, step.backward_pairs
    awake_s = profile.step_s(tokens, calls, step.begun, reads, pairs, backward, step.intake_tokens)
    return awake_s + profile.waking_s(step.idle_s)


def _program(program: Program, load: Load, number: int) -> virtual.Program:
    turns = [virtual.Turn(turn.new_tokens, turn.output_tokens, turn.pause_s, turn.tool or "") for turn in program.turns]
    first = turns[0]
    turns[0] = virtual.Turn(first.prompt_tokens - program.shared_tokens, first.output_tokens, first.pause_s, first.tool)
    arrival_s = load.arrivals_s[number] if load.arrivals_s is not None else 0.0
    return virtual.Program(program.id, arrival_s, tuple(turns), program.shared, program.shared_tokens)


def _result(result: virtual.ProgramResult) -> ProgramResult:
    turns = tuple(
        TurnResult(
            sent_s=turn.asked_s,
            ttft_s=turn.ttft_s,
            seconds=turn.done_s - turn.asked_s,
            prompt_tokens=turn.prompt_tokens,
            cached_tokens=turn.cached_tokens,
            output_tokens=asked.output_tokens,
        )
        for turn, asked in zip(result.turns, result.program.turns, strict=True)
    )
    arrived_s = result.program.arrival_s
    return ProgramResult(result.program.key, arrived_s, result.turns[-1].done_s, turns)


@dataclass(frozen=True, slots=True)
class _Client:
    """Tells the scheduler what the replay would tell the engine over HTTP."""

    order: Order
    programs: Mapping[str, Program]

    def call(self, program: virtual.Program, turn: int) -> Mapping[str, Any]:
        fields = fields_for(self.programs[program.key], turn, program.arrival_s, self.order.telling, self.order.salt)
        return {"priority": fields.get("priority", 0), "hints": fields.get("vllm_xargs", {})}

    def after(self, program: virtual.Program, turn: int) -> Sequence[Mapping[str, Any]]:
        return [
            note["body"] for note in notes_after(self.programs[program.key], turn, self.order.telling, self.order.salt)
        ]

    def before(self, program: virtual.Program, turn: int) -> Sequence[Mapping[str, Any]]:
        return ()


if __name__ == "__main__":
    main()
