"""The lab of modelled engines: Halo's own model of an engine at iteration level, in virtual time."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from benchmarks.kv.arms import Serving
from benchmarks.kv.hints import Telling, fields_for
from benchmarks.kv.lab import CannotRun, EngineSize
from benchmarks.kv.programs import Load, Program
from benchmarks.kv.results import ProgramResult, TurnResult
from executor.engines.model.batch import Batch
from executor.engines.model.engine import EngineModel, Finished
from executor.engines.model.line import ByKey, by_priority
from executor.engines.model.retaining import RetainingBatch
from halo_vllm.settings import read_settings
from planner.cost.profile import Profile

#: Of a pool, vLLM uses one block for nothing.
NULL_BLOCKS = 1
#: Blocks of a text are numbered from its own multiple of this.
LONGEST_TEXT = 1 << 20


class ModelledLab:
    """Body of `Lab`. Each load has an engine of its own, whose steps take what `profile` says."""

    simulated = True

    def __init__(self, size: EngineSize, profile: Profile) -> None:
        self._size, self._profile = size, profile

    async def run(self, serving: Serving, load: Load, telling: Telling, salt: str) -> Sequence[ProgramResult]:
        return self.results(serving, load, telling)

    def results(self, serving: Serving, load: Load, telling: Telling) -> Sequence[ProgramResult]:
        """Raises `CannotRun`."""
        engine = self._engine(serving)
        return _Replay(engine, load, telling, self._size.block_tokens, self._profile.round_trip_s).results()

    async def close(self) -> None:
        """Nothing is open."""

    def _engine(self, serving: Serving) -> "EngineModel[_Asked]":
        """Raises `CannotRun`."""
        flags, size = serving.flags, self._size
        if serving.door or flags.watermark or flags.long_prefill_tokens:
            raise CannotRun("modelled engines have no door, no watermark and no limit for long prefills")
        kv_tokens = (size.kv_blocks - NULL_BLOCKS) * size.block_tokens
        profile = replace(
            self._profile,
            kv_tokens=kv_tokens,
            block_tokens=size.block_tokens,
            step_tokens=flags.step_tokens,
            chunked=True,
        )
        return EngineModel(profile, batch=_batch(profile, serving))


def _batch(profile: Profile, serving: Serving) -> "Batch[_Asked]":
    """Raises `CannotRun`."""
    most = serving.flags.max_running
    if serving.plugin is None:
        return Batch(profile, most, ByKey(by_priority) if serving.by_priority else None)
    settings = read_settings(dict(serving.plugin))
    if settings.keep != "rank" or serving.by_priority:
        raise CannotRun("modelled engines pin nothing, and have either priorities or the plugin")
    return RetainingBatch(profile, most, settings)


@dataclass(slots=True, eq=False)
class _Running:
    """A program on its way."""

    program: Program
    arrived_s: float
    context_tokens: int = 0
    turns: list[TurnResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    running: _Running
    sent_s: float


class _Replay:
    """What `benchmarks.kv.replay` does on a real engine: each prompt holds the answers before it."""

    def __init__(
        self, engine: EngineModel[_Asked], load: Load, telling: Telling, block_tokens: int, round_trip_s: float
    ) -> None:
        self._engine, self._load, self._telling = engine, load, telling
        self._block_tokens, self._round_trip_s = block_tokens, round_trip_s
        self._texts: dict[str, int] = {}
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._later = list(reversed(load.programs if load.arrivals_s is None else ()))
        self._results: dict[str, ProgramResult] = {}

    def results(self) -> list[ProgramResult]:
        for program, arrived_s in zip(self._load.programs, self._load.arrivals_s or (), strict=False):
            self._arrive(program, arrived_s)
        for _ in range(self._load.at_once):
            self._next(0.0)
        while (now_s := self._next_at()) is not None:
            for finished in self._engine.advance(now_s):
                self._answered(finished)
            while self._due and self._due[0][0] <= now_s:
                heapq.heappop(self._due)[2](now_s)
        return [self._results[program.id] for program in self._load.programs]

    def _next_at(self) -> float | None:
        instants = [at for at in (self._engine.next_at(), self._due[0][0] if self._due else None) if at is not None]
        return min(instants, default=None)

    def _next(self, now_s: float) -> None:
        if self._later:
            self._arrive(self._later.pop(), now_s)

    def _arrive(self, program: Program, at_s: float) -> None:
        self._ask_at(at_s, _Running(program, at_s))

    def _ask_at(self, at_s: float, running: _Running) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), lambda now_s: self._ask(running, now_s)))

    def _ask(self, running: _Running, now_s: float) -> None:
        program, number = running.program, len(running.turns)
        turn = program.turns[number]
        running.context_tokens += turn.new_tokens
        fields = fields_for(program, number, running.arrived_s, self._telling, "")
        names = self._names(program, running.context_tokens + turn.output_tokens)
        asked, priority = _Asked(running, now_s), int(fields.get("priority", 0))
        said = fields.get("vllm_xargs", {})
        self._engine.submit(asked, running.context_tokens, turn.output_tokens, now_s, names, priority, said)

    def _answered(self, finished: Finished[_Asked]) -> None:
        running, done_s = finished.id.running, finished.at + self._round_trip_s
        program, number = running.program, len(running.turns)
        turn = program.turns[number]
        running.turns.append(_result_of(finished, done_s))
        running.context_tokens += turn.output_tokens
        if number + 1 < len(program.turns):
            self._ask_at(done_s + turn.pause_s, running)
            return
        self._results[program.id] = ProgramResult(program.id, running.arrived_s, done_s, tuple(running.turns))
        self._next(done_s)

    def _names(self, program: Program, tokens: int) -> tuple[int, ...]:
        """Of the blocks of a context: those of what programs share, then the program's own."""
        shared = program.shared_tokens // self._block_tokens
        own = tokens // self._block_tokens - shared
        return (*self._numbered(program.shared, shared), *self._numbered(program.id, own))

    def _numbered(self, text: str, blocks: int) -> range:
        first = self._texts.setdefault(text, len(self._texts)) * LONGEST_TEXT
        return range(first, first + blocks)


def _result_of(finished: Finished[_Asked], done_s: float) -> TurnResult:
    usage, sent_s = finished.usage, finished.id.sent_s
    return TurnResult(
        sent_s=sent_s,
        ttft_s=finished.queued_s + finished.prefill_s,
        seconds=done_s - sent_s,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
    )
