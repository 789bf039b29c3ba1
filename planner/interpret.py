"""What a plan means: one row, one stage after the other, nothing shared, nothing saved.

This is the reference. The SDK runs programs inline with it, and tests hold every pass and every driver against it.
"""

from collections.abc import Mapping
from typing import Protocol

from planner.ir.answer import AnswerInvalid, parse_answer
from planner.ir.conversation import (
    ArgumentsInvalid,
    Reply,
    Turn,
    continue_conversation,
    parse_arguments,
    render_messages,
)
from planner.ir.evaluate import EvaluationFailed, evaluate
from planner.ir.expressions import Expr
from planner.ir.ids import StageId
from planner.ir.paths import branch_prefix, item_prefix, round_prefix, tool_path, turn_path
from planner.ir.plan import Agent, Body, Choose, Generate, Join, Loop, Map, Plan, Stage, Tool, ToolSpec
from planner.ir.values import Json


class StageFailed(Exception):
    """A stage failed for good. `code` is stable, `message` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class World(Protocol):
    """Where calls and tools are really run. Both raise `StageFailed` when they fail."""

    def generate(self, path: str, stage: Generate | Agent, messages: list[Json]) -> Reply: ...

    def tool(self, path: str, spec: ToolSpec, arguments: dict[str, Json]) -> Json: ...


def interpret(plan: Plan, row: Mapping[str, Json], world: World) -> Json:
    """The result of `plan` on one row of inputs. Raises `StageFailed`, naming the stage."""
    return _Frame(plan, row, world, prefix="").run()


def choose_branch(stage: Choose, chosen: Json) -> int:
    """The index of the branch taken; `len(stage.cases)` stands for `otherwise`."""
    return next((i for i, case in enumerate(stage.cases) if case.equals == chosen), len(stage.cases))


def branch_body(stage: Choose, index: int) -> Body:
    return stage.cases[index].body if index < len(stage.cases) else stage.otherwise


def check_items(stage: Map, items: Json) -> list[Json]:
    """The list a Map runs over. Raises `StageFailed` when it is no list, or longer than `max_items`."""
    if not isinstance(items, list):
        raise StageFailed("not_a_list", f"stage {stage.id!r} maps over a list, but got {type(items).__name__}")
    if len(items) > stage.max_items:
        raise StageFailed(
            "too_many_items", f"stage {stage.id!r} got {len(items)} items; max_items is {stage.max_items}"
        )
    return items


def agent_output(text: str, turns: int, stopped: str) -> Json:
    return {"text": text, "turns": turns, "stopped": stopped}


class _Frame:
    """One activation of a plan: its columns, and the outputs so far."""

    def __init__(self, plan: Plan, columns: Mapping[str, Json], world: World, prefix: str) -> None:
        self.plan = plan
        self.columns = columns
        self.world = world
        self.prefix = prefix
        self.outputs: dict[StageId, Json] = {}

    def run(self) -> Json:
        for stage in self.plan.stages:
            self.outputs[stage.id] = self._stage(stage)
        try:
            return self._value(self.plan.result)
        except EvaluationFailed as error:
            raise StageFailed("bad_value", f"the result of {self.plan.name!r}: {error}") from None

    def _value(self, expr: Expr) -> Json:
        return evaluate(expr, self.columns, self.outputs.__getitem__)

    def _stage(self, stage: Stage) -> Json:
        try:
            return self._run(stage)
        except (EvaluationFailed, StageFailed, AnswerInvalid) as error:
            fallback = getattr(stage, "fallback", None)
            if fallback is not None:
                return fallback.value
            raise _as_failure(stage, error) from None

    def _run(self, stage: Stage) -> Json:
        path = self.prefix + stage.id
        match stage:
            case Generate():
                messages = render_messages(stage.messages, self.columns, self.outputs.__getitem__)
                return parse_answer(self.world.generate(path, stage, messages).text, stage.schema)
            case Tool():
                return self.world.tool(path, stage.tool, self._value(stage.arguments))
            case Choose():
                index = choose_branch(stage, self._value(stage.value))
                return self._body(branch_body(stage, index), branch_prefix(path, index), {})
            case Map():
                items = check_items(stage, self._value(stage.over))
                return [self._body(stage.body, item_prefix(path, i), {"item": x}) for i, x in enumerate(items)]
            case Loop():
                return self._loop(stage, path)
            case Agent():
                return self._agent(stage, path)
            case Join():
                return self._value(stage.value)

    def _body(self, body: Body, prefix: str, given: dict[str, Json]) -> Json:
        columns = given | {binding.name: self._value(binding.value) for binding in body.bindings}
        return _Frame(body.plan, columns, self.world, prefix).run()

    def _loop(self, stage: Loop, path: str) -> Json:
        state = self._value(stage.initial)
        for index in range(stage.max_rounds):
            if evaluate(stage.until, {"state": state}, self.outputs.__getitem__):
                break
            state = self._body(stage.body, round_prefix(path, index), {"state": state})
        return state

    def _agent(self, stage: Agent, path: str) -> Json:
        opening = render_messages(stage.messages, self.columns, self.outputs.__getitem__)
        turns: list[Turn] = []
        reply = Reply("")
        for index in range(stage.max_turns):
            reply = self.world.generate(turn_path(path, index), stage, continue_conversation(opening, turns))
            if not reply.tool_calls:
                return agent_output(reply.text, index + 1, "answered")
            if index + 1 < stage.max_turns:
                turns.append(Turn(reply, self._agent_tools(stage, path, index, reply)))
        return agent_output(reply.text, stage.max_turns, "max_turns")

    def _agent_tools(self, stage: Agent, path: str, turn: int, reply: Reply) -> tuple[Json, ...]:
        results: list[Json] = []
        for index, call in enumerate(reply.tool_calls):
            try:
                spec, arguments = parse_arguments(call, stage.tools)
                results.append(self.world.tool(tool_path(path, turn, index), spec, arguments))
            except (ArgumentsInvalid, StageFailed) as error:
                results.append(tool_error(str(error)))
        return tuple(results)


def tool_error(message: str) -> Json:
    """What an agent's model is told when a tool failed: it can try something else."""
    return {"error": message}


def _as_failure(stage: Stage, error: EvaluationFailed | StageFailed | AnswerInvalid) -> StageFailed:
    if isinstance(error, StageFailed):
        return error
    code = "invalid_answer" if isinstance(error, AnswerInvalid) else "bad_value"
    return StageFailed(code, f"stage {stage.id!r}: {error}")
