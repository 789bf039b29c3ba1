"""A call goes to the engine that was chosen for it, and its program's live state is told."""

from collections.abc import Sequence

from executor.commands import Dispatch, SaveProgram
from executor.core import hinting
from executor.core.charging import call_sent
from executor.core.life import Life
from executor.core.state import State
from executor.core.work import Work
from executor.policy.routing import Choice, Offer
from executor.policy.urgency import PATIENCE_S, due_inside_s
from planner.ir.ids import EngineId


def send(state: State, work: Work, choice: Choice, offers: Sequence[Offer], note: str = "") -> None:
    """The call, which is in no line any more, enters the engine. `note` is added to the reason."""
    reason = choice.reason + note
    if work.conversation is not None:
        reason += state.sets.sent(work.conversation, work, choice.engine, state.now)
    hinting.turn_goes(state, work, choice.engine)
    work.become(Life.RUNNING)
    state.fleet.enter(work, choice, state.now)
    call_sent(state, work, _prefill_s(choice, offers))
    if work.shares is not None:
        work.shares.send(choice.engine)
    due_s = _due_inside_s(state, work, choice.engine)
    state.tell(Dispatch(work.ref, work.attempt, choice.engine, reason, offers, work.failed, due_s))
    save_program(state, work, "call")


def _prefill_s(choice: Choice, offers: Sequence[Offer]) -> float:
    return next((offer.prefill_s for offer in offers if offer.view.spec.id == choice.engine), 0.0)


def _due_inside_s(state: State, work: Work, engine: EngineId) -> float | None:
    """Of programs without a deadline, those that began first go first, so that programs end."""
    if not state.fleet.views[engine].spec.keeps_priorities:
        return None
    program = work.program
    if program.deadline_s is None:
        latest_start_s = program.began_s + PATIENCE_S
    else:
        latest_start_s = program.deadline_s - state.remaining.whole_s(program)
    return due_inside_s(program.slo, latest_start_s, state.now)


def save_program(state: State, work: Work, doing: str) -> None:
    program = work.program
    moved = work.engine is not None and work.engine != program.engine
    state.tell(
        SaveProgram(
            program=program.id,
            node=work.ref.path,
            doing=doing,
            since=state.now,
            engine=work.engine or program.engine,
            turns=program.turns,
            attained_tokens=program.attained_tokens,
            sequence=program.sequence,
            context_tokens=0 if moved else program.context_tokens,
            until=None if moved else program.kept_until,
            tool=work.tool.name if work.tool is not None else "",
        )
    )
