"""What engines are told of agents between their calls, so that they know for what they keep an agent's KV.

An engine knows a program, not its agents: of several that run at once, none lets go what another one waits for.
"""

from collections.abc import Sequence

from executor.commands import Hint
from executor.core.state import State
from executor.core.work import Program, Role, Work
from halo_vllm.policy.hints import LAST_STEP, LET_GO, TOOL_CALLED, TOOL_FINISHED
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import EngineId


def turn_answered(work: Work) -> None:
    """The turn ended in the engine that it is in."""
    if work.agent is not None:
        work.agent.kv_at = work.program.kv_at = work.engine


def tools_called(state: State, agent: Work, tools: Sequence[str]) -> None:
    _tell(state, agent.program, agent.kv_at, TOOL_CALLED, tuple(map(ToolKey, tools)))


def tools_finished(state: State, agent: Work) -> None:
    """Its next turn is there, and may still have to wait for room."""
    _tell(state, agent.program, agent.kv_at, TOOL_FINISHED)


def turn_goes(state: State, work: Work, engine: EngineId) -> None:
    """What another engine keeps of the agent would be kept in vain."""
    agent = work.agent
    if agent is not None and agent.kv_at not in (None, engine):
        _let_go(state, agent)


def agent_ended(state: State, agent: Work) -> None:
    """Other stages of its program may still call the engine."""
    _let_go(state, agent)


def program_ended(state: State, program: Program) -> None:
    _tell(state, program, program.kv_at, LAST_STEP)


def _let_go(state: State, agent: Work) -> None:
    beside = [one for one in agent.program.live.values() if one.role is Role.AGENT and one is not agent]
    if not any(one.kv_at == agent.kv_at for one in beside):
        _tell(state, agent.program, agent.kv_at, LET_GO)
    agent.kv_at = None


def _tell(state: State, program: Program, engine: EngineId | None, event: str, tools: tuple[ToolKey, ...] = ()) -> None:
    """An engine that is away has nothing left of it."""
    if engine is not None and state.fleet.views[engine].up:
        state.tell(Hint(engine, program.id, event, tools))
