"""Programs of the migration benchmark in virtual time: modelled engines that share a KV tier, behind the door's core.

What a turn finds in the tier is copied in before its first step, in the time that the door reckons with; the engine
computes nothing meanwhile.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from benchmarks.scheduling.migration_lab import AgentProgram, Ran, Turn
from executor.commands import CallMeAt
from executor.core.tiers import Tiers
from executor.door.commands import DoorCommand, Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived, CallNumber, DoorEvent
from executor.engines.model.batch import Batch
from executor.engines.model.block_pool import BlockName, BlockPool
from executor.engines.model.engine import EngineModel, Finished
from executor.engines.port import EngineSpec
from executor.events import EngineDraining, EngineResumed, WakeUp
from executor.prompt_blocks import BLOCK_TOKENS
from planner.cost.profile import Profile
from planner.ir.ids import EngineId, ProgramId

#: Blocks of a program are numbered from its own multiple of this.
_MOST_BLOCKS = 1 << 20


def run_modelled(
    places: Sequence[tuple[AgentProgram, int]],
    fleets: Sequence[Sequence[EngineSpec]],
    profiles: Mapping[EngineId, Profile],
    told: Sequence[EngineDraining | EngineResumed] = (),
) -> list[Ran]:
    """Each program through the door of its number: one door a fleet. The doors believe what the specs say; an engine is
    as fast as its profile, whose blocks are as large as those of the door. Those of the engine are `told` what happens
    to it when it does."""
    return _Running(places, fleets, profiles, told).results()


@dataclass(slots=True, eq=False)
class _Program:
    program: AgentProgram
    number: int
    door: DoorCore
    tokens: int = 0
    asked_s: list[float] = field(default_factory=list)
    engines: list[str] = field(default_factory=list)
    turns_s: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def turn(self) -> Turn:
        return self.program.turns[len(self.turns_s)]

    def names(self, tokens: int) -> tuple[BlockName, ...]:
        """Of the full blocks of its first tokens."""
        first = self.number * _MOST_BLOCKS
        return tuple(range(first, first + tokens // BLOCK_TOKENS))


class _Running:
    def __init__(
        self,
        places: Sequence[tuple[AgentProgram, int]],
        fleets: Sequence[Sequence[EngineSpec]],
        profiles: Mapping[EngineId, Profile],
        told: Sequence[EngineDraining | EngineResumed],
    ) -> None:
        specs = {spec.id: spec for fleet in fleets for spec in fleet}
        doors = [DoorCore(fleet) for fleet in fleets]
        self._programs = [_Program(one, number, doors[door]) for number, (one, door) in enumerate(places)]
        self._tiers = Tiers(list(specs.values()))
        self._engines = {engine: _engine(spec, profiles[engine], self._tiers) for engine, spec in specs.items()}
        self._calls: dict[CallNumber, _Program] = {}
        self._numbers, self._order = count(), count()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        for event in told:
            for door in doors:
                if event.engine in door.fleet.views:
                    self._at(event.at, self._telling(door, event))

    def results(self) -> list[Ran]:
        for one in self._programs:
            self._at(one.program.arrives_s, self._asking(one))
        while (now_s := self._next_s()) is not None:
            for engine, model in self._engines.items():
                for finished in model.advance(now_s):
                    self._answered(engine, finished)
            while self._due and self._due[0][0] <= now_s:
                heapq.heappop(self._due)[2](now_s)
        return [_ran(one) for one in self._programs]

    def _next_s(self) -> float | None:
        instants = [at for model in self._engines.values() if (at := model.next_at()) is not None]
        return min([*instants, *(due[0] for due in self._due[:1])], default=None)

    def _at(self, at_s: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), act))

    def _asking(self, one: _Program) -> Callable[[float], None]:
        return lambda now_s: self._ask(one, now_s)

    def _telling(self, door: DoorCore, event: DoorEvent) -> Callable[[float], None]:
        return lambda now_s: self._tell(door, event, now_s)

    def _ask(self, one: _Program, now_s: float) -> None:
        number, name = next(self._numbers), ProgramId(one.program.name)
        one.tokens += one.turn.new_tokens
        one.asked_s.append(now_s)
        self._calls[number] = one
        prefix, answer_tokens = one.names(one.tokens), one.turn.answer_tokens
        event = CallArrived(
            now_s, number, "benchmark", "tiny-llama", name, name, None, prefix, one.tokens, answer_tokens
        )
        self._tell(one.door, event, now_s)

    def _tell(self, door: DoorCore, event: DoorEvent, now_s: float) -> None:
        for command in door.handle(event):
            self._perform(door, command, now_s)

    def _perform(self, door: DoorCore, command: DoorCommand, now_s: float) -> None:
        if isinstance(command, Send):
            self._send(command, now_s)
        elif isinstance(command, CallMeAt):
            self._at(command.at, lambda at_s: self._tell(door, WakeUp(at_s), at_s))

    def _send(self, send: Send, now_s: float) -> None:
        one, answer_tokens = self._calls[send.call], self._calls[send.call].turn.answer_tokens
        one.engines.append(send.engine)
        names = one.names(one.tokens + answer_tokens)
        self._engines[send.engine].submit(send.call, one.tokens, answer_tokens, now_s, names)

    def _answered(self, engine: EngineId, finished: Finished[CallNumber]) -> None:
        one, now_s, usage = self._calls.pop(finished.id), finished.at, finished.usage
        turn = one.turn
        one.tokens += turn.answer_tokens
        one.prompt_tokens += usage.prompt_tokens
        one.cached_tokens += usage.cached_tokens
        self._tiers.keep(engine, one.names(one.tokens))
        one.turns_s.append(now_s - one.asked_s[-1])
        self._tell(one.door, CallAnswered(now_s, finished.id, usage), now_s)
        if len(one.turns_s) < len(one.program.turns):
            self._at(now_s + turn.tool_s, self._asking(one))


def _engine(spec: EngineSpec, profile: Profile, tiers: Tiers) -> EngineModel[CallNumber]:
    return EngineModel(
        profile, batch=_TierBatch(profile, spec.max_running, _TierPool(profile.kv_blocks, spec.id, tiers))
    )


class _TierBatch(Batch[CallNumber]):
    """A step is as much longer as it takes to copy in what its calls found in the tier."""

    def __init__(self, profile: Profile, max_running: int, pool: "_TierPool") -> None:
        super().__init__(profile, max_running, pool=pool)
        self._tier_pool = pool

    def step_s(self) -> float:
        return super().step_s() + self._tier_pool.take_load_s()


class _TierPool(BlockPool):
    """What the tier keeps is hit as what is here, and copied in when a call shares it."""

    def __init__(self, capacity: int, engine: EngineId, tiers: Tiers) -> None:
        super().__init__(capacity)
        self._engine, self._tiers, self._loaded = engine, tiers, 0

    def hits(self, names: Sequence[BlockName], most: int) -> int:
        return max(super().hits(names, most), min(most, self._tiers.match(self._engine, names)))

    def idle_among(self, names: Sequence[BlockName]) -> int:
        """What is copied in takes room as well."""
        return sum(1 for name in names if name not in self._shared)

    def share(self, names: Sequence[BlockName]) -> None:
        missing = [name for name in names if name not in self._shared and name not in self._idle]
        self._loaded += len(missing)
        self._idle |= dict.fromkeys(missing)
        super().share(names)
        self._make_room()

    def take_load_s(self) -> float:
        """What copying took since this was asked last."""
        loaded, self._loaded = self._loaded, 0
        return self._tiers.load_s(self._engine, loaded * BLOCK_TOKENS) if loaded else 0.0


def _ran(one: _Program) -> Ran:
    seconds = one.asked_s[-1] + one.turns_s[-1] - one.program.arrives_s
    return Ran(
        one.program.name,
        one.program.arrives_s,
        seconds,
        tuple(one.engines),
        tuple(one.turns_s),
        one.prompt_tokens,
        one.cached_tokens,
    )
