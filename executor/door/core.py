"""The core of the door: `handle(event) -> commands`. Which program a call is of, when it is sent, and where."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import TypeVar

from executor.commands import CallMeAt, Hint, WatchEngine
from executor.core.fleet import Fleet
from executor.core.unserved import nobody_serves
from executor.door import hinting
from executor.door.admission import DoorAdmission
from executor.door.commands import DoorCommand, KeepState, Refuse, Send
from executor.door.conversations import Conversations
from executor.door.events import CallAnswered, CallArrived, CallFailed, CallGone, CallNumber, DoorEvent
from executor.door.limits import DoorLimits
from executor.door.line import DoorCall, Line
from executor.door.programs import Program, Programs
from executor.door.turns_of_tenants import TurnsOfTenants
from executor.engines.port import EngineSpec, Failure, FailureClass
from executor.engines.rungs import Rung
from executor.events import (
    CacheTold,
    CacheUntold,
    EngineBack,
    EngineDraining,
    EngineLost,
    EngineResumed,
    PlacesShared,
    RungFound,
    WakeUp,
)
from executor.policy.patience import Wait, go_or_wait
from executor.policy.retry import GiveUp, decide_retry
from executor.policy.routing import Choice
from executor.prompt_blocks import BLOCK_TOKENS
from planner.ir.ids import EngineId, NodeRef, ProgramId

#: Behind the first call that must wait, so many are looked at for engines that are free.
LOOKED_AT = 64
#: An answer is expected to be as long as those before it, and so long at first.
FIRST_ANSWER_TOKENS = 256
_SHARE_OF_ONE = 1 / 16
LONGEST_RETRY_AFTER_S = 60.0

_T = TypeVar("_T")


class DoorCore:
    """Holds what is believed of the engines by the calls that went through this door."""

    def __init__(self, engines: Sequence[EngineSpec], limits: DoorLimits | None = None) -> None:
        self._limits = limits or DoorLimits()
        self.fleet: Fleet[DoorCall] = Fleet(engines, self._limits.breaker_failures)
        self.programs = Programs(self._limits.programs, self._limits.idle_s)
        self.line = Line(self._limits.most_passes)
        self._turns = TurnsOfTenants(self._limits, len(engines))
        self.admission = DoorAdmission(self.fleet, self._limits.admission, self._turns)
        self._asks_again_at: float | None = None  # whoever is held
        self._waited_for: frozenset[EngineId] = frozenset()
        self._conversations = Conversations(self._limits.conversations, self._limits.idle_s)
        self._calls: dict[CallNumber, DoorCall] = {}
        self._resting: list[tuple[float, DoorCall]] = []  # to be tried again then
        self._answer_tokens: dict[str, float] = {}
        self._commands: list[DoorCommand] = []

    def handle(self, event: DoorEvent) -> list[DoorCommand]:
        match event:
            case CallArrived():
                self._arrive(event)
            case CallAnswered():
                self._answered(event)
            case CallFailed():
                self._failed(event)
            case CallGone():
                self._gone(event)
            case EngineLost():
                self._lose(event.engine, event.detail, event.at)
            case EngineBack():
                self.fleet.back(event.engine, event.kv_tokens)
            case EngineDraining():
                self._drain(event.engine, event.at)
            case EngineResumed():
                self.fleet.drain(event.engine, draining=False)
            case PlacesShared():
                self.fleet.leave_room(event.engine, event.for_others, event.kv_for_others)
            case RungFound():
                self.admission.sets.trust(event.engine, itself=event.rung is Rung.PLUGIN)
            case CacheTold():
                self.fleet.caches[event.engine].told(event.events)
            case CacheUntold():
                self.fleet.caches[event.engine].untold()
            case WakeUp():
                self._wake(event.at)
        self._send_all(event.at)
        if isinstance(event, CallArrived):
            self._tell_of_turn(event.call)
        commands, self._commands = self._commands, []
        return commands

    def recorded(self, event: DoorEvent) -> DoorEvent:
        """The event without prompts, that a core which knows as much does the same for. Ask before it is handled."""
        if isinstance(event, CallArrived | CallAnswered) and event.said is not None:
            return replace(event, said=self._conversations.digests(event.said))
        return event

    def _arrive(self, event: CallArrived) -> None:
        refusal = self._refusal(event)
        if refusal is not None:
            self._commands.append(Refuse(event.call, refusal))
            return
        id = self._program_of(event)
        known = event.known if event.known is not None and event.known.program == id else None
        for gone in self.programs.forget_old(event.at):
            self._tell(hinting.forgotten(gone))
            self.admission.forgotten(gone.id, event.at)
        program = self.programs.enter(id, event.at, known)
        program.cache_salt = event.cache_salt
        if known is not None:
            self._believe(program, event)
        expected = self._answer_tokens.get(event.model, FIRST_ANSWER_TOKENS)
        answer_tokens = min(event.answer_tokens or expected, expected)
        call = DoorCall(
            number=event.call,
            tenant=event.tenant,
            model=event.model,
            pool=self.fleet.pool_of(event.model, event.tenant),
            program=program,
            prefix=event.prefix,
            prompt_tokens=event.prompt_tokens,
            output_tokens=max(1, round(answer_tokens)),
            looks_like_agent=event.named is not None or event.offers_tools,
        )
        self._calls[call.number] = call
        program.become("waiting", event.at)
        self._line_up(call, event.at)

    def _refusal(self, event: CallArrived) -> Failure | None:
        pool = self.fleet.pool_of(event.model, event.tenant)
        if not self.fleet.knows(pool):
            specs = [view.spec for view in self.fleet.views.values()]
            message = nobody_serves(specs, event.model, event.tenant).message
            return Failure(FailureClass.ROW, "model_unknown", message)
        if self.line.of_tenant(event.tenant) + self.admission.of_tenant(event.tenant) >= self._limits.waiting:
            message = f"{self._limits.waiting} calls wait already; ask again later"
            return Failure(FailureClass.RATE, "queue_full", message, self._retry_after_s(pool))
        return None

    def _program_of(self, event: CallArrived) -> ProgramId:
        if event.named is not None:
            return event.named
        continued = self._conversations.continued(event.said, event.at) if event.said else None
        if continued is None and event.known is not None:
            return event.known.program
        return continued or event.fresh

    def _believe(self, program: Program, event: CallArrived) -> None:
        """Where another replica had the program's last turn, its KV is there still."""
        engine, until = program.engine, program.kept_until
        if engine not in self.fleet.caches or (until is not None and until < event.at):
            return
        blocks = event.prefix[: program.context_tokens // BLOCK_TOKENS]
        if self.fleet.caches[engine].match(blocks) < len(blocks):
            self.fleet.caches[engine].believe(blocks)

    def _answered(self, event: CallAnswered) -> None:
        call = self._calls.pop(event.call, None)
        if call is None or call.engine is None:
            return
        engine, program, usage = call.engine, call.program, event.usage
        self._turns.answered(call, self.fleet.took_s(call, usage))
        self.fleet.learn(call, program.id, usage, event.at)
        self.fleet.answered(self.fleet.leave(call))
        self._learn_length(call.model, usage.output_tokens)
        program.open_calls -= 1
        program.turns += 1
        program.attained_tokens += usage.prompt_tokens - usage.cached_tokens + usage.output_tokens
        program.engine, program.context_tokens = engine, usage.prompt_tokens + usage.output_tokens
        program.kept_until = self._kept_until(engine, call.model, event.at)
        program.become("tool" if event.tools else "pause", event.at, event.tools)
        self.admission.answered(call, event.tools, event.at)
        self._tell_state(program)
        self._tell(hinting.after_answer(program))
        turn = self._conversations.note(event.said, program.id, event.at) if event.said else None
        if turn is not None:
            self._commands.append(turn)

    def _kept_until(self, engine: EngineId, model: str, at: float) -> float | None:
        """An idle block is gone when as much as the cache holds was read after it, which takes T* at least: the KV's
        capacity over the rate of prefill."""
        kv_tokens = self.fleet.caches[engine].kv_tokens
        return at + self.fleet.reading_s(engine, model, kv_tokens) if kv_tokens else None

    def _learn_length(self, model: str, output_tokens: int) -> None:
        before = self._answer_tokens.get(model, float(output_tokens or FIRST_ANSWER_TOKENS))
        self._answer_tokens[model] = before + (output_tokens - before) * _SHARE_OF_ONE

    def _failed(self, event: CallFailed) -> None:
        call = self._calls.get(event.call)
        if call is None or call.engine is None:
            return
        engine, failure = call.engine, event.failure
        self._turns.unanswered(call)
        view = self.fleet.leave(call)
        if self.fleet.failed(view, failure, call.program.id):
            self._lose(engine, failure.message, event.at)
        if event.begun:
            self._end(call, event.at)
            return
        verdict = decide_retry(NodeRef(call.program.id, str(call.number)), failure, call.tries, 0)
        if isinstance(verdict, GiveUp):
            self._refuse(call, verdict.failure, event.at)
            return
        call.tries = verdict.tries
        if verdict.elsewhere:
            call.avoid = (*call.avoid, engine)
        self.admission.failed(call, elsewhere=verdict.elsewhere)
        self._rest(call, event.at + verdict.after_s, event.at)

    def _rest(self, call: DoorCall, until: float, at: float) -> None:
        if until <= at:
            self._line_up(call, at)
            return
        self._resting.append((until, call))
        self._commands.append(CallMeAt(until))

    def _gone(self, event: CallGone) -> None:
        call = self._calls.get(event.call)
        if call is None:
            return
        if call.engine is not None:
            self._turns.unanswered(call)
            self.fleet.leave(call)
        elif any(call is resting for _, resting in self._resting):
            self._resting = [one for one in self._resting if one[1] is not call]
        elif call not in self.admission.held:
            self.line.take(call)
        self._end(call, event.at)

    def _refuse(self, call: DoorCall, failure: Failure, at: float) -> None:
        self._end(call, at)
        self._commands.append(Refuse(call.number, failure))

    def _end(self, call: DoorCall, at: float) -> None:
        del self._calls[call.number]
        call.program.open_calls -= 1
        call.program.become("pause", at)
        self._tell_state(call.program)
        for other in self.admission.gone(call, at):
            self._line_up(other, at)

    def _lose(self, engine: EngineId, detail: str, at: float) -> None:
        """Calls inside it fail by themselves: their connections break."""
        if not self.fleet.views[engine].up:
            return
        self.fleet.down(engine)
        self._commands.append(WatchEngine(engine, self.fleet.probe_delay_s(engine), detail))
        self._leave_line_of(engine, at)

    def _drain(self, engine: EngineId, at: float) -> None:
        """What is inside is answered there; programs whose KV is there have their next turn elsewhere."""
        if not self.fleet.views[engine].draining:
            self.fleet.drain(engine, draining=True)
            self._leave_line_of(engine, at)

    def _leave_line_of(self, engine: EngineId, at: float) -> None:
        for call in self.admission.lost(engine):
            self.line.take(call)
            self._line_up(call, at)

    def _wake(self, at: float) -> None:
        rested, self._resting = _split(self._resting, at)
        for call in rested:
            self._line_up(call, at)

    def _line_up(self, call: DoorCall, at: float) -> None:
        """The call is ready. It is held where there is no room for its program."""
        if self.admission.asks(call, at):
            self.line.add(call)

    def _let_in(self, at: float) -> None:
        """Programs that were held go into the line as far as engines have room for them."""
        for call in self.admission.admitted(at):
            self.line.add(call)
        for program, why in self.admission.newly_held():
            program.become(f"held: {why}", at)
            self._tell_state(program)
        for call in [one for one in self.admission.held if not self.fleet.serves(one.pool)]:
            self._strand(call, at)
        wake_at = self.admission.sets.wake_at_s(at)
        if wake_at is not None and (self._asks_again_at is None or not at < self._asks_again_at <= wake_at):
            self._asks_again_at = wake_at
            self._commands.append(CallMeAt(wake_at))

    def _send_all(self, at: float) -> None:
        """Tenants in turn, of each the earliest program first. An engine that a call waits for takes no later one, so
        nobody gets ahead of it."""
        turns = self._turns.order(dict.fromkeys((*self.line.tenants, *self.admission.tenants)))
        self._let_in(at)
        waiting_s: dict[EngineId, float] = {}
        behind = 0
        for call in self.line.in_turn(turns):
            serving = self.fleet.serving(call.pool)
            if not serving:
                self._strand(call, at)
                continue
            call.stranded_at = None
            if behind > LOOKED_AT or all(view.spec.id in waiting_s for view in serving):
                continue
            offers = self.fleet.offers(call, [one for one in serving if self.admission.may_enter(call, one.spec.id)])
            choice = go_or_wait(offers, waiting_s, call.avoid, suspect=call.suspect)
            if isinstance(choice, Wait):
                waiting_s[choice.engine] = waiting_s.get(choice.engine, 0.0) + choice.load_s
                behind += 1
            else:
                self._send(call, choice, at)
        self._waited_for = frozenset(waiting_s)

    def wanting(self) -> set[EngineId]:
        """The engines without a place for calls that wait for them."""
        return self.fleet.full(self._waited_for)

    def _send(self, call: DoorCall, choice: Choice, at: float) -> None:
        self.line.send(call)
        self.fleet.enter(call, choice, at)
        self._turns.sent(call)
        self._tell(hinting.turn_goes(call.program, choice.engine))
        call.program.move(choice.engine)
        call.program.become("call", at)
        self._tell_state(call.program)
        reason = choice.reason + self.admission.sent(call, choice.engine, at)
        self._commands.append(Send(call.number, choice.engine, call.program.id, call.program.sequence, reason))

    def _strand(self, call: DoorCall, at: float) -> None:
        if call.stranded_at is None:
            call.stranded_at = at
            self._commands.append(CallMeAt(at + self._limits.no_engine_s))
        elif at >= call.stranded_at + self._limits.no_engine_s:
            if call not in self.admission.held:
                self.line.take(call)
            message = f"no engine that serves {call.model!r} answers and takes calls just now"
            failure = Failure(FailureClass.ENGINE, "no_engine", message, self._limits.no_engine_s)
            self._refuse(call, failure, at)

    def _retry_after_s(self, pool: str) -> float:
        """When the engines will be done with what they have now."""
        loads = [view.load_s * view.slowness for view in self.fleet.serving(pool)]
        return float(ceil(min(LONGEST_RETRY_AFTER_S, max(1.0, min(loads, default=LONGEST_RETRY_AFTER_S)))))

    def _tell_of_turn(self, number: CallNumber) -> None:
        call = self._calls.get(number)
        if call is not None and call.engine is None:
            self._tell(hinting.turn_waits(call.program))

    def _tell(self, hint: Hint | None) -> None:
        """Engines that are away have nothing left of it."""
        if hint is not None and hint.engine in self.fleet.views and self.fleet.views[hint.engine].up:
            self._commands.append(hint)

    def _tell_state(self, program: Program) -> None:
        self._commands.append(KeepState(program.state()))


def _split(resting: list[tuple[float, _T]], at: float) -> tuple[list[_T], list[tuple[float, _T]]]:
    return [call for until, call in resting if until <= at], [one for one in resting if one[0] > at]
