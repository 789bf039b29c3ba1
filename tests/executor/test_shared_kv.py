"""Jobs and the door share an engine's KV: what both promise to their programs is no more than there is."""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from executor.core.engine_cache import INSIDE_SHARE, KV_SHARE, EngineCache
from executor.core.fleet import Fleet
from executor.core.working_sets import FILL, WorkingSets
from executor.door.line import DoorCall
from executor.door.programs import Program
from executor.drivers.places import Left, SharedPlaces, Side
from executor.engines.port import EngineSpec
from executor.policy.places import KV_STEP, Kind, kv_left_to_others
from executor.policy.routing import Choice
from executor.prompt_blocks import BLOCK_TOKENS
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import EngineId, ProgramId

A = EngineId("a")
KV_BLOCKS = 100
SPEC = EngineSpec(A, "vllm", ("small",), max_running=1000, kv_tokens=KV_BLOCKS * BLOCK_TOKENS, gpu="cpu")


@given(st.floats(0, 3), st.booleans())
def test_nobody_is_left_less_than_the_others_have_promised_or_more_than_may_be(promised: float, wants: bool) -> None:
    left = kv_left_to_others(promised, FILL, wants=wants)
    assert min(promised, FILL) <= left <= FILL
    assert left < max(promised + KV_STEP, FILL / 2 if wants else 0.0) + 1e-9


class Agents:
    """Conversations of one kind that share nothing; whoever is let in is sent at once."""

    def __init__(self, kind: Kind, places: SharedPlaces) -> None:
        self.fleet: Fleet[DoorCall] = Fleet([SPEC], 5)
        self.sets = WorkingSets(self.fleet)
        self.side = Side(kind, self.fleet.running, set, self.sets, self._leave_room)
        self._kind, self._places, self._numbers = kind, places, 0
        self.now_s = 0.0
        self.inside: dict[str, DoorCall] = {}
        self.tools: set[str] = set()
        self.blocks: dict[str, int] = {}
        self.forced = 0
        places.join(self.side)

    @property
    def promised(self) -> float:
        return self.sets.promised(A)

    def ask(self, name: str, blocks: int) -> None:
        """The conversation's next call, so many blocks long."""
        self._numbers += 1
        self.blocks[name] = blocks
        self.tools.discard(name)
        prefix = tuple(hash((self._kind.value, name, block)) for block in range(blocks))
        call = DoorCall(
            self._numbers, "", "small", Program(ProgramId(name), 0), prefix, blocks * BLOCK_TOKENS, 1, "small"
        )
        call.conversation = name
        if self.sets.asks(call, name, (self._numbers,), self.now_s):
            self._send(call)
        self._happened()

    def answer(self, name: str, *, last: bool) -> None:
        call = self.inside.pop(name)
        self.fleet.leave(call)
        self.sets.answered(name, call, [ToolKey("look")], self.now_s)
        if last:
            self.sets.leave(name, self.now_s)
        else:
            self.tools.add(name)
        self._happened()

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self._happened()

    def _leave_room(self, engine: EngineId, left: Left) -> None:
        self.fleet.leave_room(engine, left.places, left.kv)
        self._happened()

    def _happened(self) -> None:
        """As a core after each event, and its driver after that."""
        for call in self.sets.admitted(self.now_s):
            self._send(call)
        self._places.changed(self.side)

    def _send(self, call: DoorCall) -> None:
        assert call.conversation is not None
        self.fleet.enter(call, Choice(A, 1.0, ""), self.now_s)
        note = self.sets.sent(call.conversation, call, A, self.now_s)
        self.forced += "nothing else runs" in note or "long enough" in note
        self.inside[call.conversation] = call


@dataclass(frozen=True, slots=True)
class Case:
    programs: int
    blocks: int
    turns: int
    seed: int


CASES = st.builds(Case, st.integers(1, 8), st.integers(1, 60), st.integers(1, 3), st.integers(0, 2**16))


class Play:
    """Both kinds run their programs to their ends. `share` says how often the loop comes round."""

    def __init__(self, case: Case) -> None:
        self.case, self.random = case, Random(case.seed)
        self.places = SharedPlaces([SPEC])
        self.both = [Agents(kind, self.places) for kind in Kind]
        self.left = {agents.side.kind: [f"{number}" for number in range(case.programs)] for agents in self.both}
        self.turns: Counter[tuple[Kind, str]] = Counter()
        self.ended = 0

    async def run(self) -> None:
        steps = 0
        while self.ended < 2 * self.case.programs:
            steps += 1
            assert steps < 20_000, "nothing moves any more"
            agents = self.random.choice(self.both)
            members, forced = set(agents.sets.sets[A].members), agents.forced
            self._step(agents)
            self._check(agents, members, forced)
            if self.random.random() < 0.3:
                await asyncio.sleep(0)

    def _step(self, agents: Agents) -> None:
        kind, draw = agents.side.kind, self.random
        what = draw.choice(("begin", "answer", "back", "wait"))
        if what == "begin" and self.left[kind]:
            agents.ask(self.left[kind].pop(), draw.randint(1, self.case.blocks))
        elif what == "answer" and agents.inside:
            name = draw.choice(sorted(agents.inside))
            self.turns[kind, name] += 1
            last = self.turns[kind, name] >= self.case.turns
            self.ended += last
            agents.answer(name, last=last)
        elif what == "back" and agents.tools:
            name = draw.choice(sorted(agents.tools))
            agents.ask(name, agents.blocks[name] + draw.randint(0, 9))
        else:
            for one in self.both:
                one.wait(draw.choice((0.1, 1.0, 5.0)))

    def _check(self, agents: Agents, members: set[str], forced: int) -> None:
        """Whoever is let in because it fits does fit beside all that both have promised."""
        if set(agents.sets.sets[A].members) - members and agents.forced == forced:
            assert sum(one.promised for one in self.both) <= FILL + 1e-9


@given(CASES)
@settings(max_examples=50)
def test_together_they_promise_no_more_than_there_is_and_all_end(case: Case) -> None:
    async def played() -> Play:
        play = Play(case)
        await play.run()
        await asyncio.sleep(0)
        return play

    play = asyncio.run(played())
    assert [agents.promised for agents in play.both] == [0.0, 0.0]
    assert not any(agents.sets.pools_held for agents in play.both)


async def test_jobs_that_have_all_give_half_to_the_door_as_their_programs_end() -> None:
    places = SharedPlaces([SPEC])
    jobs, door = (Agents(kind, places) for kind in (Kind.JOBS, Kind.DOOR))
    for number in range(20):
        jobs.ask(f"job {number}", 9)
    assert len(jobs.inside) == 9  # each has nine blocks, and may grow by one
    for number in range(20):
        door.ask(f"agent {number}", 9)
    await asyncio.sleep(0)
    assert not door.inside
    for _ in range(8):
        jobs.answer(next(iter(jobs.inside)), last=True)
        await asyncio.sleep(0)
    assert (len(jobs.inside), len(door.inside)) == (4, 4)
    for _ in range(6):
        door.answer(next(iter(door.inside)), last=True)
        await asyncio.sleep(0)
    assert (len(jobs.inside), len(door.inside)) == (4, 4)


async def test_who_is_alone_again_may_have_all() -> None:
    places = SharedPlaces([SPEC])
    jobs, door = (Agents(kind, places) for kind in (Kind.JOBS, Kind.DOOR))
    door.ask("agent", 80)
    jobs.ask("job", 80)
    assert (len(door.inside), len(jobs.inside)) == (1, 0)
    places.leave(door.side)
    await asyncio.sleep(0)
    assert len(jobs.inside) == 1


async def test_an_engine_that_others_keep_busy_does_not_stand_idle_for_a_program_that_does_not_fit() -> None:
    places = SharedPlaces([SPEC])
    jobs, door = (Agents(kind, places) for kind in (Kind.JOBS, Kind.DOOR))
    jobs.ask("job", 40)
    door.ask("agent", 80)
    await asyncio.sleep(0)
    door.wait(100.0)
    assert not door.inside
    jobs.answer("job", last=True)
    await asyncio.sleep(0)
    assert list(door.inside) == ["agent"]


def test_calls_that_would_wait_inside_the_engine_do_not_go_before_what_others_ask_for() -> None:
    cache = EngineCache(SPEC)
    one = DoorCall(1, "", "small", Program(ProgramId("one"), 0), (), 30 * BLOCK_TOKENS, 0, "small")
    cache.enter(replace(one))

    def most() -> int:
        """Of calls of a block each, so many may join it."""
        joined = 0
        while cache.fits(replace(one, prompt_tokens=(joined + 1) * BLOCK_TOKENS)):
            joined += 1
        return joined

    alone = most()
    cache.leave_room(KV_SHARE / 2)
    half = most()
    cache.leave_room(KV_STEP)
    nearly_alone = most()
    assert (alone + 30, half + 30) == (round(INSIDE_SHARE * KV_BLOCKS), round(KV_SHARE / 2 * KV_BLOCKS))
    assert alone > nearly_alone > 0.9 * alone
