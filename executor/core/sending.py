"""A call goes to the engine that was chosen for it, and its program's live state is told."""

from collections.abc import Sequence

from executor.commands import Dispatch, SaveProgram
from executor.core import hinting
from executor.core.charging import call_sent
from executor.core.life import Life
from executor.core.state import State
from executor.core.work import Work
from executor.policy.routing import Choice, Offer


def send(state: State, work: Work, choice: Choice, offers: Sequence[Offer], note: str = "") -> None:
    """The call, which is in no line any more, enters the engine. `note` is added to the reason."""
    reason = choice.reason + note
    if work.conversation is not None:
        reason += state.sets.sent(work.conversation, work, choice.engine, state.now)
    hinting.turn_goes(state, work, choice.engine)
    work.become(Life.RUNNING)
    state.fleet.enter(work, choice, state.now)
    call_sent(state, work)
    if work.shares is not None:
        work.shares.send(choice.engine)
    state.tell(Dispatch(work.ref, work.attempt, choice.engine, reason, offers, work.failed))
    save_program(state, work, "call")


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
