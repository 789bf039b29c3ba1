"""What the plugin costs each step of vLLM's own scheduler, with 256 calls running and 1,000 programs waiting for tools.

    .venv-engine/bin/python -m benchmarks.kv.overhead [--running 256] [--idle 1000] [--rounds 40] [--out FILE.json]

CPU time of `schedule`, `update_from_output`, `add_request` and hints, no model. `decode`: no call begins or ends.
`turns`: as many calls end as begin, each the next turn of the program that has waited longest. `evicting`: no free
block is left but those kept for programs that wait. `no hints`: `turns` of calls that belong to no program. Stock vLLM
runs twice beside it (`A/A`), the same calls in the same steps, in turns of a few steps; garbage is collected between.
`more` is what the plugin adds to a step, and `a turn` what that is for each call that begins: to be held against a step
of the model too, which takes tens of milliseconds for so many calls where the scheduler takes a few.
"""

import argparse
import gc
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.arguments import some_of
from benchmarks.intervals import ratio_interval
from halo_vllm.virtual_time.engine import HALO_SCHEDULER, STOCK_SCHEDULER, VOCABULARY, Call, EngineShape, VirtualEngine

BLOCK_TOKENS = 16
PROMPT_TOKENS, TURN_TOKENS, ANSWER_TOKENS, LONG_ANSWER_TOKENS = 512, 32, 128, 4096
#: Before these the plugin does not know what a prefill costs, and keeps little.
MEASURED_CALLS = 48
WARM_UP_STEPS, STEPS = 60, 5
TARGET = 1.02
ARMS = {"stock": STOCK_SCHEDULER, "stock again": STOCK_SCHEDULER, "halo": HALO_SCHEDULER}


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    turns: bool
    tight: bool = False
    hints: bool = True


CASES = {
    case.name: case
    for case in (
        Case("decode", turns=False),
        Case("turns", turns=True),
        Case("evicting", turns=False, tight=True),
        Case("no hints", turns=True, hints=False),
    )
}


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds of CPU of each arm by round, and the steps that each round had. `turns`: calls of the plugin's arm that
    began in these steps. `kept_share`: of the KV, at the end, for programs that wait."""

    case: str
    steps: int
    cpu_s: dict[str, list[float]]
    same_steps: bool
    kept_share: float
    turns: int

    @property
    def more_us(self) -> float:
        """What the plugin adds to a step."""
        return self.step_us("halo") - (self.step_us("stock") + self.step_us("stock again")) / 2

    @property
    def turn_us(self) -> float | None:
        steps = self.steps * len(self.cpu_s["halo"])
        return self.more_us * steps / self.turns if self.turns else None

    def step_us(self, arm: str) -> float:
        return 1e6 * sum(self.cpu_s[arm]) / (self.steps * len(self.cpu_s[arm]))

    def against_stock(self, arm: str) -> tuple[float, float, float]:
        return ratio_interval(list(zip(self.cpu_s[arm], self.cpu_s["stock"], strict=True)))


def main() -> None:
    arguments = _arguments()
    print(HEAD)
    results = []
    for name in arguments.cases:
        results.append(measure(CASES[name], arguments.running, arguments.idle, arguments.rounds))
        print(_line(results[-1]), flush=True)
    report = {"running": arguments.running, "idle": arguments.idle, "cases": [_figures(r) for r in results]}
    print(json.dumps(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1))


def measure(case: Case, running: int, idle: int, rounds: int) -> Result:
    arms = {name: Arm(scheduler, case, running, idle) for name, scheduler in ARMS.items()}
    cpu_s: dict[str, list[float]] = {name: [] for name in arms}
    before = arms["halo"].calls
    for number in range(rounds):
        for name in list(arms) if number % 2 else reversed(list(arms)):
            cpu_s[name].append(arms[name].take(STEPS))
    scheduled = [arm.timed.scheduled_tokens for arm in arms.values()]
    kept_share = arms["halo"].engine.scheduler.halo_stats()["retained_share"]
    same_steps, turns = all(tokens == scheduled[0] for tokens in scheduled), arms["halo"].calls - before
    return Result(case.name, STEPS, cpu_s, same_steps, kept_share, turns)


class Arm:
    """One scheduler with `idle` programs whose tools run and `running` calls that decode."""

    def __init__(self, scheduler: str, case: Case, running: int, idle: int) -> None:
        self._case, self._draw, self.calls = case, Random(0), 0
        self.engine = VirtualEngine(_shape(scheduler, case, running, idle))
        shape = self.engine.shape
        self._pause_s = 0.5 * shape.kv_tokens * shape.costs.prefill_token_s  # worth waiting for, all the time it takes
        self.timed = TimedScheduler(self.engine.scheduler)
        self.engine.scheduler = self.timed
        self._texts: dict[str, list[int]] = {}
        self._waiting: deque[str] = deque()
        self._all_done("measures", MEASURED_CALLS)
        while self._waiting:
            self.engine.hint({"program": self._waiting.popleft(), "event": "last_step"})
        self._all_done("waits", idle)
        for number in range(running):
            self._begin(f"runs-{number}", 1 + number % ANSWER_TOKENS if case.turns else LONG_ANSWER_TOKENS)
        for _ in range(WARM_UP_STEPS):
            self._step(turns=case.turns)

    def _all_done(self, name: str, programs: int) -> None:
        for number in range(programs):
            self._begin(f"{name}-{number}", 2)
        while self.engine.busy:
            self._step()

    def take(self, steps: int) -> float:
        """Seconds of CPU that the scheduler took for so many steps."""
        gc.collect()
        gc.freeze()  # as vLLM does when it has started
        gc.disable()
        before_s = self.timed.cpu_s
        for _ in range(steps):
            self._step(turns=self._case.turns)
        gc.enable()
        return self.timed.cpu_s - before_s

    def _step(self, *, turns: bool = False) -> None:
        done = self.engine.step() or ()
        for progress in done:
            name = progress.call.id.rsplit("/", 1)[0]
            self._texts[name] += progress.output
            self._waiting.append(name)
            if self._case.hints:
                self.engine.hint({"program": name, "event": "tool_called", "halo_tool": "bash"})
        for _ in done if turns else ():
            self._come_back()

    def _come_back(self) -> None:
        name = self._waiting.popleft()
        if self._case.hints:
            self._begin(name, ANSWER_TOKENS)
        else:
            del self._texts[name]
            self._begin(f"alone-{self.calls}", ANSWER_TOKENS)

    def _begin(self, name: str, answer_tokens: int) -> None:
        text = self._texts.setdefault(name, [])
        text += self._draw.choices(range(3, VOCABULARY), k=TURN_TOKENS if text else PROMPT_TOKENS)
        self.calls += 1
        hints = {"halo_program": name, "halo_eta_s": self._pause_s} if self._case.hints else {}
        self.engine.ask(Call(f"{name}/{self.calls}", tuple(text), answer_tokens, hints=hints))


class TimedScheduler:
    """Passes everything on to a scheduler, and counts the CPU time of what an engine calls."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.cpu_s = 0.0
        self.scheduled_tokens: list[int] = []

    def schedule(self) -> Any:
        planned = self._timed(self._scheduler.schedule)
        self.scheduled_tokens.append(planned.total_num_scheduled_tokens)
        return planned

    def update_from_output(self, *args: Any) -> Any:
        return self._timed(self._scheduler.update_from_output, *args)

    def add_request(self, request: Any) -> None:
        self._timed(self._scheduler.add_request, request)

    def halo_hint(self, hint: dict[str, Any]) -> None:
        take = getattr(self._scheduler, "halo_hint", None)
        if take is not None:
            self._timed(take, hint)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def _timed(self, method: Callable[..., Any], *args: Any) -> Any:
        before_s = time.process_time()
        answer = method(*args)
        self.cpu_s += time.process_time() - before_s
        return answer


def _shape(scheduler: str, case: Case, running: int, idle: int) -> EngineShape:
    """Room for three times everything, or for hardly more than what there is before the first token is decoded."""
    prompt_blocks = PROMPT_TOKENS // BLOCK_TOKENS + 1
    needed = idle * prompt_blocks + running * (prompt_blocks + 1)
    blocks = needed - idle + running if case.tight else 3 * needed
    halo = {"fill": 1.0, "share": 1.0, "turns_ahead": 0.0} if scheduler == HALO_SCHEDULER and case.tight else {}
    return EngineShape(scheduler, kv_blocks=blocks, block_tokens=BLOCK_TOKENS, max_running=running, halo=halo)


HEAD = (
    f"{'case':<10} {'stock':>10} {'halo':>10} {'halo/stock':>11} {'95 %':>16} {'A/A':>7} {'95 %':>16} "
    f"{'more':>8} {'a turn':>8} {'kept':>5} same"
)


def _line(result: Result) -> str:
    ours, again = result.against_stock("halo"), result.against_stock("stock again")
    return (
        f"{result.case:<10} {result.step_us('stock'):>7.0f} us {result.step_us('halo'):>7.0f} us {ours[0]:>10.3f}x "
        f"{_interval(ours):>16} {again[0]:>6.3f}x {_interval(again):>16} {result.more_us:>5.0f} us "
        f"{'' if result.turn_us is None else f'{result.turn_us:.0f} us':>8} {result.kept_share:>5.2f} "
        f"{'yes' if result.same_steps else 'no'}"
    )


def _interval(ratio: Sequence[float]) -> str:
    return f"{ratio[1]:.3f} .. {ratio[2]:.3f}"


def _figures(result: Result) -> dict[str, object]:
    arms = {arm: {"step_us": result.step_us(arm), "against_stock": result.against_stock(arm)} for arm in ARMS}
    return {
        "case": result.case,
        "same_steps": result.same_steps,
        "kept": result.kept_share,
        "more_us": result.more_us,
        "turn_us": result.turn_us,
        "target": TARGET,
        "arms": arms,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--running", type=int, default=256)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--cases", type=some_of(tuple(CASES)), default=list(CASES), help="some of them, with commas")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
