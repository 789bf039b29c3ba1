"""Keeps programs' live state where other replicas and people can see it. Losing it changes nothing but speed."""

import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace

import structlog

from executor.clock import Clock
from executor.commands import SaveProgram
from kvstore.program_state import ProgramState, ProgramStates, StateUnavailable
from planner.ir.ids import ProgramId

SAVE_EVERY_S = 0.2
#: As many programs run at once by default.
MOST_RECALLED = 512

log = structlog.get_logger(__name__)


class LiveState:
    """The newest state of each program goes out every `SAVE_EVERY_S`; older ones in between are never sent."""

    def __init__(self, states: ProgramStates, clock: Clock) -> None:
        self._states, self._clock = states, clock
        self._newest: dict[ProgramId, ProgramState] = {}
        self._ended: list[ProgramId] = []
        self._turns: list[tuple[str, ProgramId]] = []
        self._texts: list[tuple[str, int]] = []
        self._version = time.time_ns()  # grows over restarts too, so that an old process never overwrites a new one

    def start(self, spawn: Callable[[Coroutine[None, None, None]], None]) -> None:
        spawn(self._run())

    def save(self, command: SaveProgram) -> None:
        self._version += 1
        behind_s = time.time() - self._clock.now()
        self._newest[command.program] = ProgramState(
            program=command.program,
            version=self._version,
            node=command.node,
            doing=command.doing,
            since=behind_s + command.since,
            engine=command.engine,
            turns=command.turns,
            attained_tokens=command.attained_tokens,
            sequence=command.sequence,
            context_tokens=command.context_tokens,
            until=None if command.until is None else behind_s + command.until,
            tool=command.tool,
        )

    async def recall(self, programs: Sequence[ProgramId]) -> dict[ProgramId, ProgramState]:
        """What is known of them, of the first `MOST_RECALLED` at most; nothing of the rest once nobody answers."""
        found: dict[ProgramId, ProgramState] = {}
        try:
            for program in programs[:MOST_RECALLED]:
                state = await self._states.load(program)
                if state is not None:
                    found[program] = state
        except StateUnavailable as error:
            log.warning("program state not read; programs go on without it", error=str(error))
        return found

    def keep(self, state: ProgramState) -> None:
        """Its version is given here."""
        self._version += 1
        self._newest[state.program] = replace(state, version=self._version)

    def name_turn(self, name: str, program: ProgramId, text: tuple[str, int] | None = None) -> None:
        """Of a `text`, the name of its whole blocks and its length."""
        self._turns.append((name, program))
        if text is not None:
            self._texts.append(text)

    def forget(self, program: ProgramId) -> None:
        if self._newest.pop(program, None) is None:
            self._ended.append(program)

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(SAVE_EVERY_S)
            newest, self._newest = self._newest, {}
            ended, self._ended = self._ended, []
            turns, self._turns = self._turns, []
            texts, self._texts = self._texts, []
            try:
                if newest:
                    await self._states.save(list(newest.values()))
                if turns:
                    await self._states.name_turns(turns)
                if texts:
                    await self._states.note_texts(texts)
                if ended:
                    await self._states.forget(ended)
            except StateUnavailable as error:
                log.warning("program state not saved", error=str(error))
