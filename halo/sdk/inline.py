"""Programs run inline: the reference interpreter over real tools and a model of the caller's choice."""

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from halo.sdk.engine import HttpModel
from halo.sdk.errors import EngineMissing, RunFailed
from halo.sdk.schemas import NoJsonForm, to_json
from halo.sdk.tool import Tool
from planner.interpret import StageFailed, interpret
from planner.ir.conversation import Reply, tool_definitions
from planner.ir.plan import Agent, Effect, Generate, Plan, Sampling, ToolSpec
from planner.ir.sites import walk
from planner.ir.values import Json

ENGINE_URL = "HALO_ENGINE_URL"

#: Takes chat messages, sampling and the JSON schema of the answer (or None); gives the answer's text. For agents it may
#: give a `Reply` with tool calls.
Model = Callable[[list[Json], Sampling, Json], str | Reply]


def run_inline(
    plan: Plan,
    row: Mapping[str, Json],
    tools: Mapping[str, Tool[..., Any]],
    *,
    model: Model | None,
    engine: str | None,
) -> Json:
    """The plan's result on one row. Raises `EngineMissing` or `RunFailed`, whose cause is the tool's own exception."""
    world = _World(tools, _answering(plan, model, engine))
    try:
        return interpret(plan, row, world)
    except StageFailed as failure:
        raise RunFailed(failure.code, failure.message) from world.cause_of(failure)


class Answering(Protocol):
    def generate(self, stage: Generate | Agent, messages: list[Json]) -> Reply:
        """Raises `StageFailed`."""
        ...


class _World:
    def __init__(self, tools: Mapping[str, Tool[..., Any]], answering: Answering) -> None:
        self._tools = tools
        self._answering = answering
        self._last_failure: tuple[StageFailed, BaseException] | None = None

    def cause_of(self, failure: StageFailed) -> BaseException | None:
        """What the tool raised, where a tool's exception is what ended the program."""
        return self._last_failure[1] if self._last_failure and self._last_failure[0] is failure else None

    def generate(self, path: str, stage: Generate | Agent, messages: list[Json]) -> Reply:
        return self._answering.generate(stage, messages)

    def tool(self, path: str, spec: ToolSpec, arguments: dict[str, Json]) -> Json:
        again = 0 if spec.effect is Effect.UNSAFE else spec.retries
        for attempt in range(again + 1):
            try:
                return self._call(spec, arguments)
            except StageFailed:
                if attempt == again:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _call(self, spec: ToolSpec, arguments: dict[str, Json]) -> Json:
        function = self._tools[spec.name].function
        try:
            result = function(**arguments)
            return to_json(_finish(result, spec.timeout_s) if inspect.iscoroutine(result) else result)
        except NoJsonForm as error:
            raise self._failed("tool_bad_output", spec, f"returned what JSON cannot hold: {error}", error) from None
        except TimeoutError as error:
            raise self._failed("tool_timeout", spec, f"took longer than {spec.timeout_s:g} s", error) from None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a tool is user code, and may raise anything
            raise self._failed("tool_raised", spec, f"raised {type(error).__name__}: {error}", error) from None

    def _failed(self, code: str, spec: ToolSpec, what: str, error: BaseException) -> StageFailed:
        failure = StageFailed(code, f"tool {spec.name!r} {what}")
        self._last_failure = (failure, error)
        return failure


class _Function:
    """A function that answers for a model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def generate(self, stage: Generate | Agent, messages: list[Json]) -> Reply:
        schema = stage.schema if isinstance(stage, Generate) else None
        answer = self._model(messages, stage.sampling, schema)
        if isinstance(answer, Reply):
            return answer
        if isinstance(answer, str):
            return Reply(answer)
        raise StageFailed("bad_model", f"model= gave a {type(answer).__name__} for {stage.id!r}; it must give a text")


class _Engine:
    """An OpenAI-compatible server."""

    def __init__(self, engine: HttpModel) -> None:
        self._engine = engine

    def generate(self, stage: Generate | Agent, messages: list[Json]) -> Reply:
        tools = tool_definitions(stage.tools) if isinstance(stage, Agent) else []
        return self._engine.chat(stage, messages, tools)


class _Nothing:
    def generate(self, stage: Generate | Agent, messages: list[Json]) -> Reply:
        raise AssertionError("a plan without LLM calls asks no model")


def _answering(plan: Plan, model: Model | None, engine: str | None) -> Answering:
    if model is not None:
        return _Function(model)
    url = engine or os.environ.get(ENGINE_URL)
    if url:
        return _Engine(HttpModel(url))
    first = next((site.stage for site in walk(plan) if isinstance(site.stage, Generate | Agent)), None)
    if first is None:
        return _Nothing()
    raise EngineMissing(
        f"workflow {plan.name!r} calls a model ({first.id!r}), and nothing is named to answer it. Either"
        " give a function: .run(..., model=lambda messages, sampling, schema: 'text'); or name an OpenAI-compatible"
        f" server: .run(..., engine='http://localhost:8000') or the environment variable {ENGINE_URL}"
    )


def _finish(work: Coroutine[Any, Any, Json], timeout_s: float) -> Json:
    """Run an async tool to its end, in a thread of its own where this one already has a running loop (a notebook)."""

    async def bounded() -> Json:
        return await asyncio.wait_for(work, timeout_s)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(bounded())
    return _in_thread(lambda: asyncio.run(bounded()))


def _in_thread(action: Callable[[], Json]) -> Json:
    outcome: list[Json] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(action())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits
            failure.append(error)

    thread = threading.Thread(target=body, name="halo-inline-tool")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
