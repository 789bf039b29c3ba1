"""The core, told as stories: given these events, these commands."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from example_plans import generate, output, tool

from executor.commands import (
    Abort,
    CallMeAt,
    Command,
    Dispatch,
    FinishJob,
    FinishProgram,
    Prepare,
    RunTool,
    SaveNode,
    Settle,
    Status,
    TakeShared,
    UseFallback,
    WatchEngine,
)
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec, Failure, FailureClass, Usage
from executor.events import (
    BatchPlanned,
    CallFinished,
    Cancelled,
    EngineBack,
    EngineLost,
    JobSubmitted,
    NodeFailed,
    Prepared,
    Recovered,
    Settled,
    ToolFinished,
    WakeUp,
)
from planner.ir.expressions import Column, Const, Expr
from planner.ir.ids import ContentKey, EngineId, JobId, NodeRef, ProgramId, StageId
from planner.ir.plan import Effect, Fallback, Generate, Input, Plan, Sampling, Stage, ToolSpec
from planner.job import Grouping

JOB = JobId("j")
A100, A10 = EngineId("a100"), EngineId("a10")
FLEET = (
    EngineSpec(A100, "scripted", ("small",), gpu="A100", max_running=2),
    EngineSpec(A10, "scripted", ("small",), gpu="A10", max_running=2),
)
DIED = Failure(FailureClass.ENGINE_DIED, "connection_reset", "the connection broke")
BROKEN = Failure(FailureClass.ENGINE, "engine_error", "the engine answered 500")
AWAY = Failure(FailureClass.ENGINE, "unreachable", "cannot connect")
TOO_LONG = Failure(FailureClass.ROW, "prompt_too_long", "9,000 tokens; the model takes 8,192")
GARBLED = Failure(FailureClass.ANSWER, "invalid_answer", "not JSON")


class Story:
    """A core, and the commands of its last event."""

    def __init__(
        self, *stages: Stage, rows: int = 1, result: Expr | None = None, fleet: Sequence[EngineSpec] = FLEET
    ) -> None:
        self.core = Scheduler(fleet, Limits(no_engine_s=60.0))
        self.plan = Plan("p", (Input("q"),), stages, result or Const(1))
        self.rows = rows
        self.now = 0.0

    def begin(self, recovered: dict[int, Recovered] | None = None, key: str | None = None) -> list[Command]:
        """Submit the job, plan it as written, and prepare every call and tool that asks for it."""
        self.tell(JobSubmitted(self.now, JOB, self.plan, self.rows, recovered=recovered or {}))
        commands = self.tell(BatchPlanned(self.now, JOB, self.plan, range(self.rows), {}))
        return [*commands, *self.prepare(commands, key)]

    def prepare(self, commands: Sequence[Command], key: str | None = None) -> list[Command]:
        content = ContentKey(key) if key else None
        asked = [command for command in commands if isinstance(command, Prepare)]
        return [c for p in asked for c in self.tell(Prepared(self.now, p.node, p.attempt, content, 100, 10))]

    def tell(self, event: object) -> list[Command]:
        commands = self.core.handle(event)  # type: ignore[arg-type]
        self.core.check_state()
        return commands


def only(kind: type[Command], commands: Sequence[Command]) -> list[Command]:
    return [command for command in commands if isinstance(command, kind)]


def node(path: str, row: int = 0) -> NodeRef:
    return NodeRef(ProgramId(f"{JOB}/{row}"), path)


def call(stage: str = "ask", **options: object) -> Generate:
    made = generate(stage, Column("q"))
    return Generate(made.id, made.model, made.messages, **options)  # type: ignore[arg-type]


def dispatched(commands: Sequence[Command]) -> Iterator[tuple[str, EngineId, int]]:
    return ((str(c.node), c.engine, c.attempt) for c in commands if isinstance(c, Dispatch))


def test_a_call_goes_to_the_engine_with_the_least_predicted_load_and_says_why() -> None:
    (dispatch,) = only(Dispatch, Story(call()).begin())
    assert isinstance(dispatch, Dispatch)
    assert (dispatch.engine, dispatch.attempt) == (A100, 1)
    assert dispatch.reason.startswith("least predicted load")


def test_calls_beyond_what_engines_take_wait_here_in_program_order() -> None:
    story = Story(call(), rows=6)
    sent = list(dispatched(story.begin()))
    assert len(sent) == 4
    first = sent[0]
    freed = story.tell(CallFinished(1.0, node("ask", 0), 1, Usage(1, 1)))
    assert list(dispatched(freed)) == [("j/4:ask", first[1], 1)]


def test_the_last_stage_settles_the_result_and_ends_the_job() -> None:
    story = Story(call(), result=output("ask"))
    story.begin()
    (settle,) = only(Settle, story.tell(CallFinished(1.0, node("ask"), 1, Usage(1, 1))))
    assert isinstance(settle, Settle)
    assert story.tell(Settled(1.0, settle.node, settle.attempt)) == [
        FinishProgram(ProgramId("j/0"), JOB, 0, Status.SUCCEEDED),
        FinishJob(JOB, Status.SUCCEEDED),
    ]


def test_a_late_answer_to_an_aborted_attempt_is_ignored() -> None:
    story = Story(call())
    story.begin()
    story.tell(NodeFailed(1.0, node("ask"), 1, DIED))
    story.tell(WakeUp(1.0))
    assert story.tell(CallFinished(2.0, node("ask"), 1, Usage(1, 1))) == []


def test_a_broken_connection_sends_the_call_elsewhere_and_has_the_engine_probed() -> None:
    story = Story(call())
    story.begin()
    commands = story.tell(NodeFailed(1.0, node("ask"), 1, DIED))
    assert [c.engine for c in commands if isinstance(c, WatchEngine)] == [A100]
    (wake,) = only(CallMeAt, commands)
    assert isinstance(wake, CallMeAt)
    assert list(dispatched(story.tell(WakeUp(wake.at)))) == [("j/0:ask", A10, 2)]


def test_an_engine_that_is_lost_gives_its_calls_back_at_once() -> None:
    story = Story(call(), rows=2)
    story.begin()
    commands = story.tell(EngineLost(1.0, A100, "no answer"))
    assert only(Abort, commands) == [Abort(node("ask", 0), 1), Abort(node("ask", 1), 1)]
    assert list(dispatched(story.tell(WakeUp(1.0)))) == [("j/0:ask", A10, 2), ("j/1:ask", A10, 2)]


def test_an_engine_that_is_back_is_used_again() -> None:
    story = Story(call(), fleet=FLEET[:1])
    story.begin()
    story.tell(EngineLost(1.0, A100))
    assert not list(dispatched(story.tell(WakeUp(1.0))))
    assert list(dispatched(story.tell(EngineBack(5.0, A100)))) == [("j/0:ask", A100, 2)]


def test_a_call_that_was_in_flight_on_three_engines_that_died_is_taken_for_the_cause() -> None:
    story = Story(call())
    story.begin()
    at = 1.0
    for attempt in (1, 2):
        story.tell(NodeFailed(at, node("ask"), attempt, DIED))
        for engine in (A100, A10):
            story.tell(EngineBack(at, engine))
        story.tell(WakeUp(at))
        at += 1.0
    (finish,) = only(FinishProgram, story.tell(NodeFailed(at, node("ask"), 3, DIED)))
    assert isinstance(finish, FinishProgram)
    assert finish.failure is not None
    assert finish.failure.code == "engine_killer"


def test_a_suspected_call_runs_alone() -> None:
    story = Story(call(), rows=2, fleet=FLEET[:1])
    story.begin()
    for attempt in (1, 2):
        story.tell(NodeFailed(1.0, node("ask", 0), attempt, DIED))
        story.tell(EngineBack(1.0, A100))
        story.tell(WakeUp(1.0))
    after = story.tell(CallFinished(2.0, node("ask", 1), 1, Usage(1, 1)))
    assert list(dispatched(after)) == [("j/0:ask", A100, 3)]


def test_the_rows_own_fault_ends_its_program_and_no_other() -> None:
    story = Story(call(), rows=2)
    story.begin()
    commands = story.tell(NodeFailed(1.0, node("ask", 0), 1, TOO_LONG))
    assert only(FinishProgram, commands) == [FinishProgram(ProgramId("j/0"), JOB, 0, Status.FAILED, TOO_LONG)]


def test_a_fallback_answers_for_a_stage_that_failed_for_good() -> None:
    story = Story(call(fallback=Fallback("none")), result=output("ask"))
    story.begin()
    commands = story.tell(NodeFailed(1.0, node("ask"), 1, TOO_LONG))
    assert [type(command) for command in commands] == [UseFallback, SaveNode, Settle]


@pytest.mark.parametrize(("sampling", "tried_again"), [(Sampling(), False), (Sampling(temperature=1.0), True)])
def test_an_invalid_answer_is_asked_for_again_only_where_another_can_come(
    sampling: Sampling, tried_again: bool
) -> None:
    story = Story(call(sampling=sampling))
    story.begin()
    commands = story.tell(NodeFailed(1.0, node("ask"), 1, GARBLED))
    assert bool(only(CallMeAt, commands)) is tried_again


def test_an_engine_that_cannot_be_reached_five_times_in_a_row_is_taken_out() -> None:
    story = Story(call(), fleet=FLEET[:1])
    story.begin()
    at = 1.0
    for attempt in range(1, 6):
        commands = story.tell(NodeFailed(at, node("ask"), attempt, AWAY))
        assert bool(only(WatchEngine, commands)) is (attempt == 5)
        (wake,) = only(CallMeAt, commands)
        assert isinstance(wake, CallMeAt)
        at = wake.at
        story.tell(WakeUp(at))


def test_an_engine_that_fails_calls_of_five_programs_in_a_row_is_taken_out() -> None:
    story = Story(call(), rows=5, fleet=[replace(FLEET[0], max_running=5)])
    story.begin()
    taken_out = [bool(only(WatchEngine, story.tell(NodeFailed(1.0, node("ask", row), 1, BROKEN)))) for row in range(5)]
    assert taken_out == [False, False, False, False, True]


def test_a_call_that_fails_wherever_it_goes_takes_no_engine_from_others() -> None:
    story = Story(call(), rows=2, fleet=FLEET[:1])
    story.begin()
    at = 1.0
    for attempt in range(1, 6):
        commands = story.tell(NodeFailed(at, node("ask"), attempt, BROKEN))
        (wake,) = only(CallMeAt, commands)
        assert isinstance(wake, CallMeAt)
        at = wake.at
        commands += story.tell(WakeUp(at))
        assert not only(WatchEngine, commands)
    commands = story.tell(NodeFailed(at, node("ask"), 6, BROKEN))
    assert [c.row for c in commands if isinstance(c, FinishProgram)] == [0]
    assert not only(WatchEngine, commands)


def test_after_an_answer_a_program_counts_anew_towards_an_engines_health() -> None:
    story = Story(call(), rows=6, fleet=[replace(FLEET[0], max_running=6)])
    story.begin()
    for row in range(4):
        assert not only(WatchEngine, story.tell(NodeFailed(1.0, node("ask", row), 1, BROKEN)))
    story.tell(CallFinished(2.0, node("ask", 5), 1, Usage(1, 1)))
    assert not only(WatchEngine, story.tell(NodeFailed(2.0, node("ask", 4), 1, BROKEN)))
    story.tell(WakeUp(2.0))
    taken_out = [bool(only(WatchEngine, story.tell(NodeFailed(3.0, node("ask", row), 2, BROKEN)))) for row in range(4)]
    assert taken_out == [False, False, False, True]


def test_equal_calls_are_one_call_and_both_programs_get_its_answer() -> None:
    story = Story(call(), rows=2, result=output("ask"))
    assert list(dispatched(story.begin(key="k"))) == [("j/0:ask", A100, 1)]
    commands = story.tell(CallFinished(1.0, node("ask", 0), 1, Usage(1, 1)))
    assert TakeShared(node("ask", 1), ContentKey("k")) in commands
    assert SaveNode(node("ask", 1), 1, shared_from=node("ask", 0)) in commands


def test_work_that_two_stages_ask_for_is_done_once_though_neither_has_equal_rows() -> None:
    """The first stage on one row is the second stage on the other; planning knows."""
    story = Story(call("ask"), call("say"), rows=2)
    ask = Grouping((0, 1), (ContentKey("a"), ContentKey("b")), (1, 1))
    say = Grouping((0, 1), (ContentKey("b"), ContentKey("c")), (1, 1))
    story.tell(JobSubmitted(0.0, JOB, story.plan, 2))
    planned = BatchPlanned(0.0, JOB, story.plan, (0, 1), {StageId("ask"): ask, StageId("say"): say})
    prepared = [str(command.node) for command in story.tell(planned) if isinstance(command, Prepare)]
    assert prepared == ["j/0:ask", "j/0:say", "j/1:say"]


def test_a_failure_is_not_copied_to_those_that_waited() -> None:
    story = Story(call(), rows=2)
    story.begin(key="k")
    commands = story.tell(NodeFailed(1.0, node("ask", 0), 1, TOO_LONG))
    assert [c.row for c in commands if isinstance(c, FinishProgram)] == [0]
    assert list(dispatched(commands)) == [("j/1:ask", A100, 1)]


def test_cancel_stops_what_runs_and_ends_the_job() -> None:
    story = Story(call(), rows=2)
    story.begin()
    commands = story.tell(Cancelled(1.0, JOB))
    assert len(only(Abort, commands)) == 2
    assert {c.status for c in commands if isinstance(c, FinishProgram)} == {Status.CANCELLED}
    assert commands[-1] == FinishJob(JOB, Status.CANCELLED)


def test_a_model_nobody_serves_is_told_at_once() -> None:
    story = Story(generate("ask", Column("q"), model="huge"))
    (finish,) = only(FinishProgram, story.begin())
    assert isinstance(finish, FinishProgram)
    assert finish.failure is not None
    assert finish.failure.code == "unknown_model"
    assert "small" in finish.failure.message


def test_calls_whose_engines_stay_away_are_given_up() -> None:
    story = Story(call(), fleet=FLEET[:1])
    story.tell(EngineLost(0.0, A100))
    commands = story.begin()
    (wake,) = only(CallMeAt, commands)
    assert isinstance(wake, CallMeAt)
    assert wake.at == 60.0
    (finish,) = only(FinishProgram, story.tell(WakeUp(60.0)))
    assert isinstance(finish, FinishProgram)
    assert finish.failure is not None
    assert finish.failure.code == "no_engine"


def test_a_tool_runs_no_more_often_at_once_than_its_spec_allows() -> None:
    story = Story(tool("look", ToolSpec("search", concurrency=2), q=Column("q")), rows=3)
    assert len(only(RunTool, story.begin())) == 2
    assert only(RunTool, story.tell(ToolFinished(1.0, node("look", 0), 1))) == [
        RunTool(node("look", 2), 1, ToolSpec("search", concurrency=2))
    ]


def test_a_tool_that_takes_batches_has_as_many_calls_handed_over_as_its_batches_hold() -> None:
    spec = ToolSpec("search", concurrency=2, max_batch=3)
    story = Story(tool("look", spec, q=Column("q")), rows=8)
    assert [str(c.node) for c in only(RunTool, story.begin())] == [f"j/{row}:look" for row in range(6)]  # type: ignore[attr-defined]
    assert only(RunTool, story.tell(ToolFinished(1.0, node("look", 4), 1))) == [RunTool(node("look", 6), 1, spec)]


def test_a_tool_starts_when_its_own_inputs_are_there_and_waits_for_no_call() -> None:
    story = Story(call(), tool("look", ToolSpec("search"), q=Column("q")), generate("end", output("ask")))
    commands = story.begin()
    assert list(dispatched(commands)) == [("j/0:ask", A100, 1)]
    assert only(RunTool, commands) == [RunTool(node("look"), 1, ToolSpec("search"))]


def test_a_tool_whose_slots_are_taken_holds_up_no_other_tool() -> None:
    slow, quick = ToolSpec("slow", concurrency=1), ToolSpec("quick", concurrency=1)
    story = Story(tool("crawl", slow, q=Column("q")), tool("look", quick, q=Column("q")), rows=3)
    story.begin()
    for row in range(2):
        freed = story.tell(ToolFinished(1.0 + row, node("look", row), 1))
        assert only(RunTool, freed) == [RunTool(node("look", row + 1), 1, quick)]


def test_a_row_goes_on_and_ends_while_the_tools_of_others_still_run() -> None:
    stages = (tool("look", ToolSpec("search"), q=Column("q")), generate("end", output("look")))
    story = Story(*stages, rows=3)
    story.begin()
    commands = story.prepare(story.tell(ToolFinished(story.now, node("look", 1), 1)))
    assert list(dispatched(commands)) == [("j/1:end", A100, 1)]
    (settle,) = only(Settle, story.tell(CallFinished(2.0, node("end", 1), 1, Usage(1, 1))))
    assert isinstance(settle, Settle)
    (finish,) = only(FinishProgram, story.tell(Settled(2.0, settle.node, settle.attempt)))
    assert finish == FinishProgram(ProgramId("j/1"), JOB, 1, Status.SUCCEEDED)


@pytest.mark.parametrize(("effect", "tried_again"), [(Effect.IDEMPOTENT, True), (Effect.UNSAFE, False)])
def test_an_unsafe_tool_is_never_tried_again(effect: Effect, tried_again: bool) -> None:
    story = Story(tool("send", ToolSpec("send", effect, retries=3), q=Column("q")))
    story.begin()
    failure = Failure(FailureClass.TOOL, "tool_timeout", "took too long")
    assert bool(only(CallMeAt, story.tell(NodeFailed(1.0, node("send"), 1, failure)))) is tried_again


def test_an_unsafe_tool_that_was_running_when_the_process_died_needs_a_person() -> None:
    story = Story(tool("send", ToolSpec("send", Effect.UNSAFE), q=Column("q")))
    (finish,) = only(FinishProgram, story.begin(recovered={0: Recovered(interrupted=("send",))}))
    assert isinstance(finish, FinishProgram)
    assert finish.failure is not None
    assert finish.failure.code == "needs_attention"


def test_what_an_earlier_process_finished_is_not_done_again() -> None:
    story = Story(call("first"), generate("second", output("first")))
    commands = story.begin(recovered={0: Recovered({"first": ()})})
    assert list(dispatched(commands)) == [("j/0:second", A100, 1)]
    assert not only(SaveNode, commands)


def test_a_fallback_does_not_stand_in_for_a_fleet_that_is_away() -> None:
    story = Story(call(fallback=Fallback("none")), fleet=FLEET[:1])
    story.tell(EngineLost(0.0, A100))
    story.begin()
    (finish,) = only(FinishProgram, story.tell(WakeUp(60.0)))
    assert isinstance(finish, FinishProgram)
    assert (finish.status, finish.failure and finish.failure.code) == (Status.FAILED, "no_engine")


def test_what_a_row_that_ended_earlier_did_is_taken_by_those_to_come() -> None:
    story = Story(call(), rows=2, result=output("ask"))
    story.tell(JobSubmitted(0.0, JOB, story.plan, 2, ended=[0]))
    same = Grouping([0, 0], (ContentKey("k"),), [2])
    known = {ContentKey("k"): node("ask", 0)}
    commands = story.tell(BatchPlanned(0.0, JOB, story.plan, [0, 1], {StageId("ask"): same}, known))
    assert not only(Prepare, commands)
    assert TakeShared(node("ask", 1), ContentKey("k")) in commands
    assert SaveNode(node("ask", 1), 0, shared_from=node("ask", 0)) in commands


def test_an_engine_whose_calls_last_longer_than_believed_gets_fewer() -> None:
    """Both are believed to be alike; one takes a second for what the other does in a tenth."""
    twins = tuple(EngineSpec(EngineId(name), "scripted", ("small",), gpu="A100", max_running=1) for name in "ab")
    story = Story(call(), rows=60, fleet=twins)
    ends = {command.node: (command, 0.0) for command in story.begin() if isinstance(command, Dispatch)}
    sent = dict.fromkeys((spec.id for spec in twins), 0)
    while ends:
        first = min(ends, key=lambda ref: (_end_of(*ends[ref]), ref))
        command, began = ends.pop(first)
        sent[command.engine] += 1
        story.now = _end_of(command, began)
        commands = story.tell(CallFinished(story.now, first, command.attempt, Usage(100, 10)))
        prepared = story.prepare([*commands, *_settled(story, commands)])
        ends |= {new.node: (new, story.now) for new in [*commands, *prepared] if isinstance(new, Dispatch)}
    assert story.core.corrections[EngineId("a")].factor > 2 * story.core.corrections[EngineId("b")].factor
    assert sent[EngineId("b")] > 4 * sent[EngineId("a")]


def _end_of(command: Dispatch, began: float) -> float:
    return began + (1.0 if command.engine == "a" else 0.1)


def _settled(story: Story, commands: Sequence[Command]) -> list[Command]:
    asked = [command for command in commands if isinstance(command, Settle)]
    return [more for command in asked for more in story.tell(Settled(story.now, command.node, command.attempt))]
