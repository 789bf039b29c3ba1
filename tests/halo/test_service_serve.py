"""`halo serve` from its start to its end, and past the end of its neighbour."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from served import Served, served
from service_stand import FLOWS
from typer.testing import CliRunner

import halo as halo_sdk
from executor.store.sql import upgrade
from halo.cli.main import make_app
from halo.sdk.find import find_workflow
from tests.executor.store_bodies import empty_database

#: Short for who waits for it to end, and long for a machine that stalls.
SHORT_LEASE = {"HALO_LIMITS__LEASE_S": "6", "HALO_LIMITS__JOBS": "2"}


def test_it_starts_says_how_it_stands_runs_and_stops(tmp_path: Path):
    with served(tmp_path, f"sqlite:///{tmp_path / 'halo.db'}") as halo:
        assert halo.url.startswith("http://127.0.0.1:")
        ready = halo.api.get("/readyz").json()
        assert ready["ready"]
        assert ready["state"]["detail"] == "in-process: one process"
        run = halo.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}}).json()
        assert halo.api.get(run["links"]["wait"]).json()["result"]["said"] == "HELLO ADA"
        assert halo.stop() == 0


def test_a_person_takes_an_engine_out_and_back(tmp_path: Path):
    with served(tmp_path, "memory://") as halo:
        drained = CliRunner().invoke(make_app(), ["engines", "drain", "small-0", "--server", halo.url])
        assert (drained.exit_code, drained.stderr.splitlines()[0]) == (0, "small-0 drains; it has 0 calls")
        assert "no other engine serves small" in drained.stderr
        (engine,) = halo.api.get("/v1/engines").json()["engines"]
        assert (engine["ready"], engine["draining"]) == (True, True)
        resumed = CliRunner().invoke(make_app(), ["engines", "resume", "small-0", "--server", halo.url, "--json"])
        assert json.loads(resumed.stdout)["draining"] is False
        unknown = CliRunner().invoke(make_app(), ["engines", "drain", "large-0", "--server", halo.url])
        assert (unknown.exit_code, "it has: small-0" in unknown.stderr) == (1, True)


def test_an_engine_that_was_taken_out_stays_so_over_a_restart_and_for_all_replicas(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'halo.db'}"
    with served(tmp_path, url) as ada, served(tmp_path, url) as bob:
        assert CliRunner().invoke(make_app(), ["engines", "drain", "small-0", "--server", ada.url]).exit_code == 0
        assert _draining(ada)
        _until(lambda: _draining(bob))
    with served(tmp_path, url) as ada, served(tmp_path, url) as bob:
        assert any(line.startswith("drained by an operator: small-0") for line in ada.said)
        assert _draining(ada)
        assert CliRunner().invoke(make_app(), ["engines", "resume", "small-0", "--server", ada.url]).exit_code == 0
        _until(lambda: not _draining(bob))
        run = bob.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}}).json()
        _until(lambda: bob.api.get(run["links"]["run"]).json()["status"] == "succeeded")


def test_a_service_that_is_tuned_looks_at_its_traffic_in_another_process_and_tells(tmp_path: Path):
    with served(tmp_path, "memory://", {"HALO_TUNING__EVERY_S": "0.2"}) as halo:
        _until(lambda: halo.api.get("/v1/tuning").json()["looks"] > 0)
        told, metrics = halo.api.get("/v1/tuning").json(), halo.api.get("/metrics").text
        assert halo.stop() == 0
    assert (told["on"], told["failures"], told["changes"]) == (True, 0, 0)
    assert told["why"].startswith("too little traffic: 0 programs")
    assert 'halo_tuning_setting{knob="active_programs"} 512.0' in metrics


def _draining(halo: Served) -> bool:
    (engine,) = halo.api.get("/v1/engines").json()["engines"]
    return bool(engine["draining"])


def test_the_sdk_submits_waits_and_learns_why_a_run_failed(tmp_path: Path):
    greet, fail = (find_workflow(f"{FLOWS}:{name}") for name in ("greet", "fail"))
    with served(tmp_path, f"sqlite:///{tmp_path / 'halo.db'}") as halo:
        first = greet.submit(name="ada", url=halo.url, idempotency_key="k")
        assert first.result()["said"] == "HELLO ADA"
        assert first.status() == "succeeded"
        assert greet.submit(name="ada", url=halo.url, idempotency_key="k").id == first.id
        with pytest.raises(halo_sdk.ServerFailed, match="idempotency"):
            greet.submit(name="bob", url=halo.url, idempotency_key="k")
        with pytest.raises(halo_sdk.RunFailed, match="no rain today"):
            fail.submit(text="rain", url=halo.url).result()


def test_a_stop_answers_who_waits_and_the_next_start_goes_on(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'halo.db'}"
    with served(tmp_path, url) as halo:
        run = _submit(halo, tmp_path, "ada")
        _until(lambda: _lines(tmp_path, "lingering")["ada"] == 1 and _is_stored(halo, run))
        waiting = HTTPConnection(halo.url.removeprefix("http://"), timeout=120)
        waiting.request("GET", run["links"]["wait"])
        for _ in range(3):  # what was asked before has been taken up when these are answered
            halo.api.get("/readyz")
        halo.process.terminate()
        answer = waiting.getresponse()
        assert (answer.status, json.loads(answer.read())["status"]) == (202, "running")
        waiting.close()
        assert halo.process.wait(120) == 0
    with served(tmp_path, url) as halo:
        _until(lambda: _lines(tmp_path, "lingering")["ada"] == 2)
        assert _lines(tmp_path, "calls") == {"ada": 1}
        halo.api.post(run["links"]["cancel"])
        assert halo.api.get(run["links"]["wait"]).json()["status"] == "cancelled"


def test_a_port_that_is_taken_is_told(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'halo.db'}"
    with served(tmp_path, url) as halo:
        port = halo.url.rpartition(":")[2]
        with (
            pytest.raises(AssertionError, match="choose another host or port"),
            served(tmp_path, url, {"HALO_PORT": port}),
        ):
            pass


def test_two_processes_share_a_file_and_one_goes_on_for_the_other(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'halo.db'}"
    with served(tmp_path, url, SHORT_LEASE) as ada, served(tmp_path, url, SHORT_LEASE) as bob:
        _one_dies(tmp_path, ada, bob)


@pytest.fixture
def redis_url() -> str:
    url = os.environ.get("HALO_TEST_REDIS_URL")
    if not url:
        pytest.skip("HALO_TEST_REDIS_URL is not set: run under scripts/test_services.py")
    return url


@pytest.mark.postgres
@pytest.mark.redis
async def test_two_replicas_share_postgresql_and_redis(tmp_path: Path, redis_url: str):
    async with empty_database() as url:
        await upgrade(url)
        with_redis = {**SHORT_LEASE, "HALO_REDIS_URL": redis_url}
        with served(tmp_path, url, with_redis) as ada, served(tmp_path, url, with_redis) as bob:
            _until(lambda: ada.api.get("/readyz").json()["state"] == {"ready": True, "detail": "Redis"})
            _one_dies(tmp_path, ada, bob)


def _one_dies(folder: Path, ada: Served, bob: Served) -> None:
    """Four runs, two on each; `ada` is killed in the middle of the second step of hers."""
    names = ["a", "b", "c", "d"]
    runs = [_submit(ada, folder, name) for name in names]
    _until(lambda: set(_lines(folder, "lingering")) == set(names))
    _until(lambda: all(_is_stored(bob, run) for run in runs))
    ada.kill()
    hers = _lines_of(folder, "lingering", ada.process.pid)
    assert len(hers) == 2
    (folder / "enough").touch()
    for run, name in zip(runs, names, strict=True):
        done = _ended(bob, run)
        assert (done["status"], done["result"]) == ("succeeded", f"{name} done")
        kinds = [event["kind"] for event in bob.api.get(run["links"]["events"]).json()["events"]]
        assert kinds.count("program.succeeded") == 1
        assert ("job.taken_over" in kinds) == (name in hers)
    assert _lines(folder, "calls") == dict.fromkeys(names, 1)
    assert _lines(folder, "lingering") == {name: 2 if name in hers else 1 for name in names}


def _submit(halo: Served, folder: Path, name: str) -> dict[str, dict[str, str]]:
    body = {"workflow": "two_steps", "input": {"folder": str(folder), "name": name}}
    answer = halo.api.post("/v1/runs", json=body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def _is_stored(halo: Served, run: dict[str, dict[str, str]]) -> bool:
    """That the first step has been done."""
    return bool(halo.api.get(run["links"]["run"]).json()["usage"]["tools"] == 1)


def _ended(halo: Served, run: dict[str, dict[str, str]]) -> dict[str, Any]:
    """A wait may end before the run does."""
    for _ in range(4):
        answer = halo.api.get(run["links"]["wait"])
        if answer.status_code == 200:
            break
    return dict(answer.json())


def _lines(folder: Path, what: str) -> Counter[str]:
    return Counter(line for file in folder.glob(f"{what}-*.txt") for line in file.read_text().splitlines())


def _lines_of(folder: Path, what: str, process: int) -> list[str]:
    file = folder / f"{what}-{process}.txt"
    return file.read_text().splitlines() if file.exists() else []


def _until(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 240
    while not what():
        assert time.monotonic() < until, "it did not happen within minutes"
        time.sleep(0.02)
