"""Which ready call goes where, told as stories: given these prompts and these answers, these dispatches."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from example_plans import generate, output

from executor.commands import Dispatch, Prepare
from executor.core.engine_cache import INSIDE_SHARE
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec, Usage
from executor.events import (
    BatchPlanned,
    CallFinished,
    EngineBack,
    EngineLost,
    Event,
    JobSubmitted,
    Prepared,
    Settled,
)
from executor.prompt_blocks import BLOCK_TOKENS
from planner.ir.expressions import Column, Const
from planner.ir.ids import EngineId, JobId, row_of
from planner.ir.plan import Generate, Input, Plan, Sampling, Stage

LEFT, RIGHT = EngineId("left"), EngineId("right")
ENGINE = EngineSpec(LEFT, "scripted", ("small",), gpu="A100", max_running=1)
ANSWER = 10
#: Ten blocks that a group shares, and two of its own for each call.
SHARED, OWN = 10, 2
PROMPT_TOKENS = (SHARED + OWN) * BLOCK_TOKENS


def prompt(group: str, own: int) -> tuple[int, ...]:
    """Block names of a prompt: a long beginning as all of its group have, and an end of its own."""
    begin = 1000 * (1 + ord(group))
    return (*range(begin, begin + SHARED), *range(10**6 + OWN * own, 10**6 + OWN * (own + 1)))


def ask(stage: str = "ask", **sampling: int) -> Generate:
    return replace(generate(stage, Column("q")), sampling=Sampling(**{"max_tokens": ANSWER, **sampling}))


class Line:
    """A core whose calls have the prompts they are told, and what it sent so far: (row, engine), in order."""

    def __init__(self, *fleet: EngineSpec, limits: Limits | None = None) -> None:
        self.core = Scheduler(fleet, limits)
        self.prompts: dict[tuple[str, int, str], tuple[int, ...]] = {}
        self.sent: list[Dispatch] = []
        self.now = 0.0

    def submit(
        self, prompts: Sequence[tuple[int, ...]], job: str = "j", priority: int = 0, stages: Sequence[Stage] = ()
    ) -> "Line":
        """A job with a row for each prompt; without `stages`, of one call each."""
        plan = Plan("p", (Input("q"),), tuple(stages or (ask(),)), Const(1))
        for row, blocks in enumerate(prompts):
            for stage in plan.stages:
                self.prompts[job, row, stage.id] = blocks
        self.tell(JobSubmitted(self.now, JobId(job), plan, len(prompts), priority))
        return self.tell(BatchPlanned(self.now, JobId(job), plan, range(len(prompts)), {}))

    def tell(self, event: Event) -> "Line":
        """Prepares and settles at once whatever asks for it."""
        events = [event]
        while events:
            commands = self.core.handle(events.pop(0))
            self.core.check_state()
            for command in commands:
                if isinstance(command, Prepare):
                    events.append(self._prepared(command))
                elif type(command).__name__ == "Settle":
                    events.append(Settled(self.now, command.node, command.attempt))  # type: ignore[union-attr]
                elif isinstance(command, Dispatch):
                    self.sent.append(command)
        return self

    def end(self, number: int, prompt_tokens: int = PROMPT_TOKENS) -> "Line":
        """The `number`th call that was sent has its answer."""
        call = self.sent[number]
        self.now += 1.0
        return self.tell(CallFinished(self.now, call.node, call.attempt, Usage(prompt_tokens, ANSWER)))

    def end_all(self) -> "Line":
        """One after the other, as they were sent."""
        ended = 0
        while ended < len(self.sent):
            self.end(ended)
            ended += 1
        return self

    @property
    def rows(self) -> list[int]:
        return [row_of(call.node.program) for call in self.sent]

    def _prepared(self, command: Prepare) -> Prepared:
        job = command.node.program.partition("/")[0]
        blocks = self.prompts[job, row_of(command.node.program), command.node.path]
        stage, tokens = command.scope.stage, len(blocks) * BLOCK_TOKENS
        assert isinstance(stage, Generate)
        return Prepared(self.now, command.node, command.attempt, None, tokens, stage.sampling.max_tokens, blocks)


def interleaved(groups: str, of_each: int) -> list[tuple[int, ...]]:
    """Prompts of several groups, one of each in turn."""
    return [prompt(group, number * len(groups) + g) for number in range(of_each) for g, group in enumerate(groups)]


def test_equal_beginnings_run_together_though_they_came_in_turn() -> None:
    line = Line(ENGINE).submit(interleaved("abc", 3)).end_all()
    assert line.rows == [0, 3, 6, 1, 4, 7, 2, 5, 8]


def test_the_reason_tells_what_is_warm() -> None:
    line = Line(ENGINE).submit(interleaved("a", 2)).end_all()
    assert line.sent[0].reason.startswith("least predicted load")
    assert line.sent[1].reason.startswith("320 of 384 prompt tokens warm; predicted 0.")


def test_calls_without_a_known_beginning_go_in_program_order() -> None:
    assert Line(ENGINE).submit([()] * 5).end_all().rows == [0, 1, 2, 3, 4]


def test_a_second_engine_gets_the_other_group() -> None:
    fleet = (replace(ENGINE, max_running=3), replace(ENGINE, id=RIGHT, max_running=3))
    line = Line(*fleet).submit(interleaved("ab", 3))
    assert {(row % 2, call.engine) for row, call in zip(line.rows, line.sent, strict=True)} == {(0, LEFT), (1, RIGHT)}
    assert line.end_all().rows[:2] == [0, 1]


def test_an_idle_engine_helps_where_that_is_faster_than_to_wait() -> None:
    """The beginning is short, and many calls stand in line on the engine that has it."""
    prompts = [(1, 10 + row) for row in range(40)]
    line = Line(replace(ENGINE, max_running=64), replace(ENGINE, id=RIGHT, max_running=64)).submit(prompts)
    assert {call.engine for call in line.sent} == {LEFT, RIGHT}


def test_where_all_that_waits_fits_into_the_cache_the_longest_path_goes_first() -> None:
    roomy = replace(ENGINE, kv_tokens=100_000)
    stages = (ask("first"), replace(generate("second", output("first")), sampling=Sampling(max_tokens=ANSWER)))
    line = Line(roomy).submit(interleaved("aba", 1), stages=stages).end_all()
    assert [call.node.path for call in line.sent] == ["first"] * 3 + ["second"] * 3
    assert line.rows == [0, 1, 2, 0, 1, 2]


def test_where_it_does_not_fit_a_program_goes_on_while_its_prompt_is_warm() -> None:
    tight = replace(ENGINE, kv_tokens=2 * PROMPT_TOKENS)
    stages = (ask("first"), replace(generate("second", output("first")), sampling=Sampling(max_tokens=ANSWER)))
    line = Line(tight).submit(interleaved("ab", 1), stages=stages).end_all()
    assert list(zip(line.rows, (call.node.path for call in line.sent), strict=True)) == [
        (0, "first"),
        (0, "second"),
        (1, "first"),
        (1, "second"),
    ]


def test_what_was_evicted_is_not_taken_for_warm() -> None:
    """Room for one prompt: when `b` has run nothing of `a` is left, so its other call is like any other."""
    small = replace(ENGINE, kv_tokens=PROMPT_TOKENS + ANSWER)
    line = Line(small, limits=Limits(most_passes=1))
    line.submit([prompt("a", 0), prompt("b", 1), prompt("a", 2), prompt("a", 3)]).end_all()
    warm = ["warm" in call.reason for call in line.sent]
    assert list(zip(line.rows, warm, strict=True)) == [(0, False), (1, False), (2, False), (3, True)]


def test_a_cold_call_is_taken_in_the_end() -> None:
    line = Line(ENGINE, limits=Limits(most_passes=3))
    line.submit([prompt("a", 0), prompt("b", 1), *(prompt("a", own) for own in range(2, 8))]).end_all()
    assert line.rows == [0, 2, 3, 1, 4, 5, 6, 7]
    assert "waited for long enough" in line.sent[3].reason


def test_priority_goes_before_what_is_warm() -> None:
    line = Line(ENGINE).submit([prompt("a", 0), prompt("a", 1)], "later", priority=1)
    line.submit([prompt("b", 2)], "urgent", priority=0).end_all()
    assert [call.node.program.partition("/")[0] for call in line.sent] == ["later", "urgent", "later"]


def test_an_earlier_job_goes_before_what_is_warm() -> None:
    line = Line(ENGINE).submit([prompt("a", 0), prompt("b", 1)], "first")
    line.submit([prompt("a", 2)], "second").end_all()
    assert [call.node.program.partition("/")[0] for call in line.sent] == ["first", "first", "second"]


def test_calls_in_flight_stay_within_the_kv_and_what_they_share_counts_once() -> None:
    room = PROMPT_TOKENS + 3 * OWN * BLOCK_TOKENS + 4 * ANSWER
    window = replace(ENGINE, max_running=16, kv_tokens=int(room / INSIDE_SHARE) + 1)
    same, different = Line(window), Line(window)
    same.submit([prompt("a", own) for own in range(8)])
    different.submit([prompt(group, own) for own, group in enumerate("abcdefgh")])
    assert (len(same.sent), len(different.sent)) == (4, 1)
    assert same.end(0).rows == [0, 1, 2, 3, 4]


def test_one_call_alone_always_may() -> None:
    line = Line(replace(ENGINE, max_running=4, kv_tokens=100)).submit(interleaved("ab", 1))
    assert line.rows == [0]
    assert line.end_all().rows == [0, 1]


def test_the_room_of_an_engine_is_learnt_when_it_is_there() -> None:
    line = Line(replace(ENGINE, max_running=4))
    line.tell(EngineBack(0.0, LEFT, kv_tokens=PROMPT_TOKENS)).submit(interleaved("abcd", 1))
    assert line.rows == [0]


def test_the_fleet_file_knows_better_than_the_engine() -> None:
    line = Line(replace(ENGINE, max_running=4, kv_tokens=100_000))
    line.tell(EngineBack(0.0, LEFT, kv_tokens=PROMPT_TOKENS)).submit(interleaved("abcd", 1))
    assert line.rows == [0, 1, 2, 3]


def test_prompts_that_the_engine_counts_longer_take_more_of_its_room() -> None:
    window = replace(ENGINE, max_running=8, kv_tokens=int(1.75 * PROMPT_TOKENS))
    line = Line(window).submit(interleaved("abcdefghijkl", 1))
    assert len(line.sent) == 3
    for number in range(6):
        line.end(number, prompt_tokens=3 * PROMPT_TOKENS)
    assert len(line.sent) - 6 == 1


def test_expected_answers_are_learnt_so_that_more_calls_fit() -> None:
    window = replace(ENGINE, max_running=8, kv_tokens=2048)
    line = Line(window)
    line.submit([prompt("a", own) for own in range(20)], stages=[ask(max_tokens=2000)])
    assert len(line.sent) == 1
    for number in range(4):
        line.end(number)
    assert len(line.sent) - 4 == 8


def test_an_engine_that_comes_back_is_cold() -> None:
    line = Line(ENGINE).submit(interleaved("ab", 3))
    line.end(0)
    assert line.rows == [0, 2]
    line.tell(EngineLost(line.now, LEFT)).tell(EngineBack(line.now, LEFT))
    assert "warm" not in line.sent[-1].reason


class TestWarmFirst:
    """An engine that shares a block only when a call that has it has ended."""

    ENGINE = replace(ENGINE, max_running=4, warm_first=True)

    def test_one_of_a_cold_group_goes_alone_and_the_others_follow(self) -> None:
        line = Line(self.ENGINE).submit(interleaved("ab", 4))
        assert line.rows == [0, 1]
        line.end(0)
        assert line.rows == [0, 1, 2, 4, 6]
        assert "320 of 384 prompt tokens warm" in line.sent[-1].reason

    def test_those_that_share_little_need_not_wait(self) -> None:
        assert Line(self.ENGINE).submit([(1, 10 + row) for row in range(4)]).rows == [0, 1, 2, 3]

    def test_an_engine_that_shares_at_once_need_not_wait(self) -> None:
        assert Line(replace(self.ENGINE, warm_first=False)).submit(interleaved("a", 4)).rows == [0, 1, 2, 3]


@pytest.mark.parametrize("running", [1, 3])
def test_every_call_is_sent_once(running: int) -> None:
    line = Line(replace(ENGINE, max_running=running, kv_tokens=3 * PROMPT_TOKENS)).submit(interleaved("abcde", 100))
    assert sorted(line.end_all().rows) == list(range(500))
