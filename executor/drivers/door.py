"""The door's driver: agents outside of Halo call engines through it. It performs what the door's core decides."""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import structlog

from executor.clock import Clock
from executor.commands import CallMeAt, Hint, WatchEngine
from executor.door.asking import cache_salt, engine_body, engine_headers
from executor.door.commands import DoorCommand, KeepState, NameTurn, Refuse, Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived, CallFailed, CallGone, CallNumber, DoorEvent
from executor.door.limits import DoorLimits
from executor.door.reading import Reading, read_call, with_answer
from executor.door.record import DoorOpened
from executor.door.tools import tools_asked
from executor.drivers.call_metrics import CallMetrics, Now
from executor.drivers.hinting import HintCounts, HintPost
from executor.drivers.kv_telling import follow_kv_events
from executor.drivers.live_state import LiveState
from executor.drivers.passing import Passing, Sink, read_all
from executor.drivers.places import Left, SharedPlaces, Side
from executor.drivers.tasks import Tasks
from executor.drivers.token_meter import TokenMeter
from executor.drivers.watch import EngineWatch
from executor.engines.names import in_header
from executor.engines.openai_wire import failure_from
from executor.engines.port import Engine, EngineFailed, EngineHealth, Failure, FailureClass, Usage
from executor.engines.rungs import Rung
from executor.engines.upstream import Reply, Upstream, UpstreamRequest
from executor.events import (
    EngineBack,
    EngineDraining,
    EngineLost,
    EngineResumed,
    Event,
    PlacesShared,
    RungFound,
    WakeUp,
)
from executor.journal import Journal
from executor.policy.places import Kind
from executor.store.told import Served
from kvstore.program_state import ProgramState, ProgramStates, StateUnavailable
from planner.ir.ids import EngineId, ProgramId
from planner.ir.values import Json

#: OpenAI's own client waits so long for an answer.
CALL_S = 600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose body was checked. `headers` have names in small letters; `salt` parts the tenant's prefix cache
    from others', where there are others."""

    tenant: str
    path: str
    body: Mapping[str, Json]
    headers: Mapping[str, str]
    salt: str | None = None


class DoorRefused(Exception):
    """The call was not done; nothing was written to the client yet."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Door:
    """Start it with `async with`; for one event loop only. `upstreams` are closed with it, `engines` are not.

    `fresh_name` gives a name nobody has; `now` is in seconds since the epoch. A call takes `call_s` at most. In
    `places` it shares engines with other drivers; `metrics` counts its calls. `journal` gets every event, in order.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        upstreams: Mapping[EngineId, Upstream],
        states: ProgramStates,
        clock: Clock,
        limits: DoorLimits | None = None,
        *,
        places: SharedPlaces | None = None,
        metrics: CallMetrics | None = None,
        journal: Journal | None = None,
        call_s: float = CALL_S,
        fresh_name: Callable[[], str] = lambda: secrets.token_hex(12),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._engines: Mapping[EngineId, Engine] = {engine.spec.id: engine for engine in engines}
        self._upstreams, self._states, self._clock = upstreams, states, clock
        self._call_s, self._fresh_name, self._now = call_s, fresh_name, now
        self._limits, self._journal = limits or DoorLimits(), journal
        self._core = DoorCore([engine.spec for engine in engines], self._limits)
        self._orders: dict[CallNumber, asyncio.Queue[Send | Refuse]] = {}
        self._numbers = count(1)
        self._live = LiveState(states, clock)
        self._tasks = Tasks(self._broken)
        self._hints = HintPost(upstreams, self._tasks.spawn)
        self._rungs: dict[EngineId, Rung] = {}
        self._places = places or SharedPlaces([engine.spec for engine in engines])
        self._metrics, core = metrics or CallMetrics(), self._core
        self._side = Side(Kind.DOOR, core.fleet.running, core.wanting, core.admission.sets, self._leave_room)
        now_s = Now(core.fleet.running, lambda: len(core.line), lambda: len(core.admission.held))
        self._metrics.follow(Kind.DOOR, now_s)
        self._inbox: deque[DoorEvent] = deque()
        self._draining = False
        self._meter = TokenMeter()

    async def __aenter__(self) -> "Door":
        if self._journal is not None:
            specs = tuple(engine.spec for engine in self._engines.values())
            self._journal.append(DoorOpened(self._now(), specs, self._limits))
        self._watch = EngineWatch(self._engines, self._clock, self._told, self._tasks.spawn, self._note)
        await self._watch.start()
        self._places.join(self._side)
        follow_kv_events((engine.spec for engine in self._engines.values()), self._now, self._post, self._tasks.spawn)
        self._live.start(self._tasks.spawn)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._places.leave(self._side)
        await self._tasks.close()
        for upstream in self._upstreams.values():
            await upstream.close()

    async def answer(self, asked: Asked, sink: Sink) -> None:
        """Write the engine's answer to `sink`. Cancelling this stops the work inside the engine.

        Raises `DoorRefused` as long as nothing was written.
        """
        passing = Passing(sink, asked.body, self._clock)
        try:
            async with asyncio.timeout(self._call_s):
                await self._answer(asked, passing)
        except TimeoutError:
            late = Failure(FailureClass.ENGINE, "timeout", f"no answer within {self._call_s:g} s")
            if not passing.begun:
                raise DoorRefused(late) from None
            await passing.break_off(late)

    def hints(self) -> Mapping[EngineId, HintCounts]:
        """How many hints each engine took, and how many were dropped, and why."""
        return self._hints.counts()

    def drain(self, engine: EngineId) -> None:
        """Send nothing more to the engine; what it has ends there."""
        self._post(EngineDraining(self._now(), engine))

    def resume(self, engine: EngineId) -> None:
        self._post(EngineResumed(self._now(), engine))

    def running(self) -> Mapping[EngineId, int]:
        """How many calls through this door each engine has."""
        return self._core.fleet.running()

    def served(self, seconds: float) -> Sequence[Served]:
        """What engines answered through this door in the last so many seconds, an hour at most."""
        return self._meter.since(self._now() - seconds)

    async def _answer(self, asked: Asked, passing: Passing) -> None:
        reading = read_call(asked.tenant, asked.path, asked.body, asked.headers)
        known = await self._known(reading)
        number, fresh = next(self._numbers), ProgramId(f"{asked.tenant}/{self._fresh_name()}")
        orders = self._orders[number] = asyncio.Queue()
        try:
            self._post(_arrival(self._now(), number, asked, fresh, reading, known))
            while not await self._follow(await orders.get(), asked, reading, passing):
                """It failed before the client saw any of it; the core says what is next."""
        finally:
            del self._orders[number]
            self._post(CallGone(self._now(), number))

    async def _follow(self, order: Send | Refuse, asked: Asked, reading: Reading, passing: Passing) -> bool:
        """Whether the client has its answer."""
        if isinstance(order, Refuse):
            self._metrics.refused(order.failure.code)
            raise DoorRefused(order.failure)
        spec, request_id = self._engines[order.engine].spec, self._fresh_name()
        body = engine_body(asked.body, spec, order.program, order.sequence, asked.salt)
        request = UpstreamRequest(asked.path, body, engine_headers(order.program, request_id))
        passing.headers = _headers_back(asked.tenant, order, request_id)
        try:
            async with self._upstreams[order.engine].ask(request) as reply:
                await self._pass_on(reply, order, asked, reading, passing)
        except EngineFailed as problem:
            self._metrics.failed(Kind.DOOR, order.engine, problem.failure.code)
            self._post(CallFailed(self._now(), order.call, problem.failure, passing.begun))
            if passing.begun:
                await passing.break_off(problem.failure)
        return passing.begun

    async def _pass_on(self, reply: Reply, order: Send, asked: Asked, reading: Reading, passing: Passing) -> None:
        if reply.status != 200:
            await self._refused(reply, order, passing)
            return
        streams = bool(asked.body.get("stream"))
        answer = await (passing.pass_events(reply) if streams else passing.pass_whole(reply))
        self._count(order, answer.usage or Usage(), passing, streams=streams)
        said = with_answer(reading.said, answer.message, answer.token_ids)
        tools = tools_asked(answer.message)
        self._meter.note(self._now(), order.engine, answer.usage or Usage())
        self._post(CallAnswered(self._now(), order.call, answer.usage or Usage(), said, tools))

    def _count(self, order: Send, usage: Usage, passing: Passing, *, streams: bool) -> None:
        took_s, first_s = self._clock.now() - passing.arrived_s, passing.begun_s - passing.arrived_s
        self._metrics.answered(Kind.DOOR, order.engine, usage, took_s, first_s if streams else None)

    async def _refused(self, reply: Reply, order: Send, passing: Passing) -> None:
        """Raises `EngineFailed` where the request is not at fault."""
        content = await read_all(reply)
        problem = failure_from(reply.status, reply.headers, content)
        if problem.failure.failure_class is not FailureClass.ROW:
            raise problem
        self._metrics.failed(Kind.DOOR, order.engine, problem.failure.code)
        await passing.pass_refusal(reply.status, content)
        self._post(CallFailed(self._now(), order.call, problem.failure, begun=True))

    async def _known(self, reading: Reading) -> ProgramState | None:
        """What any replica saved of the program. Without it the call is only slower."""
        try:
            program = reading.named or await self._continued(reading)
            return await self._states.load(program) if program else None
        except StateUnavailable as error:
            log.warning("program state not read", error=str(error))
            return None

    async def _continued(self, reading: Reading) -> ProgramId | None:
        """The program that any replica knows to have ended where this one goes on."""
        if not reading.blocks:
            return await self._states.program_of_turn(reading.turns)
        return await self._states.program_of_turn(reading.turns_at(await self._states.text_lengths(reading.blocks)))

    def _told(self, event: Event) -> None:
        """Of an engine; the watch has a clock of its own."""
        assert isinstance(event, EngineLost | EngineBack | RungFound)
        if isinstance(event, EngineBack):
            self._hints.back(event.engine)
        self._post(replace(event, at=self._now()))

    def _note(self, engine: EngineId, health: EngineHealth) -> None:
        if health.ready and self._rungs.get(engine) is not health.rung:
            self._rungs[engine] = health.rung
            log.info("how the engine keeps the KV of programs that wait", engine=engine, by=health.rung.value)

    def _leave_room(self, engine: EngineId, left: Left) -> None:
        self._post(PlacesShared(self._now(), engine, left.places, left.kv))

    def _post(self, event: DoorEvent) -> None:
        self._inbox.append(event)
        if self._draining:
            return
        self._draining = True
        try:
            while self._inbox:
                self._handle(self._inbox.popleft())
        finally:
            self._draining = False
            self._places.changed(self._side)

    def _handle(self, event: DoorEvent) -> None:
        if self._journal is not None:
            self._journal.append(self._core.recorded(event))
        for command in self._core.handle(event):
            self._perform(command)

    def _perform(self, command: DoorCommand) -> None:
        match command:
            case Send(engine=engine, program=program):
                log.debug("call sent", call=command.call, program=program, engine=engine, reason=command.reason)
                self._places.entered(self._side, engine)
                self._hints.called(engine, program)
                self._orders[command.call].put_nowait(command)
            case Refuse():
                self._orders[command.call].put_nowait(command)
            case Hint():
                self._hints.tell(command)
            case KeepState():
                self._live.keep(command.state)
            case NameTurn(name=name, program=program, end=end):
                self._live.name_turn(name, program, None if end is None else (end.blocks, end.length))
            case CallMeAt():
                self._tasks.spawn(self._wake_at(command.at))
            case WatchEngine():
                log.warning("engine taken out", engine=command.engine, reason=command.reason)
                self._watch.bring_back(command.engine, command.after_s)

    async def _wake_at(self, at: float) -> None:
        while (left_s := at - self._now()) > 0:
            await self._clock.sleep(left_s)
        self._post(WakeUp(self._now()))

    def _broken(self, error: BaseException) -> None:
        log.error("the door's driver failed", exc_info=error)


def _arrival(
    at: float, number: CallNumber, asked: Asked, fresh: ProgramId, reading: Reading, known: ProgramState | None
) -> CallArrived:
    return CallArrived(
        at=at,
        call=number,
        tenant=asked.tenant,
        model=asked.body["model"],
        fresh=fresh,
        named=reading.named,
        said=reading.said,
        prefix=reading.prefix,
        prompt_tokens=reading.prompt_tokens,
        answer_tokens=reading.answer_tokens,
        known=known,
        cache_salt=cache_salt(asked.body, asked.salt),
        offers_tools=bool(asked.body.get("tools")),
    )


def _headers_back(tenant: str, order: Send, request_id: str) -> dict[str, str]:
    """The client may send its program's name back, and is then known by it for sure."""
    return {
        "X-Request-Id": request_id,
        "X-Halo-Program-Id": in_header(order.program.removeprefix(f"{tenant}/")),
        "X-Halo-Engine": in_header(order.engine),
    }
