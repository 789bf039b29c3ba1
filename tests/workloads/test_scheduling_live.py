"""The same replay against engines that are really asked: here, web servers that answer at once or after a while."""

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from aiohttp import ClientResponseError, web

from benchmarks.scheduling.fleets import fleet_named
from benchmarks.scheduling.live_replay import prompt_ids, replay_live
from benchmarks.scheduling.programs import Asked, Asking
from benchmarks.scheduling.real_mixed import ARMS, HALO, Run, report, shrunk
from benchmarks.scheduling.replay import replay
from benchmarks.scheduling.reuse import Reuse
from benchmarks.scheduling.traces import Arriving, poisson, traces_in
from executor.core.scheduler import Scheduler
from executor.engines.port import EngineSpec


class Served:
    """An engine that answers after `delay_s`, and remembers what it was asked."""

    def __init__(self, delay_s: float = 0.0, *, fails: bool = False) -> None:
        self.asked: list[dict[str, Any]] = []
        self._delay_s, self._fails = delay_s, fails

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        await asyncio.sleep(self._delay_s)
        if self._fails:
            raise web.HTTPInternalServerError
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": body["max_tokens"]}
        return web.json_response({"usage": usage})


async def serve(served: Served) -> tuple[web.AppRunner, str]:
    app = web.Application(client_max_size=16 * 2**20)
    app.router.add_post("/v1/completions", served.complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    return runner, f"http://127.0.0.1:{port}"


@pytest.fixture
def engines() -> list[Served]:
    return [Served(), Served(0.002)]


async def run(engines: list[Served], arriving: list[Arriving], asked: Asked, rule: str = HALO) -> Any:
    runners, fleet = [], []
    for served, spec in zip(engines, fleet_named("hetero-1"), strict=False):
        runner, url = await serve(served)
        runners.append(runner)
        fleet.append(replace(spec, url=url, served_names={spec.models[0]: "tiny"}))
    try:
        return await replay_live(arriving, fleet, Scheduler(fleet, rule=rule), asked, "salt")
    finally:
        await asyncio.gather(*(runner.cleanup() for runner in runners))


def arriving(count: int = 3) -> list[Arriving]:
    requests = traces_in(None)["own natural"](count, Random(2))
    return poisson(requests, 200.0, Random(2))


async def test_engines_are_asked_for_every_call_at_its_length(engines: list[Served]) -> None:
    came = arriving()
    done = await run(engines, came, Asked(5.0, Reuse.REQUEST, shrink=8))
    calls = [call for one in came for call in shrunk(one.request, 8).calls]
    bodies = [body for served in engines for body in served.asked]
    asked = sorted((len(body["prompt"]), body["max_tokens"]) for body in bodies)
    assert asked == sorted((call.prompt_tokens, call.output_tokens) for call in calls)
    assert {body["model"] for body in bodies} == {"tiny"}
    assert {body["cache_salt"] for body in bodies} == {"salt"}
    assert done.work.prompt_tokens == sum(call.prompt_tokens for call in calls)
    assert all(one.ended_s > one.arrived_s for one in done.ended)


async def test_deadlines_are_the_engines_priorities_where_they_are_to_keep_them(engines: list[Served]) -> None:
    done = await run(engines, arriving(), Asked(5.0, shrink=8, by_deadline=True), "round robin")
    priorities = {body["priority"] for served in engines for body in served.asked}
    assert priorities == {round(one.deadline_s * 1000) for one in done.ended}


async def test_an_engine_that_fails_ends_the_run() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await run([Served(), Served(fails=True)], arriving(), Asked(5.0, shrink=8), "round robin")
    assert caught.group_contains(ClientResponseError)


def test_blocks_of_one_name_hold_the_same_tokens_and_nothing_else_does() -> None:
    one, other = Asking(100, 1, (7, 8)), Asking(120, 1, (7, 9))
    first, second = prompt_ids(one, "a"), prompt_ids(other, "b")
    assert (len(first), len(second)) == (100, 120)
    assert first[:32] == second[:32]
    assert first[32:64] != second[32:64]
    assert prompt_ids(one, "a")[64:] != prompt_ids(one, "b")[64:]


@pytest.mark.parametrize("name", list(ARMS))
def test_every_arm_can_be_predicted(name: str) -> None:
    fleet: list[EngineSpec] = fleet_named("hetero-1")[1:3]
    arm = ARMS[name]
    asked = Asked(60.0, Reuse.REQUEST, shrink=8, by_deadline=arm.by_deadline)
    done = replay(arriving(6), fleet, Scheduler(fleet, rule=arm.rule), asked)
    assert len(done.ended) == 6


def test_the_report_compares_misses_and_tails_with_halo() -> None:
    figures = {HALO: (1.0, 0.1), "round robin": (2.0, 0.3)}
    runs = [
        Run(0.7, number, arm, simulated, 0.5, p95_s, missed, 0.4)
        for number in (0, 1)
        for simulated in (False, True)
        for arm, (p95_s, missed) in figures.items()
    ]
    lines = list(report(runs))
    assert [line for line in lines if line.startswith(("measured", "simulated"))] == [
        "measured",
        "simulated, by the measured profiles",
    ]
    assert sum("2.00 (2.00 to 2.00)" in line and "3.00 (3.00 to 3.00)" in line for line in lines) == 2
