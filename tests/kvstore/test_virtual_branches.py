"""Several calls of one program at once, on vLLM's own scheduler: kept once, under the cap, and let go at once."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("vllm", reason="run with `make test-virtual`: it needs .venv-engine's Python", exc_type=ImportError)

from halo_vllm.virtual_time.engine import HALO_SCHEDULER, Call, EngineShape, VirtualEngine

BLOCKS, BLOCK_TOKENS = 96, 32
SHARE, TENANT_SHARE = 0.5, 0.3
#: Six of the longest would outgrow the KV.
LONGEST, LONG_ANSWER = 500, 300

ASKED = ("new", "vote", "fork", "on", "on", "rewritten", "last")
OTHERS = ("run", "run", "run", "run", "run", "abort", "let_go", "wait")
events = st.lists(st.tuples(st.sampled_from(ASKED + OTHERS), st.integers(0, 7)), min_size=20, max_size=60)


def engine_of(**halo: Any) -> VirtualEngine:
    return VirtualEngine(EngineShape(scheduler=HALO_SCHEDULER, kv_blocks=BLOCKS, block_tokens=BLOCK_TOKENS, halo=halo))


@dataclass
class Replay:
    """Three programs of two tenants. `ended`: prompt and whole text of the calls that ended, by program."""

    engine: VirtualEngine = field(default_factory=lambda: engine_of(share=SHARE, tenant_share=TENANT_SHARE))
    ended: dict[int, list[tuple[tuple[int, ...], tuple[int, ...]]]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    number: int = 0

    def ask(self, program: int, prompt: tuple[int, ...], **said: Any) -> None:
        self.number += 1
        self.calls[str(self.number)] = program
        hints = {"halo_program": f"p{program}", **said}
        answer = LONG_ANSWER if self.number % 5 == 0 else 8
        self.engine.ask(Call(str(self.number), prompt, answer, cache_salt=f"t{program % 2}", hints=hints))

    def run(self) -> None:
        done = self.engine.step()
        if done is None:
            self.engine.now_s += 0.5
        for progress in done or ():
            program = self.calls.pop(progress.call.id)
            whole = (*progress.call.prompt, *progress.output)
            if len(whole) < LONGEST:
                self.ended.setdefault(program, []).append((progress.call.prompt, whole))

    def run_on(self) -> None:
        """Until a call ends."""
        open_calls = len(self.calls)
        for _ in range(2 * LONG_ANSWER):
            if len(self.calls) == open_calls and self.calls:
                self.run()
                self.check()

    def happen(self, event: str, pick: int) -> None:
        program = pick % 3
        prompt, whole = (self.ended.get(program) or [((), ())])[-1 - pick % 2 :][0]
        fresh = tuple(1000 * (self.number + 1) + at for at in range(40 * (pick % 4 + 1)))
        match event:
            case "new":
                self.ask(program, (*range(64), *fresh))
            case "vote" | "fork":
                for vote in range(3):
                    own = () if event == "vote" else (vote,) * 40
                    self.ask(program, (*prompt, *fresh, *own))
            case "on":
                self.ask(program, (*whole, *fresh))
            case "rewritten":
                self.ask(program, (*whole[: len(whole) // 2], *fresh))
            case "last":
                self.ask(program, (*whole, *fresh), halo_last=1)
            case "abort" if self.calls:
                call = list(self.calls)[pick % len(self.calls)]
                del self.calls[call]
                self.engine.abort(call)
            case "let_go":
                self.engine.hint({"program": f"p{program}", "event": "let_go", "cache_salt": f"t{program % 2}"})
            case "wait":
                self.engine.now_s += 0.3 * pick
            case "run":
                self.run_on()

    def check(self) -> None:
        scheduler, queue = self.engine.scheduler, self.engine.scheduler._kept
        if queue is None:
            return
        free = [block.block_id for block in queue.get_all_free_blocks()]
        assert len(free) == len(set(free)) == queue.num_free_blocks
        programs = [p for p in scheduler._programs._roster._programs.values() if p.branches]
        kept = {branch: queue.kept_of(branch) for program in programs for branch in program.branches}
        assert sum(kept.values()) == queue.kept_blocks <= int(BLOCKS * SHARE)
        of_tenant = [
            sum(kept[branch] for p in programs if p.tenant == t for branch in p.branches) for t in ("t0", "t1")
        ]
        assert not all(of_tenant) or max(of_tenant) <= int(BLOCKS * TENANT_SHARE)


@settings(max_examples=40, deadline=None)
@given(events)
def test_no_block_is_kept_twice_nor_for_a_branch_that_is_over_nor_over_a_cap(told: list[tuple[str, int]]) -> None:
    replay = Replay()
    for event, pick in told:
        replay.happen(event, pick)
        replay.check()
    while replay.engine.busy:
        replay.run()
        replay.check()
    queue = replay.engine.scheduler._kept
    assert queue is None or queue.num_free_blocks == BLOCKS - 1  # one is vLLM's null block


def until_idle(engine: VirtualEngine) -> dict[str, tuple[int, ...]]:
    """The whole text of each call."""
    texts = {}
    while engine.busy:
        for progress in engine.step() or ():
            texts[progress.call.id] = (*progress.call.prompt, *progress.output)
    return texts


def ask(engine: VirtualEngine, call: str, prompt: tuple[int, ...], **said: Any) -> None:
    engine.ask(Call(call, prompt, 40, hints={"halo_program": "a", **said}))


def test_votes_keep_their_prompt_once_and_all_but_the_winner_s_answers_go_with_its_next_call() -> None:
    engine = engine_of()
    prompt = tuple(range(20 * BLOCK_TOKENS + 8))
    for vote in ("one", "two", "three"):
        ask(engine, vote, prompt)
    texts = until_idle(engine)
    assert engine.scheduler.halo_stats()["retained_share"] == pytest.approx((20 + 3) / BLOCKS)
    ask(engine, "on", (*texts["two"], 5, 6))
    until_idle(engine)
    stats = engine.scheduler.halo_stats()
    assert stats["demotions"] == 2
    assert (stats["warm_resumes"], stats["cold_resumes"]) == (1, 0)
    assert stats["retained_share"] == pytest.approx(22 / BLOCKS)


def test_the_main_conversation_is_warm_after_its_sub_agents() -> None:
    engine = engine_of()
    opening = tuple(range(4 * BLOCK_TOKENS))
    ask(engine, "main", (*opening, *range(5000, 5000 + 10 * BLOCK_TOKENS)))
    main = until_idle(engine)["main"]
    for agent in (1, 2):
        ask(engine, f"sub-{agent}", (*opening, *range(10_000 * agent, 10_000 * agent + 6 * BLOCK_TOKENS)))
    until_idle(engine)
    ask(engine, "main on", (*main, *range(7000, 7100)))
    until_idle(engine)
    stats = engine.scheduler.halo_stats()
    assert (stats["warm_resumes"], stats["cold_resumes"]) == (1, 0)
    assert stats["retained_share"] == pytest.approx((4 + 15 + 2 * 7) / BLOCKS)
