"""Laws of working-set admission, over random agents, random room and a random order of events."""

from collections import Counter
from dataclasses import dataclass, replace
from random import Random

from agent_line import AgentLine, grows
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.core.limits import Limits
from executor.core.working_sets import ADMISSION
from executor.engines.port import EngineSpec
from executor.events import EngineBack, EngineLost
from executor.prompt_blocks import BLOCK_TOKENS
from planner.ir.ids import EngineId

LAWS = settings(max_examples=60, deadline=None)
ENGINES = tuple(EngineSpec(EngineId(name), "scripted", ("small",), gpu="A100", max_running=4) for name in ("a", "b"))
PATIENCE_S, SPACING_S = 50.0, 5.0


@dataclass(frozen=True)
class Case:
    kv_blocks: int
    engines: int
    rows: int
    shared: int
    own: int
    by: int
    turns: int
    seed: int


CASES = st.builds(
    Case,
    kv_blocks=st.integers(5, 200),
    engines=st.integers(1, 2),
    rows=st.integers(1, 10),
    shared=st.integers(0, 20),
    own=st.integers(1, 40),
    by=st.integers(0, 5),
    turns=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)


class Play:
    """Plays agents to their ends: calls and tools end in any order, after any time."""

    def __init__(self, case: Case) -> None:
        self.case, self.random = case, Random(case.seed)
        fleet = [replace(engine, kv_tokens=case.kv_blocks * BLOCK_TOKENS) for engine in ENGINES[: case.engines]]
        admission = replace(ADMISSION, patience_s=PATIENCE_S, spacing_s=SPACING_S)
        self.line = AgentLine(grows(case.shared, case.own, case.by), *fleet, limits=Limits(admission=admission))
        self.line.submit(case.rows)
        self.steps = 0

    @property
    def over(self) -> bool:
        return len(self.line.ended) == self.case.rows

    def step(self) -> None:
        self.steps += 1
        assert self.steps < 5_000, "nothing moves any more"
        line = self.line
        possible = [("answer", row) for row in line.inside] + [("back", row) for row in line.tools]
        if not possible:
            assert line.alarms, "nobody will ever be let in"
            line.wait(max(0.0, min(line.alarms) - line.now))
            return
        if self.random.random() < 0.5:
            line.wait(self.random.choice((0.05, 1.0)))
            return
        what, row = self.random.choice(possible)
        if what == "back":
            line.back(row)
        else:
            line.answer(row, last=line.turns.get(row, 0) + 1 == self.case.turns)

    def totals(self) -> dict[EngineId, tuple[int, int]]:
        """Of each engine what is owned and grown to, and what may be."""
        found = {}
        for engine, one in self.line.core._state.sets.sets.items():
            room = one.room(self.line.now)
            found[engine] = room.owned_blocks + room.growth_blocks, int(room.capacity_blocks * ADMISSION.fill)
        return found


@given(CASES)
@LAWS
def test_every_agent_ends_and_every_turn_is_sent_once(case: Case) -> None:
    play = Play(case)
    while not play.over:
        play.step()
    sent = Counter(call.node for call in play.line.sent)
    assert set(sent.values()) == {1}
    assert len(sent) == case.rows * case.turns
    state = play.line.core._state
    assert not any(one.members for one in state.sets.sets.values())
    assert not state.sets.pools_held


@given(CASES)
@LAWS
def test_whoever_is_let_in_because_it_fits_does_fit(case: Case) -> None:
    play = Play(case)
    sets = play.line.core._state.sets.sets
    while not play.over:
        before, sent = {engine: set(one.members) for engine, one in sets.items()}, len(play.line.sent)
        play.step()
        forced = any(
            "nothing else runs" in call.reason or "long enough" in call.reason for call in play.line.sent[sent:]
        )
        for engine, (taken, most) in play.totals().items():
            if set(sets[engine].members) - before[engine] and not forced and not _unsent_forced(play):
                assert taken <= most


@given(CASES)
@LAWS
def test_nobody_is_held_longer_than_the_bound(case: Case) -> None:
    """As long as the clock goes on: the longest event of this world lasts a second."""
    play = Play(case)
    sets = play.line.core._state.sets
    while not play.over:
        play.step()
        waiting = [held for model in sets.pools_held for held in sets.held(model)]
        for held in waiting:
            assert play.line.now - held.since_s <= PATIENCE_S + (case.rows + 1) * SPACING_S + 1.0


@given(CASES, st.integers(1, 40))
@LAWS
def test_a_lost_engine_costs_no_turn(case: Case, after: int) -> None:
    play = Play(replace(case, engines=2))
    lost = EngineId("a")
    while not play.over:
        play.step()
        if play.steps == after:
            line = play.line
            line.inside = {row: call for row, call in line.inside.items() if call.engine != lost}
            line.tell(EngineLost(line.now, lost, "gone"))
            assert not line.core._state.sets.sets[lost].members
        if play.steps == after + 10:
            play.line.tell(EngineBack(play.line.now, lost))
    assert not play.line.core._state.sets.pools_held


def _unsent_forced(play: Play) -> bool:
    """Somebody was let in by force, and its call is not sent yet."""
    conversations = play.line.core._state.sets._conversations.values()
    return any("nothing else runs" in one.note or "long enough" in one.note for one in conversations)
