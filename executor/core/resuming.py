"""Programs that an earlier process began go on where it stopped: in its order, and where their KV most likely is."""

from collections.abc import Iterable
from math import inf

from executor.core.state import Job, State
from executor.core.work import Program, Role, Work
from executor.events import Before
from executor.prompt_blocks import BLOCK_TOKENS
from planner.ir.paths import insides

#: More than any process begins.
MOST_PROGRAMS = 2**53


def in_order(job: Job, planned: Iterable[int]) -> list[int]:
    """The rows still to be run: those begun go first, in the order in which they were, the others as planned. So no
    more programs are half done than were."""
    return sorted((row for row in planned if row not in job.ended), key=lambda row: _place(job, row))


def resume(state: State, program: Program) -> None:
    """What its state said, of which nothing need be true."""
    before = program.recovered.before
    if before is None:
        return
    program.turns, program.attained_tokens = before.turns, before.attained_tokens
    if before.engine in state.fleet.views:
        program.engine, program.context_tokens = before.engine, before.context_tokens


def believe(state: State, work: Work) -> None:
    """The next turn of an agent is ready whose last one an earlier process had. That engine has its KV, unless somebody
    wanted the room: who gave it out is gone. What the engine really has, its answer tells."""
    before, agent = work.program.recovered.before, work.agent
    if before is None or agent is None or work.role is not Role.CALL:
        return
    if agent.kv_at is not None or not _is_of(before, agent):
        return
    engine = before.engine
    if engine is None or engine not in state.fleet.caches or not state.fleet.views[engine].up:
        return
    cache = state.fleet.caches[engine]
    blocks = work.prefix[: int(before.context_tokens / (BLOCK_TOKENS * cache.scale))]
    if cache.match(blocks) < len(blocks):
        cache.believe(blocks)
    agent.kv_at = work.program.kv_at = engine


def _place(job: Job, row: int) -> float:
    """Where it is not known when a row was begun, it was before those that are planned."""
    recovered = job.recovered.get(row)
    if recovered is None:
        return inf
    return float(MOST_PROGRAMS if recovered.before is None else min(recovered.before.sequence, MOST_PROGRAMS))


def _is_of(before: Before, agent: Work) -> bool:
    _, turns, _ = insides(agent.ref.path)
    return before.node.startswith(turns)
