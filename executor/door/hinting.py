"""What an engine is told of its program between calls."""

from executor.commands import Hint
from executor.door.programs import Program
from halo_vllm.policy.hints import LET_GO, TOOL_CALLED, TOOL_FINISHED
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import EngineId

#: What a program waits for whose answer asks for no tool: its user, or nothing. Nobody can tell an agent's last answer
#: from a question, so engines learn how seldom a program comes back from it, as they learn of any tool.
NO_TOOL = ToolKey("(none)")


def after_answer(program: Program) -> Hint | None:
    """Its call ended: what it does until the next one. Nothing is told of programs that never asked for a tool."""
    if program.open_calls or not program.calls_tools or program.engine is None:
        return None
    return _hint(program, program.engine, TOOL_CALLED, program.tools or (NO_TOOL,))


def turn_waits(program: Program) -> Hint | None:
    """Its next turn is here but waits for room: what is kept for it is wanted soon."""
    if program.engine is None or not program.context_tokens or program.open_calls > 1:
        return None
    return _hint(program, program.engine, TOOL_FINISHED)


def turn_goes(program: Program, engine: EngineId) -> Hint | None:
    """Its next turn goes to another engine than the last one: what the last one keeps would be kept in vain."""
    if program.engine in (None, engine) or not program.context_tokens:
        return None
    assert program.engine is not None
    return _hint(program, program.engine, LET_GO)


def forgotten(program: Program) -> Hint | None:
    """Nobody came back for it."""
    if program.engine is None or not program.context_tokens or not program.calls_tools:
        return None
    return _hint(program, program.engine, LET_GO)


def _hint(program: Program, engine: EngineId, event: str, tools: tuple[ToolKey, ...] = ()) -> Hint:
    return Hint(engine, program.id, event, tools, program.cache_salt)
