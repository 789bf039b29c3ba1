"""Agents on a core in virtual time: prompts as they are told, answers and tools when a test says so."""

from collections.abc import Callable, Sequence

from example_plans import LOOKUP, user

from executor.commands import CallMeAt, Command, Dispatch, FinishProgram, Prepare, RunTool, SaveProgram, Settle
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec, Usage
from executor.events import BatchPlanned, CallFinished, Event, JobSubmitted, Prepared, Settled, ToolFinished, WakeUp
from executor.prompt_blocks import BLOCK_TOKENS
from planner.ir.expressions import Column, Const
from planner.ir.ids import JobId, StageId, row_of
from planner.ir.plan import Agent, Input, Plan, Stage

MOST_TURNS = 50
AGENT = Agent(StageId("solve"), "small", user(Column("q")), (LOOKUP,), MOST_TURNS)
#: An answer takes one block.
ANSWER_TOKENS = BLOCK_TOKENS

Blocks = Callable[[int, int], tuple[int, ...]]


def grows(shared: int, own: int, by: int = 0) -> Blocks:
    """(row, turn) -> the blocks of its prompt: some that all share, some of its own, and more with each turn."""

    def blocks(row: int, turn: int) -> tuple[int, ...]:
        begin = 10_000 * (row + 1)
        return (*range(shared), *range(begin, begin + own + by * turn))

    return blocks


class AgentLine:
    """`inside` and `tools` are what runs now, by row; `sent` is everything that was sent to engines."""

    def __init__(self, blocks: Blocks, *fleet: EngineSpec, limits: Limits | None = None) -> None:
        self.core, self.blocks, self.now = Scheduler(fleet, limits), blocks, 0.0
        self.turns: dict[int, int] = {}
        self.inside: dict[int, Dispatch] = {}
        self.tools: dict[int, RunTool] = {}
        self.sent: list[Dispatch] = []
        self.saved: list[SaveProgram] = []
        self.alarms: list[float] = []
        self.ended: list[int] = []

    def submit(self, rows: int, stages: Sequence[Stage] = (AGENT,), job: str = "j") -> "AgentLine":
        plan = Plan("p", (Input("q"),), tuple(stages), Const(1))
        self.tell(JobSubmitted(self.now, JobId(job), plan, rows))
        self.tell(BatchPlanned(self.now, JobId(job), plan, range(rows), {}))
        return self

    def tell(self, event: Event) -> None:
        commands = self.core.handle(event)
        self.core.check_state()
        for command in commands:
            self._take(command)

    def answer(self, row: int, *, last: bool = False) -> None:
        """The row's call is done; unless it was the last, it asks for a tool."""
        call = self.inside.pop(row)
        turn = self.turns.get(row, 0)
        self.turns[row] = turn + 1
        usage = Usage(len(self.blocks(row, turn)) * BLOCK_TOKENS, ANSWER_TOKENS)
        self.tell(CallFinished(self.now, call.node, call.attempt, usage, () if last else ("lookup",)))

    def back(self, row: int) -> None:
        """The row's tool is done."""
        tool = self.tools.pop(row)
        self.tell(ToolFinished(self.now, tool.node, tool.attempt))

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.alarms and min(self.alarms) <= until:
            self.now = max(self.now, min(self.alarms))
            self.alarms.remove(min(self.alarms))
            self.tell(WakeUp(self.now))
        self.now = until

    def _take(self, command: Command) -> None:
        match command:
            case Prepare():
                self._prepare(command)
            case Settle(node=node, attempt=attempt):
                self.tell(Settled(self.now, node, attempt))
            case Dispatch(node=node):
                self.inside[row_of(node.program)] = command
                self.sent.append(command)
            case RunTool(node=node):
                self.tools[row_of(node.program)] = command
            case FinishProgram(row=row):
                self.ended.append(row)
            case SaveProgram():
                self.saved.append(command)
            case CallMeAt(at=at):
                self.alarms.append(at)
            case _:
                pass

    def _prepare(self, command: Prepare) -> None:
        blocks = self.blocks(row_of(command.node.program), command.turn)
        tokens = len(blocks) * BLOCK_TOKENS
        self.tell(Prepared(self.now, command.node, command.attempt, None, tokens, ANSWER_TOKENS, blocks))
