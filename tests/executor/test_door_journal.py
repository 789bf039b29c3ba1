"""A door's events, written down and fed to a fresh core, give the same commands; no prompt is among them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.clock import WallClock
from executor.door.commands import DoorCommand, Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived, CallFailed, CallGone, DoorEvent
from executor.door.limits import DoorLimits
from executor.door.record import DoorOpened, handled_again
from executor.door.turns import Said, Talk, Text
from executor.drivers.door import Asked, Door
from executor.engines.port import Completion, EngineHealth, EngineSpec, Failure, FailureClass, GenerateRequest, Usage
from executor.engines.upstream_engine import EngineUpstream
from executor.events import EngineBack, EngineLost, PlacesShared, WakeUp
from executor.journal import Journal, LineUnreadable, kind_of, read_door_journal, read_journal
from executor.policy.fairness import TenantShare
from halo_vllm.policy.tools import ToolKey
from kvstore.memory_state import MemoryStates
from planner.ir.ids import EngineId, ProgramId

ENGINES = tuple(EngineSpec(EngineId(name), "vllm", ("m",), max_running=2, kv_tokens=4000) for name in "ab")
DIED = Failure(FailureClass.ENGINE_DIED, "engine_died", "the connection broke")


class Traffic:
    """Calls come, end and fail in any order; what is said goes on from what was said before, or does not."""

    def __init__(self, seed: int, path: Path) -> None:
        self.random, self.now = Random(seed), 1000.0
        limits = DoorLimits(
            waiting=8,
            most_passes=4,
            no_engine_s=20.0,
            programs=6,
            conversations=4,
            idle_s=60.0,
            tenants={"ann": TenantShare(weight=2.0)},
        )
        self.core, self.journal = DoorCore(ENGINES, limits), Journal(path)
        self.journal.append(DoorOpened(self.now, ENGINES, limits))
        self.handled: list[Sequence[DoorCommand]] = []
        self.open: dict[int, EngineId | None] = {}
        self.said: list[Said] = []
        self.texts = 0

    def handle(self, event: DoorEvent) -> None:
        self.journal.append(self.core.recorded(event))
        commands = self.core.handle(event)
        self.handled.append(commands)
        for command in commands:
            if isinstance(command, Send):
                self.open[command.call] = command.engine

    def step(self) -> None:
        draw = self.random
        self.now += draw.choice((0.0, 0.01, 1.0, 25.0))
        inside = [call for call, engine in self.open.items() if engine is not None]
        what = draw.choice(("arrive", "arrive", "end", "end", "else"))
        if what == "arrive":
            self._arrive()
        elif what == "end" and inside:
            self._end(draw.choice(inside))
        else:
            self._else()

    def _arrive(self) -> None:
        number, draw = len(self.handled), self.random
        prefix = tuple(range(100, 100 + draw.randint(0, 5)))
        named = draw.choice((None, None, ProgramId(f"team/p{draw.randint(0, 3)}")))
        self.open[number] = None
        self.handle(
            CallArrived(
                at=self.now,
                call=number,
                tenant=draw.choice(("team", "ann")),
                model="m",
                fresh=ProgramId(f"team/f{number}"),
                named=named,
                said=self._goes_on(),
                prefix=prefix,
                prompt_tokens=draw.randint(1, 3000),
                offers_tools=draw.random() < 0.5,
            )
        )

    def _goes_on(self) -> Said | None:
        before = self.random.choice((None, *self.said[-6:]))
        self.texts += 1
        if isinstance(before, Text):
            return Text("root", before.text + f" {self.texts}")
        if isinstance(before, Talk):
            return Talk("root", (*before.names, f"n{self.texts}"))
        return self.random.choice((None, Text("root", f"secret {self.texts}"), Talk("root", (f"n{self.texts}",))))

    def _end(self, call: int) -> None:
        draw = self.random
        del self.open[call]
        if draw.random() < 0.2:
            self.handle(CallFailed(self.now, call, DIED, begun=draw.random() < 0.5))
            self.open |= {} if call not in self.core._calls else {call: self.core._calls[call].engine}
            return
        said = self._goes_on()
        self.said += [said] if said is not None else []
        tools = draw.choice(((), (ToolKey("look", "ls"),)))
        self.handle(CallAnswered(self.now, call, Usage(100, 10, 32), said, tools))

    def _else(self) -> None:
        engine = self.random.choice(ENGINES).id
        gone = self.random.choice((None, *self.open))
        events: list[DoorEvent] = [
            WakeUp(self.now),
            EngineLost(self.now, engine, "gone"),
            EngineBack(self.now, engine, 4000),
            PlacesShared(self.now, engine, self.random.randint(0, 2), self.random.choice((0.0, 0.25))),
        ]
        events += [CallGone(self.now, gone)] if gone is not None else []
        event = self.random.choice(events)
        if isinstance(event, CallGone):
            del self.open[event.call]
        self.handle(event)


@given(st.integers(0, 2**16))
@settings(max_examples=40)
def test_the_same_commands_come_of_it_again(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "door.txt"
    traffic = Traffic(seed, path)
    for _ in range(120):
        traffic.step()
    traffic.journal.close()
    assert "secret" not in path.read_text()
    again = [commands for _, commands in handled_again(read_door_journal(path))]
    assert again == traffic.handled


class Echo:
    """Says which program and which engine it was asked by."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.asked: list[tuple[str, str]] = []

    async def generate(self, request: GenerateRequest) -> Completion:
        self.asked.append((request.program, self.spec.id))
        return Completion("yes", Usage(10, 1))

    async def probe(self) -> EngineHealth:
        return EngineHealth(ready=True)

    async def close(self) -> None:
        pass


class Reader:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        assert status == 200

    async def write(self, part: bytes) -> None:
        self.parts.append(part)


async def run_door(journal: Path, engines: Sequence[Echo], calls: int) -> None:
    log = Journal(journal)
    upstreams = {engine.spec.id: EngineUpstream(engine) for engine in engines}
    async with Door(engines, upstreams, MemoryStates(), WallClock(), journal=log) as door:
        for number in range(calls):
            body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": f"secret {number}"}]}
            await door.answer(Asked("team", "/v1/chat/completions", body, {"x-session-id": f"s{number}"}), Reader())
    log.close()


async def test_a_process_writes_its_door_and_the_next_one_goes_on_in_the_same_file(tmp_path: Path) -> None:
    engines, journal = [Echo(spec) for spec in ENGINES], tmp_path / "events.door.txt"
    await run_door(journal, engines, 3)
    await run_door(journal, engines, 2)
    records = list(read_door_journal(journal))
    assert sum(isinstance(record, DoorOpened) for record in records) == 2
    assert "secret" not in journal.read_text()
    commands = [command for _, one in handled_again(records) for command in one]
    sent = [(command.program, command.engine) for command in commands if isinstance(command, Send)]
    assert sorted(sent) == sorted(asked for engine in engines for asked in engine.asked)
    assert [program for program, _ in sent] == [f"team/s{number}" for number in (0, 1, 2, 0, 1)]


def test_what_is_no_door_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="before its door was opened"):
        list(handled_again([WakeUp(1.0)]))
    runs = tmp_path / "events.txt"
    runs.write_text('Cancelled {"at": 1.0, "job": "j"}\n')
    assert len(list(read_journal(runs))) == 1
    with pytest.raises(LineUnreadable, match="line 1 does not begin with the name of an event"):
        list(read_door_journal(runs))
    runs.write_text('WakeUp {"at": 1.0}\nCallGone {"at": "now"}\n')
    with pytest.raises(LineUnreadable, match="line 2 is no whole CallGone"):
        list(read_door_journal(runs))


def test_whose_journal_it_is_is_told_by_what_only_one_of_both_writes(tmp_path: Path) -> None:
    journal, both = tmp_path / "journal.txt", 'WakeUp {"at": 1.0}\n'
    for line, kind in (("", None), ('Cancelled {"at": 1.0, "job": "j"}\n', "jobs"), ('CallGone {"at": 1.0}', "door")):
        journal.write_text(both + line)
        assert kind_of(journal) == kind
