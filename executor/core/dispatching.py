"""Ready calls go to engines and ready tools to their slots, as far as there is room."""

from executor.commands import CallMeAt, Dispatch, RunTool, SaveProgram
from executor.core.failing import give_up
from executor.core.life import Life
from executor.core.queues import ReadyQueue
from executor.core.state import State
from executor.core.work import Work
from executor.engines.port import Failure, FailureClass
from executor.policy.routing import CallView, Choice, choose_engine
from planner.ir.plan import Agent, Generate


def dispatch(state: State) -> None:
    for model, queue in state.calls.items():
        _dispatch_calls(state, model, queue)
    for name in state.tools.queues:
        while (work := state.tools.next(name)) is not None:
            _run_tool(state, work)


def _dispatch_calls(state: State, model: str, queue: ReadyQueue) -> None:
    while (work := queue.first()) is not None:
        choice = choose_engine(_view(work), tuple(state.fleet.views.values()))
        if choice is not None:
            queue.pop()
            _send(state, work, choice)
        elif state.fleet.knows(model):
            _note_stranded(state, model)
            return
        else:
            queue.pop()
            give_up(state, work, _unknown_model(state, model))


def _view(work: Work) -> CallView:
    assert isinstance(work.stage, Generate | Agent)
    return CallView(work.stage.model, work.prompt_tokens, work.output_tokens, work.avoid, work.suspect)


def _send(state: State, work: Work, choice: Choice) -> None:
    work.become(Life.RUNNING)
    state.fleet.enter(work, choice)
    state.tell(Dispatch(work.ref, work.attempt, choice.engine, choice.reason))
    _save_program(state, work, "call")


def _run_tool(state: State, work: Work) -> None:
    assert work.tool is not None
    work.become(Life.RUNNING)
    state.tell(RunTool(work.ref, work.attempt, work.tool))
    _save_program(state, work, f"tool {work.tool.name}")


def _save_program(state: State, work: Work, doing: str) -> None:
    program = work.program
    state.tell(
        SaveProgram(program.id, work.ref.path, doing, state.now, work.engine, program.turns, program.attained_tokens)
    )


def _note_stranded(state: State, model: str) -> None:
    if state.fleet.serves(model) or model in state.stranded:
        return
    state.stranded[model] = state.now
    state.tell(CallMeAt(state.now + state.limits.no_engine_s))


def _unknown_model(state: State, model: str) -> Failure:
    known = sorted({name for view in state.fleet.views.values() for name in view.spec.models})
    message = f"no engine serves the model {model!r}; the fleet serves: {', '.join(known) or 'none'}"
    return Failure(FailureClass.ENGINE, "unknown_model", message)
