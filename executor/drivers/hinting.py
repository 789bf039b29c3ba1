"""Tells engines what their programs do between calls. Nobody waits for it, and what cannot be told is not."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, replace

import structlog

from executor.commands import Hint
from executor.door.asking import hint_body
from executor.engines.port import EngineFailed
from executor.engines.upstream import Upstream
from planner.ir.ids import EngineId, ProgramId

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HintLimits:
    """For each engine. It answers a hint between two of its steps, for which it has `answer_s`."""

    answer_s: float = 2.0
    waiting: int = 1024
    at_once: int = 8


@dataclass(slots=True)
class HintCounts:
    """`taken` by the engine; the others were dropped: it has no plugin that takes them (`unheard`), too many waited
    (`crowded`), a newer hint or the program's next call came first (`late`), or no good answer came (`failed`)."""

    taken: int = 0
    unheard: int = 0
    crowded: int = 0
    late: int = 0
    failed: int = 0

    def values(self) -> dict[str, int]:
        return asdict(self)


class HintPost:
    """For one event loop. `spawn` starts a task and sees to it that it ends with the driver.

    An engine without the plugin is asked once, and again when it is `back`. Of a program only the newest hint waits.
    """

    def __init__(
        self,
        upstreams: Mapping[EngineId, Upstream],
        spawn: Callable[[Coroutine[None, None, None]], None],
        limits: HintLimits | None = None,
    ) -> None:
        limits = limits or HintLimits()
        self._lines = {engine: _Line(engine, upstream, limits) for engine, upstream in upstreams.items()}
        self._spawn = spawn

    def tell(self, hint: Hint) -> None:
        """Engines without an upstream are told nothing."""
        line = self._lines.get(hint.engine)
        if line is not None and line.add(hint) and line.wants_another():
            line.at_work += 1
            self._spawn(line.work())

    def called(self, engine: EngineId, program: ProgramId) -> None:
        """The program's next call goes there: what waits to be said of its pause comes too late."""
        if engine in self._lines:
            self._lines[engine].withdraw(program)

    def back(self, engine: EngineId) -> None:
        """It may be another process now."""
        if engine in self._lines:
            self._lines[engine].takes = None

    def counts(self) -> Mapping[EngineId, HintCounts]:
        return {engine: replace(line.counts) for engine, line in self._lines.items()}


class _Line:
    """The hints for one engine: those that wait, and of which programs some are on their way."""

    def __init__(self, engine: EngineId, upstream: Upstream, limits: HintLimits) -> None:
        self.takes: bool | None = None  # not known
        self.counts = HintCounts()
        self.at_work = 0
        self._engine, self._upstream, self._limits = engine, upstream, limits
        self._waiting: OrderedDict[ProgramId, Hint] = OrderedDict()
        self._on_their_way: set[ProgramId] = set()
        self._fails = False

    def add(self, hint: Hint) -> bool:
        if self.takes is False:
            self.counts.unheard += 1
            return False
        earlier = self._waiting.get(hint.program)
        if earlier is None and len(self._waiting) >= self._limits.waiting:
            self.counts.crowded += 1
            return False
        self.counts.late += earlier is not None
        self._waiting[hint.program] = replace(hint, tools=hint.tools or (earlier.tools if earlier else ()))
        return True

    def wants_another(self) -> bool:
        """Until it is known whether the engine takes hints, it is asked by one."""
        return self.at_work < (self._limits.at_once if self.takes else 1)

    def withdraw(self, program: ProgramId) -> None:
        self.counts.late += self._waiting.pop(program, None) is not None

    async def work(self) -> None:
        try:
            while (hint := self._next()) is not None:
                self._on_their_way.add(hint.program)
                await self._tell(hint)
                self._on_their_way.discard(hint.program)
        finally:
            self.at_work -= 1

    def _next(self) -> Hint | None:
        """In order; hints of one program never pass one another."""
        free = next((one for one in self._waiting if one not in self._on_their_way), None)
        return None if free is None else self._waiting.pop(free)

    async def _tell(self, hint: Hint) -> None:
        try:
            async with asyncio.timeout(self._limits.answer_s):
                taken = await self._upstream.hint(hint_body(hint))
        except TimeoutError:
            self._failed(f"no answer within {self._limits.answer_s:g} s")
        except EngineFailed as problem:
            self._failed(problem.failure.message)
        else:
            self._heard() if taken else self._unheard()

    def _failed(self, why: str) -> None:
        self.counts.failed += 1
        if not self._fails:
            log.warning("hints do not reach the engine; its KV is kept without them", engine=self._engine, detail=why)
        self._fails = True

    def _heard(self) -> None:
        self.counts.taken += 1
        if not self.takes or self._fails:
            log.info("the engine takes hints", engine=self._engine)
        self.takes, self._fails = True, False

    def _unheard(self) -> None:
        log.info("the engine takes no hints: it has no halo_vllm at work", engine=self._engine)
        self.takes = False
        self.counts.unheard += 1 + len(self._waiting)
        self._waiting.clear()
