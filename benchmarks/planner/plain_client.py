"""A good asynchronous client without Halo: what `plan_batch` holds Halo against.

It reads the same plans and sends the same requests over the same HTTP body, runs tools in the same processes (each
call by itself: to merge queries is Halo's doing), starts each stage of a program as soon as that stage's own inputs
exist, and keeps nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from executor.child_process import ToolFailed
from executor.engines.port import Completion, Engine, EngineFailed, FailureClass, GenerateRequest, Usage
from executor.tools import ToolRunner
from planner.interpret import StageFailed, branch_body, check_items, choose_branch
from planner.ir.answer import AnswerInvalid, parse_answer
from planner.ir.conversation import render_messages
from planner.ir.evaluate import EvaluationFailed, evaluate, no_output
from planner.ir.expressions import Expr
from planner.ir.plan import Body, Choose, Generate, Join, Loop, Map, Plan, Stage, Tool, ToolSpec
from planner.ir.reads import stages_read
from planner.ir.values import Json, canonical_json

Row = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many programs are in progress at once, and how many calls of all of them are in the engines."""

    programs: int
    calls: int


@dataclass(slots=True)
class Counts:
    """What was asked of the engines and tools. `asked` has each call's prompt and sampling as one text."""

    calls: int = 0
    tools: int = 0
    usage: Usage = field(default_factory=Usage)
    asked: list[str] = field(default_factory=list)

    def add(self, request: GenerateRequest, usage: Usage) -> None:
        self.calls += 1
        self.asked.append(identity_of(request))
        self.usage = Usage(
            self.usage.prompt_tokens + usage.prompt_tokens,
            self.usage.output_tokens + usage.output_tokens,
            self.usage.cached_tokens + usage.cached_tokens,
        )


class PlainClient:
    """Runs programs. With `remember`, a call or a tool that was asked before is not asked again (a dictionary)."""

    def __init__(self, engines: Sequence[Engine], tools: ToolRunner, bounds: Bounds, *, remember: bool = False) -> None:
        self.counts = Counts()
        self._tools = tools
        self._in_flight = {engine.spec.id: 0 for engine in engines}
        self._engines = {engine.spec.id: engine for engine in engines}
        self._programs, self._calls = asyncio.Semaphore(bounds.programs), asyncio.Semaphore(bounds.calls)
        self._known: dict[str, asyncio.Task[Json]] | None = {} if remember else None

    async def run(self, plan: Plan, rows: Sequence[Row]) -> list[Json]:
        """The result of each row, in order; a `StageFailed` is a result too."""
        return await asyncio.gather(*(self._program(plan, row) for row in rows))

    async def run_by_operator(self, plan: Plan, rows: Sequence[Row]) -> list[Json]:
        """One stage over all rows, then the next stage."""
        frames = [_Frame(self, plan, row) for row in rows]
        failed: dict[int, StageFailed] = {}

        async def step(number: int, stage: Stage) -> None:
            try:
                if number not in failed:
                    await frames[number].step(stage)
            except StageFailed as error:
                failed[number] = error

        for stage in plan.stages:
            await asyncio.gather(*(step(number, stage) for number in range(len(rows))))
        return [failed.get(number) or frame.result() for number, frame in enumerate(frames)]

    async def _program(self, plan: Plan, row: Row) -> Json:
        async with self._programs:
            try:
                return await _Frame(self, plan, row).run()
            except StageFailed as error:
                return error

    async def generate(self, stage: Generate, messages: list[Json]) -> Json:
        """The parsed answer. Raises `StageFailed` when the engine gives none that fits."""
        request = GenerateRequest(
            "", "client", stage.model, tuple(messages), stage.sampling, stage.schema, timeout_s=stage.timeout_s
        )
        return await self._once(identity_of(request), lambda: self._answer(stage, request))

    async def use_tool(self, spec: ToolSpec, arguments: dict[str, Json]) -> Json:
        """Raises `StageFailed` when the tool fails for good."""
        return await self._once(canonical_json([spec.name, arguments]), lambda: self._result(spec, arguments))

    async def _once(self, key: str, work: Callable[[], Any]) -> Json:
        if self._known is None:
            return await work()
        if key not in self._known:
            self._known[key] = asyncio.ensure_future(work())
        return await asyncio.shield(self._known[key])

    async def _answer(self, stage: Generate, request: GenerateRequest) -> Json:
        why: Exception
        for _ in range(stage.retries + 1):
            try:
                completion = await self._send(request)
                return parse_answer(completion.text, stage.schema)
            except AnswerInvalid as error:
                why = error
            except EngineFailed as error:
                why = error
                if error.failure.failure_class is FailureClass.ROW:
                    break
        raise StageFailed("call_failed", f"stage {stage.id!r}: {why}")

    async def _send(self, request: GenerateRequest) -> Completion:
        async with self._calls:
            serving = (name for name, engine in self._engines.items() if request.model in engine.spec.models)
            chosen = min(serving, key=lambda name: self._in_flight[name])
            self._in_flight[chosen] += 1
            try:
                completion = await self._engines[chosen].generate(request)
            finally:
                self._in_flight[chosen] -= 1
        self.counts.add(request, completion.usage)
        return completion

    async def _result(self, spec: ToolSpec, arguments: dict[str, Json]) -> Json:
        why = ""
        for _ in range(spec.retries + 1):
            try:
                self.counts.tools += 1
                return await self._tools.run(replace(spec, max_batch=1), arguments)
            except ToolFailed as error:
                why = str(error)
        raise StageFailed("tool_failed", why)


class _Frame:
    """One activation of a plan; every stage begins when what it reads is there."""

    def __init__(self, client: PlainClient, plan: Plan, columns: Row) -> None:
        self._client, self._plan, self._columns = client, plan, columns
        self._outputs: dict[str, Json] = {}

    async def run(self) -> Json:
        running: dict[str, asyncio.Task[None]] = {}
        for stage in self._plan.stages:
            needs = [running[name] for name in stages_read(stage)]
            running[stage.id] = asyncio.ensure_future(self._when(needs, stage))
        try:
            await asyncio.gather(*running.values())
        finally:
            for task in running.values():
                task.cancel()
        return self.result()

    async def _when(self, needs: Sequence[Awaitable[None]], stage: Stage) -> None:
        for need in needs:
            await need
        await self.step(stage)

    def result(self) -> Json:
        return self._value(self._plan.result)

    async def step(self, stage: Stage) -> None:
        """Do one stage whose inputs are there. Raises `StageFailed`."""
        try:
            self._outputs[stage.id] = await self._do(stage)
        except (EvaluationFailed, StageFailed) as error:
            fallback = getattr(stage, "fallback", None)
            if fallback is None:
                raise error if isinstance(error, StageFailed) else StageFailed("bad_value", str(error)) from None
            self._outputs[stage.id] = fallback.value

    async def _do(self, stage: Stage) -> Json:
        match stage:
            case Generate():
                messages = render_messages(stage.messages, self._columns, self._outputs.__getitem__)
                return await self._client.generate(stage, messages)
            case Tool():
                return await self._client.use_tool(stage.tool, self._value(stage.arguments))
            case Choose():
                return await self._body(branch_body(stage, choose_branch(stage, self._value(stage.value))), {})
            case Map():
                items = check_items(stage, self._value(stage.over))
                return await asyncio.gather(*(self._body(stage.body, {"item": item}) for item in items))
            case Loop():
                return await self._loop(stage)
            case Join():
                return self._value(stage.value)
        raise AssertionError(f"none of the workflows here has a stage like {stage.id!r}")

    async def _loop(self, stage: Loop) -> Json:
        state = self._value(stage.initial)
        for _ in range(stage.max_rounds):
            if evaluate(stage.until, {"state": state}, no_output):
                break
            state = await self._body(stage.body, {"state": state})
        return state

    async def _body(self, body: Body, given: dict[str, Json]) -> Json:
        columns = given | {binding.name: self._value(binding.value) for binding in body.bindings}
        return await _Frame(self._client, body.plan, columns).run()

    def _value(self, expr: Expr) -> Json:
        return evaluate(expr, self._columns, self._outputs.__getitem__)


def identity_of(request: GenerateRequest) -> str:
    """Requests of which the engine sees no difference have the same."""
    sampling = request.sampling
    asked = [request.model, sampling.temperature, sampling.max_tokens, sampling.seed, request.schema, request.messages]
    return canonical_json(asked)
