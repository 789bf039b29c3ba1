"""Laws of the door, whatever happens in whatever order."""

from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from executor.commands import CallMeAt
from executor.door.commands import DoorCommand, Refuse, Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived, CallFailed, CallGone, DoorEvent
from executor.door.limits import DoorLimits
from executor.engines.port import EngineSpec, Failure, FailureClass, Usage
from executor.events import EngineBack, EngineLost, WakeUp
from planner.ir.ids import EngineId, ProgramId

ENGINES = tuple(
    EngineSpec(EngineId(name), "vllm", ("m", name), url="http://engine", max_running=2, kv_tokens=4000) for name in "ab"
)
WAITING = 6
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
        limits = DoorLimits(waiting=WAITING, most_passes=4, no_engine_s=20.0, programs=5, conversations=5)
        self.core, self.now, self.numbers = DoorCore(ENGINES, limits), 1000.0, count(1)
        self.open: set[int] = set()
        self.inside: dict[int, EngineId] = {}
        self.places: dict[int, int] = {}
        self.alarms: list[float] = []

    def handle(self, event: DoorEvent) -> None:
        for command in self.core.handle(event):
            self.take(command)

    def take(self, command: DoorCommand) -> None:
        match command:
            case Send():
                assert command.call in self.open - set(self.inside)
                self.inside[command.call] = command.engine
            case Refuse():
                assert command.call in self.open - set(self.inside)
                self.open.discard(command.call)
            case CallMeAt():
                self.alarms.append(command.at)
            case _:
                pass

    @rule(
        program=st.sampled_from(["p", "q", "r", None]),
        model=st.sampled_from(["m", "m", "a", "b", "nobody"]),
        tokens=st.integers(1, 6000),
        path=st.lists(st.integers(0, 1), max_size=5),
    )
    def arrive(self, program: str | None, model: str, tokens: int, path: list[int]) -> None:
        number = next(self.numbers)
        prefix = tuple(hash(tuple(path[: end + 1])) for end in range(len(path)))
        self.open.add(number)
        named = ProgramId(program) if program else None
        fresh = ProgramId(f"fresh-{number}")
        event = CallArrived(self.now, number, "team", model, fresh, named, prefix=prefix, prompt_tokens=tokens)
        self.handle(event)

    def some(self, data: Any) -> int:
        return int(data.draw(st.sampled_from(sorted(self.inside))))

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def answer(self, data: Any) -> None:
        call = self.some(data)
        del self.inside[call]
        self.open.discard(call)
        self.handle(CallAnswered(self.now, call, Usage(100, 10)))

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
        waiting = len(self.core.line)
        assert waiting <= WAITING + sum(engine.max_running for engine in ENGINES)  # those tried again come back

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
        assert len(self.core.line) == 0
        assert all(view.running == 0 and view.load_s == 0 for view in self.core.fleet.views.values())


TestDoorLaws = DoorLaws.TestCase
TestDoorLaws.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
