"""Hints on their way from the door to engines: real sockets, and nobody waits for them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from executor.clock import WallClock
from executor.commands import Hint
from executor.drivers.door import Asked, Door
from executor.drivers.hinting import HintLimits, HintPost
from executor.drivers.tasks import Tasks
from executor.engines.port import EngineSpec
from executor.engines.upstream import Upstream
from executor.engines.upstream_http import HttpUpstream
from executor.engines.vllm_http import VllmHttp
from halo_vllm.policy.tools import ToolKey
from kvstore.memory_state import MemoryStates
from planner.ir.ids import EngineId, ProgramId
from planner.ir.values import Json
from tests.executor.stub_openai import StubOpenAI, good

E = EngineId("e")
CHAT = "/v1/chat/completions"
PYTEST = ToolKey("bash", "pytest")


class Read:
    """A client that reads whatever comes."""

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        assert status == 200

    async def write(self, part: bytes) -> None:
        assert part


class Listening:
    """An upstream that says what it was told, when the test lets it go on."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.tools: list[Json] = []
        self.go_on = asyncio.Event()

    async def hint(self, told: Mapping[str, Json]) -> bool:
        self.told.append((told["program"], told["event"]))
        self.tools.append(told.get("halo_tool"))
        await self.go_on.wait()
        return True


async def until(holds: Callable[..., bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def door(stub: StubOpenAI) -> AsyncIterator[Door]:
    spec = EngineSpec(E, "vllm", (stub.model,), stub.url)
    engine = VllmHttp(spec)
    async with Door([engine], {E: HttpUpstream(spec)}, MemoryStates(), WallClock()) as one:
        yield one
    await engine.close()


def asked(program: str, salt: str | None = None) -> Asked:
    body = {"model": "stub-model", "messages": [{"role": "user", "content": "mend it"}]}
    return Asked("team", CHAT, body, {"x-halo-program-id": program}, salt)


def shell(command: str) -> Any:
    return good(f"I look.\n```bash\n{command}\n```")


async def test_the_engine_hears_which_tool_was_called_under_the_name_and_salt_of_the_call(
    stub_openai: StubOpenAI,
) -> None:
    stub_openai.hint_status = 202
    stub_openai.next(*(shell("cd repo && pytest -q") for _ in range(3)))
    async with door(stub_openai) as one:
        for tried in range(3):  # a stalled machine may take longer than an engine has for a hint
            await one.answer(asked("ada", salt="team"), Read())
            await until(lambda tried=tried: one.hints()[E].taken + one.hints()[E].failed > tried)
            if one.hints()[E].taken:
                break
    hint, call = stub_openai.hints[-1], stub_openai.bodies[-1]
    assert hint == {
        "program": call["vllm_xargs"]["halo_program"],
        "event": "tool_called",
        "cache_salt": call["cache_salt"],
        "halo_tool": ["bash"],
        "halo_tool_class": ["pytest"],
    }


async def test_an_engine_that_does_not_answer_hints_delays_no_client(stub_openai: StubOpenAI) -> None:
    stub_openai.hint_status, stub_openai.hint_waits_s = 202, 3600.0
    stub_openai.next(*(shell("ls") for _ in range(3)))
    async with door(stub_openai) as one:
        for number in range(3):
            await one.answer(asked(f"program {number}"), Read())
        await until(lambda: bool(stub_openai.hints))
        assert one.hints()[E].taken == 0


@asynccontextmanager
async def post(upstream: Any, **limits: Any) -> AsyncIterator[HintPost]:
    tasks = Tasks(lambda error: pytest.fail(repr(error)))
    upstreams: dict[EngineId, Upstream] = {E: upstream}
    yield HintPost(upstreams, tasks.spawn, HintLimits(**limits))
    await tasks.close()


@asynccontextmanager
async def post_to(stub: StubOpenAI, **limits: Any) -> AsyncIterator[HintPost]:
    upstream = HttpUpstream(EngineSpec(E, "vllm", (stub.model,), stub.url))
    async with post(upstream, **{"answer_s": 60.0, **limits}) as one:
        yield one
    await upstream.close()


async def test_an_engine_without_the_plugin_is_asked_once_until_it_is_back(stub_openai: StubOpenAI) -> None:
    async with post_to(stub_openai) as one:
        for number in range(3):
            one.tell(hint(f"program {number}"))
        await until(lambda: one.counts()[E].unheard == 3)
        one.tell(hint("ada"))
        assert one.counts()[E].unheard == 4
        assert len(stub_openai.hints) == 1
        stub_openai.hint_status = 202
        one.back(E)
        one.tell(hint("ada"))
        await until(lambda: one.counts()[E].taken == 1)


async def test_hints_that_fail_are_counted_and_the_next_one_is_told(stub_openai: StubOpenAI) -> None:
    stub_openai.hint_status, stub_openai.hint_waits_s = 202, 3600.0
    async with post_to(stub_openai, answer_s=0.2) as one:
        one.tell(hint("ada"))
        await until(lambda: one.counts()[E].failed == 1)
    async with post_to(stub_openai) as one:
        stub_openai.hint_status, stub_openai.hint_waits_s = 503, 0.0
        one.tell(hint("ada"))
        await until(lambda: one.counts()[E].failed == 1)
        stub_openai.hint_status = 202
        one.tell(hint("ada"))
        await until(lambda: one.counts()[E].taken == 1)


def hint(program: str, event: str = "tool_called", *tools: ToolKey) -> Hint:
    return Hint(E, ProgramId(program), event, tools)


async def test_of_a_program_the_newest_hint_goes_and_knows_the_tool() -> None:
    upstream = Listening()
    async with post(upstream) as one:
        one.tell(hint("first"))
        await until(lambda: bool(upstream.told))
        one.tell(hint("ada", "tool_called", PYTEST))
        one.tell(hint("ada", "tool_finished"))
        upstream.go_on.set()
        await until(lambda: one.counts()[E].taken == 2)
    assert upstream.told == [("first", "tool_called"), ("ada", "tool_finished")]
    assert upstream.tools[1] == ["bash"]
    assert one.counts()[E].late == 1


async def test_what_was_to_be_said_of_a_pause_is_not_said_of_the_next_one() -> None:
    upstream = Listening()
    async with post(upstream) as one:
        one.tell(hint("first"))
        await until(lambda: bool(upstream.told))
        one.tell(hint("ada"))
        one.called(E, ProgramId("ada"))
        upstream.go_on.set()
        await until(lambda: one.counts()[E].taken == 1)
    assert one.counts()[E].late == 1
    assert upstream.told == [("first", "tool_called")]


async def test_what_waits_is_bounded() -> None:
    upstream = Listening()
    async with post(upstream, waiting=2) as one:
        one.tell(hint("first"))
        await until(lambda: bool(upstream.told))
        for number in range(5):
            one.tell(hint(f"program {number}"))
        assert one.counts()[E].crowded == 3


async def test_an_engine_that_listens_is_told_several_at_once_but_of_one_program_in_order() -> None:
    upstream = Listening()
    async with post(upstream) as one:
        upstream.go_on.set()
        one.tell(hint("first"))
        await until(lambda: one.counts()[E].taken == 1)
        upstream.go_on.clear()
        for program in ("ada", "bob", "cleo"):
            one.tell(hint(program))
        await until(lambda: len(upstream.told) == 4)
        one.tell(hint("ada", "let_go"))
        await asyncio.sleep(0.05)
        assert len(upstream.told) == 4
        upstream.go_on.set()
        await until(lambda: one.counts()[E].taken == 5)
    assert upstream.told[-1] == ("ada", "let_go")
