"""Live program state inside one process: gone when it ends, seen by nobody else."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from kvstore.program_state import MOST_LENGTHS, ProgramState
from planner.ir.ids import ProgramId


class MemoryStates:
    """Body of the `ProgramStates` port for a single process. Beyond `most` programs, and as many turns and
    beginnings of texts, those that nobody saved for longest are forgotten."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._states: OrderedDict[ProgramId, ProgramState] = OrderedDict()
        self._turns: OrderedDict[str, ProgramId] = OrderedDict()
        self._lengths: OrderedDict[str, OrderedDict[int, None]] = OrderedDict()
        self._woken = asyncio.Event()

    async def save(self, states: Sequence[ProgramState]) -> None:
        for state in states:
            known = self._states.get(state.program)
            if known is None or known.version < state.version:
                self._states[state.program] = state
                self._states.move_to_end(state.program)
        while len(self._states) > self._most:
            self._states.popitem(last=False)

    async def load(self, program: ProgramId) -> ProgramState | None:
        return self._states.get(program)

    async def forget(self, programs: Sequence[ProgramId]) -> None:
        for program in programs:
            self._states.pop(program, None)

    async def name_turns(self, turns: Sequence[tuple[str, ProgramId]]) -> None:
        for name, program in turns:
            self._turns[name] = program
            self._turns.move_to_end(name)
        while len(self._turns) > self._most:
            self._turns.popitem(last=False)

    async def program_of_turn(self, names: Sequence[str]) -> ProgramId | None:
        return next((self._turns[name] for name in names if name in self._turns), None)

    async def note_texts(self, texts: Sequence[tuple[str, int]]) -> None:
        for beginning, length in texts:
            kept = self._lengths.setdefault(beginning, OrderedDict())
            kept[length] = None
            kept.move_to_end(length)
            self._lengths.move_to_end(beginning)
            if len(kept) > MOST_LENGTHS:
                kept.popitem(last=False)
        while len(self._lengths) > self._most:
            self._lengths.popitem(last=False)

    async def text_lengths(self, beginnings: Sequence[str]) -> Sequence[int]:
        return [length for beginning in beginnings for length in self._lengths.get(beginning, ())]

    async def wake(self) -> None:
        self._woken.set()

    async def wait_for_wake(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):  # `wait_for` may swallow a cancellation (Python 3.11)
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None
