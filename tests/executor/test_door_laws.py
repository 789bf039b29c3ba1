"""Laws of the door, whatever happens in whatever order."""

from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from executor.commands import CallMeAt
from executor.core.working_sets import ADMISSION
from executor.door.commands import DoorCommand, Refuse, Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived, CallFailed, CallGone, DoorEvent
from executor.door.limits import DoorLimits
from executor.door.turns_of_tenants import TURN_S
from executor.engines.port import EngineSpec, Failure, FailureClass, Usage
from executor.engines.rungs import Rung
from executor.events import EngineBack, EngineLost, RungFound, WakeUp
from executor.policy.fairness import TenantShare
from executor.prompt_blocks import BLOCK_TOKENS
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import EngineId, ProgramId

ENGINES = tuple(
    EngineSpec(EngineId(name), "vllm", ("m", name), url="http://engine", max_running=2, kv_tokens=4000) for name in "ab"
)
WAITING = 6
TENANTS = ("team", "ann")
PATIENCE_S, SPACING_S = 60.0, 5.0
TOOL = (ToolKey("look"),)
FAILURES = (
    Failure(FailureClass.ENGINE_DIED, "engine_died", "x"),
    Failure(FailureClass.RATE, "rate_limited", "x", retry_after_s=3.0),
    Failure(FailureClass.ENGINE, "engine_error", "x"),
    Failure(FailureClass.ROW, "bad_request", "x"),
)


class DoorLaws(RuleBasedStateMachine):
    """Beside the core stands what its commands said: which calls are inside which engine, and which have ended."""

    def __init__(self) -> None:
        super().__init__()
        admission = replace(ADMISSION, patience_s=PATIENCE_S, spacing_s=SPACING_S)
        limits = DoorLimits(WAITING, 4, 20.0, programs=5, conversations=5, admission=admission)
        self.core, self.now, self.numbers = DoorCore(ENGINES, limits), 1000.0, count(1)
        self.open: set[int] = set()
        self.inside: dict[int, EngineId] = {}
        self.places: dict[int, int] = {}
        self.alarms: list[float] = []
        self.forced = False  # somebody may be inside for whom there is no room

    def handle(self, event: DoorEvent) -> None:
        sets, self.forced = self.core.admission.sets, False
        before = {engine: set(one.members) for engine, one in sets.sets.items()}
        for command in self.core.handle(event):
            self.take(command)
        for engine, one in sets.sets.items():
            if set(one.members) - before[engine] and sets.bounds(engine) and not self.forced and not self.owes(engine):
                room = one.room(self.now)
                assert room.owned_blocks + room.growth_blocks <= room.capacity_blocks * ADMISSION.fill

    def owes(self, engine: EngineId) -> bool:
        """Whether the engine has calls that nobody asks about, or somebody that it has no room for may go there."""
        notes = [one.note for one in self.core.admission.sets._conversations.values() if one.engine == engine]
        inside = [call for call in self.core.fleet.inside[engine] if call.conversation is None]
        return bool(inside) or any("nothing else runs" in note or "long enough" in note for note in notes)

    def take(self, command: DoorCommand) -> None:
        match command:
            case Send():
                assert command.call in self.open - set(self.inside)
                self.inside[command.call] = command.engine
                self.forced |= "nothing else runs" in command.reason or "long enough" in command.reason
            case Refuse():
                assert command.call in self.open - set(self.inside)
                self.open.discard(command.call)
            case CallMeAt():
                self.alarms.append(command.at)
            case _:
                pass

    @rule(
        program=st.sampled_from(["p", "q", "r", "s", None]),
        offers_tools=st.booleans(),
        model=st.sampled_from(["m", "m", "a", "b", "nobody"]),
        tokens=st.integers(1, 6000),
        path=st.lists(st.integers(0, 1), max_size=5),
        tenant=st.sampled_from(TENANTS),
    )
    def arrive(
        self, program: str | None, offers_tools: bool, model: str, tokens: int, path: list[int], tenant: str
    ) -> None:
        number = next(self.numbers)
        prefix = tuple(hash(tuple(path[: end + 1])) for end in range(min(len(path), tokens // BLOCK_TOKENS)))
        self.open.add(number)
        named = ProgramId(program) if program else None
        fresh = ProgramId(f"fresh-{number}")
        event = CallArrived(self.now, number, tenant, model, fresh, named, prefix=prefix, prompt_tokens=tokens)
        self.handle(replace(event, offers_tools=offers_tools))

    def some(self, data: Any) -> int:
        return int(data.draw(st.sampled_from(sorted(self.inside))))

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), tools=st.sampled_from([(), TOOL, TOOL]))
    def answer(self, data: Any, tools: tuple[ToolKey, ...]) -> None:
        call = self.some(data)
        del self.inside[call]
        self.open.discard(call)
        self.handle(CallAnswered(self.now, call, Usage(100, 10), tools=tools))

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), failure=st.sampled_from(FAILURES), begun=st.booleans())
    def fail(self, data: Any, failure: Failure, begun: bool) -> None:
        call = self.some(data)
        del self.inside[call]
        if begun:
            self.open.discard(call)
        self.handle(CallFailed(self.now, call, failure, begun))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        call = data.draw(st.sampled_from(sorted(self.open)))
        self.open.discard(call)
        self.inside.pop(call, None)
        self.handle(CallGone(self.now, call))

    @rule(engine=st.sampled_from(ENGINES))
    def lose(self, engine: EngineSpec) -> None:
        self.handle(EngineLost(self.now, engine.id, "gone"))

    @rule(engine=st.sampled_from(ENGINES))
    def bring_back(self, engine: EngineSpec) -> None:
        if not self.core.fleet.views[engine.id].up:
            self.handle(EngineBack(self.now, engine.id, None))

    @rule(engine=st.sampled_from(ENGINES), rung=st.sampled_from([Rung.PLUGIN, Rung.PREFIX_CACHE]))
    def another_server(self, engine: EngineSpec, rung: Rung) -> None:
        self.handle(RungFound(self.now, engine.id, rung))

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        for alarm in sorted(self.alarms):
            if alarm <= until:
                self.alarms.remove(alarm)
                self.now = max(self.now, alarm)
                self.handle(WakeUp(self.now))
        self.now = until

    @invariant()
    def no_engine_has_more_than_it_may(self) -> None:
        for engine in ENGINES:
            inside = [call for call, where in self.inside.items() if where == engine.id]
            assert len(inside) <= engine.max_running
            assert self.core.fleet.views[engine.id].running == len(inside)

    @invariant()
    def what_waits_is_bounded(self) -> None:
        waiting = len(self.core.line) + len(self.core.admission.held)
        assert waiting <= len(TENANTS) * WAITING + sum(
            engine.max_running for engine in ENGINES
        )  # those tried again come back

    @invariant()
    def every_open_call_is_in_one_place(self) -> None:
        core = self.core
        placed = [*core.line, *core.admission.held, *(call for _, call in core._resting)]
        assert sorted([*(call.number for call in placed), *self.inside]) == sorted(self.open)

    @invariant()
    def nobody_is_held_longer_than_the_bound_while_an_engine_answers(self) -> None:
        """The clock of this world goes on by 30 seconds at most between two events."""
        sets = self.core.admission.sets
        for model in sets.pools_held:
            held = sets.held(model)
            if self.core.fleet.serves(model):
                longest = max(self.now - one.since_s for one in held)
                assert longest <= PATIENCE_S + (len(self.open) + 1) * SPACING_S + 30.0

    def teardown(self) -> None:
        """Once engines answer and alarms ring, every call comes to its end."""
        for engine in ENGINES:
            self.bring_back(engine)
        for _ in range(500):
            if not self.open:
                break
            for call in sorted(self.inside):
                del self.inside[call]
                self.open.discard(call)
                self.handle(CallAnswered(self.now, call, Usage(100, 10)))
            self.wait(5.0)
        assert not self.open
        admission = self.core.admission
        assert not admission.held
        assert not admission._standing
        assert not admission._behind
        assert len(self.core.line) == 0
        assert all(view.running == 0 and view.load_s == 0 for view in self.core.fleet.views.values())


TestDoorLaws = DoorLaws.TestCase
TestDoorLaws.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_where_all_kv_fits_admission_changes_nothing(seed: int, most: int) -> None:
    """The same events, told to a door that lets in by working set and to one that lets everybody in."""
    roomy = [replace(engine, kv_tokens=1_000_000, max_running=most) for engine in ENGINES]
    doors = [DoorCore(roomy, DoorLimits(admission=admission)) for admission in (ADMISSION, None)]
    random, now, inside = Random(seed), 1000.0, list[int]()
    for number in range(60):
        now += random.random()
        name = ProgramId(random.choice("pqr")) if random.random() < 0.7 else None
        event: DoorEvent = CallArrived(now, number, "team", "m", ProgramId(f"fresh-{number}"), name, prompt_tokens=900)
        if inside and random.random() < 0.6:
            call = inside.pop(random.randrange(len(inside)))
            event = CallAnswered(now, call, Usage(1000, 10), tools=random.choice([(), TOOL]))
        with_it, without = (door.handle(event) for door in doors)
        assert with_it == without
        inside += [command.call for command in with_it if isinstance(command, Send)]


@given(st.integers(0, 2**32), st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(1, 4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_programs_enter_so_that_tenants_have_engines_by_their_weights(
    seed: int, weights: list[int], rooms: int, together: bool
) -> None:
    """While each has programs that wait for room: it grows apart by no more than what is open, and one of each."""
    random, most_s = Random(seed), 0.0
    engine = replace(
        ENGINES[0], max_running=16, kv_tokens=int(rooms * 31 * BLOCK_TOKENS / ADMISSION.fill) + BLOCK_TOKENS
    )
    shares = {str(tenant): TenantShare(weight) for tenant, weight in enumerate(weights)}
    core, had_s, inside = DoorCore([engine], DoorLimits(tenants=shares)), dict.fromkeys(shares, 0.0), list[int]()
    arrivals = [tenant for tenant in shares for _ in range(60)]
    if not together:
        random.shuffle(arrivals)
    for number, tenant in enumerate(arrivals):
        id, prefix = ProgramId(f"{tenant}/{number}"), tuple(range(1000 * number, 1000 * number + 30))
        event = CallArrived(1000.0, number, tenant, "m", id, id, prefix=prefix, prompt_tokens=30 * BLOCK_TOKENS)
        inside += [one.call for one in core.handle(replace(event, answer_tokens=1)) if isinstance(one, Send)]
    while len(core.admission.tenants) == len(shares):
        call, usage = inside.pop(random.randrange(len(inside))), Usage(30 * BLOCK_TOKENS, random.randint(1, 16))
        took_s = core.fleet.took_s(core._calls[call], usage)
        had_s[arrivals[call]] += took_s / weights[int(arrivals[call])]
        most_s = max(most_s, took_s)
        inside += [one.call for one in core.handle(CallAnswered(1000.0, call, usage)) if isinstance(one, Send)]
        assert max(had_s.values()) - min(had_s.values()) <= (rooms + 2) * most_s + TURN_S
