"""Agent programs replayed against one virtual engine: each prompt holds the answers that this engine gave before."""

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from halo_vllm.virtual_time.engine import Call, EngineShape, Progress, VirtualEngine, token_of
from halo_vllm.virtual_time.programs import Program, ProgramResult, Replay, TurnResult

#: vLLM's engine looks again a millisecond after a step in which nothing could be scheduled. This often is enough.
LOOK_AGAIN_S = 0.005
#: Longer without anything scheduled, and it never will be.
STUCK_S = 300.0


class Stuck(Exception):
    """Calls wait, nothing runs, and nothing will happen: the scheduler holds back what it should run."""


class Client(Protocol):
    """What a client of the engine tells with a call, and what it posts when a turn is over."""

    def call(self, program: Program, turn: int) -> Mapping[str, Any]:
        """Fields of `Call` to set: `priority`, `session`, `cache_salt`, `hints`."""
        ...

    def after(self, program: Program, turn: int) -> Sequence[Mapping[str, Any]]:
        """Hints to post when the turn is done and its tool starts."""
        ...

    def before(self, program: Program, turn: int) -> Sequence[Mapping[str, Any]]:
        """Hints to post when the tool has finished, just before the turn is asked."""
        ...


@dataclass(slots=True)
class _Running:
    program: Program
    text: list[int] = field(default_factory=list)
    turns: list[TurnResult] = field(default_factory=list)


def replay(
    programs: Sequence[Program],
    shape: EngineShape,
    client: Client,
    *,
    at_once: int | None = None,
    round_trip_s: float = 0.0,
) -> Replay:
    """Runs every program to its end: from its arrival on, or, with `at_once`, so many at any time, each arriving when
    another is done. An answer is with its client `round_trip_s` after the engine has it. Raises `Stuck` when one never
    gets there."""
    return _Replaying(programs, shape, client, at_once, round_trip_s).run()


class _Replaying:
    def __init__(
        self,
        programs: Sequence[Program],
        shape: EngineShape,
        client: Client,
        at_once: int | None,
        round_trip_s: float,
    ) -> None:
        self._engine = VirtualEngine(shape)
        self._round_trip_s = round_trip_s
        self._client = client
        self._programs = programs
        self._later = deque(programs if at_once is not None else ())
        self._at_once = at_once
        self._asked: dict[str, _Running] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._results: dict[str, ProgramResult] = {}

    def run(self) -> Replay:
        for _ in range(self._at_once or 0):
            self._next(0.0)
        for program in self._programs if self._at_once is None else ():
            self._at(program.arrival_s, self._start(_Running(program)))
        idle_since_s: float | None = None
        while self._events or self._engine.busy:
            self._happen()
            done = self._engine.step() if self._engine.busy else None
            if done is None:
                idle_since_s = self._rest(idle_since_s)
                continue
            idle_since_s = None
            for progress in done:
                self._finish(progress, self._engine.now_s + self._round_trip_s)
        return self._replay()

    def _replay(self) -> Replay:
        results = tuple(self._results[program.key] for program in self._programs)
        counters: dict[str, float] = getattr(self._engine.scheduler, "halo_stats", dict)()
        first_s = min(result.program.arrival_s for result in results)
        return Replay(results, self._engine.now_s - first_s, self._engine.steps, tuple(counters.items()))

    def _next(self, arrival_s: float) -> None:
        """The next of a closed loop arrives."""
        if self._later:
            program = replace(self._later.popleft(), arrival_s=arrival_s)
            self._at(program.arrival_s, self._start(_Running(program)))

    def _at(self, time_s: float, event: Callable[[], None]) -> None:
        self._scheduled += 1
        heapq.heappush(self._events, (time_s, self._scheduled, event))

    def _happen(self) -> None:
        while self._events and self._events[0][0] <= self._engine.now_s:
            heapq.heappop(self._events)[2]()

    def _rest(self, since_s: float | None) -> float | None:
        """Nothing could run: on to the next event, or a little later if calls wait for time to pass."""
        now_s = self._engine.now_s
        next_s = self._events[0][0] if self._events else None
        if not self._engine.busy:
            assert next_s is not None
            self._engine.now_s = max(now_s, next_s)
            return None
        since_s = now_s if since_s is None else since_s
        if now_s - since_s > STUCK_S:
            raise Stuck(f"calls have waited since {since_s:.3f} s and nothing runs")
        self._engine.now_s = now_s + LOOK_AGAIN_S if next_s is None else min(next_s, now_s + LOOK_AGAIN_S)
        return since_s

    def _start(self, running: _Running) -> Callable[[], None]:
        return lambda: self._ask(running)

    def _ask(self, running: _Running) -> None:
        program, number = running.program, len(running.turns)
        for hint in self._client.before(program, number):
            self._engine.hint(hint)
        running.text += _new_tokens(program, number)
        turn = program.turns[number]
        call_id = f"{program.key}/{number}"
        self._asked[call_id] = running
        self._engine.ask(Call(call_id, tuple(running.text), turn.output_tokens, **self._client.call(program, number)))

    def _finish(self, progress: Progress, done_s: float) -> None:
        running = self._asked.pop(progress.call.id)
        number, program = len(running.turns), running.program
        running.turns.append(_result_of(progress, done_s))
        running.text += progress.output
        for hint in self._client.after(program, number):
            self._engine.hint(hint)
        if len(running.turns) == len(program.turns):
            self._results[program.key] = ProgramResult(program, tuple(running.turns))
            self._next(done_s)
            return
        self._at(done_s + program.turns[number].pause_s, self._start(running))


def _new_tokens(program: Program, number: int) -> list[int]:
    """What the turn adds: for the first the opening shared with other programs, then the program's own."""
    own = [token_of(f"{program.key}/{number}/prompt", at) for at in range(program.turns[number].prompt_tokens)]
    if number:
        return own
    return [token_of(program.opening, at) for at in range(program.opening_tokens)] + own


def _result_of(progress: Progress, done_s: float) -> TurnResult:
    assert progress.first_token_s is not None
    assert progress.cached_tokens is not None
    return TurnResult(
        asked_s=progress.asked_s,
        first_token_s=progress.first_token_s,
        done_s=done_s,
        prompt_tokens=len(progress.call.prompt),
        cached_tokens=progress.cached_tokens,
        prefilled_tokens=progress.prefilled_tokens,
    )
