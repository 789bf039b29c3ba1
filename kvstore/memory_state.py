"""Live program state inside one process: gone when it ends, seen by nobody else."""

import asyncio
from collections.abc import Sequence

from kvstore.program_state import ProgramState
from planner.ir.ids import ProgramId


class MemoryStates:
    """Body of the `ProgramStates` port for a single process."""

    def __init__(self) -> None:
        self._states: dict[ProgramId, ProgramState] = {}
        self._woken = asyncio.Event()

    async def save(self, states: Sequence[ProgramState]) -> None:
        for state in states:
            known = self._states.get(state.program)
            if known is None or known.version < state.version:
                self._states[state.program] = state

    async def load(self, program: ProgramId) -> ProgramState | None:
        return self._states.get(program)

    async def forget(self, programs: Sequence[ProgramId]) -> None:
        for program in programs:
            self._states.pop(program, None)

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
