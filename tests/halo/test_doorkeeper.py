"""Runs are taken within quotas, and late ones as their user chose."""

from pathlib import Path
from typing import Any

import pytest
from service_stand import service

from executor.clock import WallClock
from executor.core.program_costs import ProgramCost
from executor.policy.entrance import OnLate, Outlook
from executor.policy.fairness import TenantShare
from executor.slo import SloClass
from executor.store.jobs import NewJob
from executor.store.memory import MemoryStore
from halo.service.doorkeeper import Doorkeeper
from halo.service.problems import QuotaFull, WouldBeLate, problem_response
from halo.settings import SettingsInvalid, read_settings, tenant_shares
from planner.ir.ids import JobId

COST = ProgramCost(engine_s=1.0, took_s=3.0, ended=50)
SHARES = {"ann": TenantShare(queued=2)}


def new_job(name: str, **more: Any) -> NewJob:
    return NewJob(JobId(name), "greet", '{"plan": 1}', [{"name": "ada"}], **more)


def doorkeeper(store: MemoryStore, shares: dict[str, TenantShare] | None = None) -> Doorkeeper:
    return Doorkeeper(store, lambda: Outlook({}, {}, 1.0, shares or {}), lambda workflow: COST, WallClock())


async def test_over_its_quota_a_tenant_is_told_when_to_come_back_and_others_are_taken() -> None:
    store = MemoryStore()
    keeper = doorkeeper(store, SHARES)
    for name in ("one", "two"):
        await store.create_job(await keeper.admit(new_job(name, tenant="ann")))
    with pytest.raises(QuotaFull) as refused:
        await keeper.admit(new_job("three", tenant="ann"))
    answer = problem_response(refused.value)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) == 2
    assert (await keeper.admit(new_job("three", tenant="eve"))).tenant == "eve"


async def test_a_late_run_is_turned_away_made_less_urgent_or_taken() -> None:
    store = MemoryStore()
    keeper = doorkeeper(store)
    for name in ("one", "two", "three"):
        await store.create_job(new_job(name))
    late = new_job("late", deadline_s=4.0)
    with pytest.raises(WouldBeLate) as refused:
        await keeper.admit(late, OnLate.REJECT)
    answer = problem_response(refused.value)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert (await keeper.admit(late, OnLate.DEGRADE)).slo is SloClass.BATCH
    assert (await keeper.admit(late, OnLate.ACCEPT)).slo is SloClass.STANDARD


async def test_a_deadline_that_cannot_be_met_at_all_is_not_worth_coming_back_for() -> None:
    with pytest.raises(WouldBeLate) as refused:
        await doorkeeper(MemoryStore()).admit(new_job("late", deadline_s=1.0), OnLate.REJECT)
    assert "retry-after" not in problem_response(refused.value).headers


async def test_a_run_sent_again_with_its_key_is_the_one_that_was_taken_whatever_the_quota_says_by_now() -> None:
    store = MemoryStore()
    keeper = doorkeeper(store, {"default": TenantShare(queued=1)})
    body, key = {"workflow": "greet", "input": {"name": "ada"}}, {"Idempotency-Key": "k"}
    async with service(store, doorkeeper=keeper, working=False) as stand:
        taken = await stand.api.post("/v1/runs", json=body, headers=key)
        again = await stand.api.post("/v1/runs", json=body, headers=key)
        other = await stand.api.post("/v1/runs", json=body, headers={"Idempotency-Key": "other"})
        misused = await stand.api.post("/v1/runs", json={**body, "cache": False}, headers=key)
    assert (taken.status_code, again.status_code, other.status_code, misused.status_code) == (202, 202, 429, 422)
    assert again.json()["id"] == taken.json()["id"]


async def test_what_becomes_of_a_late_run_is_one_of_three() -> None:
    async with service(working=False) as stand:
        body = {"workflow": "greet", "input": {"name": "ada"}, "deadline_s": 60}
        taken = await stand.api.post("/v1/runs", json={**body, "on_late": "degrade"})
        refused = await stand.api.post("/v1/runs", json={**body, "on_late": "perhaps"})
    assert (taken.status_code, refused.status_code) == (202, 422)


def test_what_tenants_may_have_is_read_from_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "halo.toml"
    file.write_text('[tenants.ann]\nweight = 2\nqueued = 100\n[tenants."*"]\nrunning = 8\n')
    shares = tenant_shares(read_settings(file))
    assert shares["tenants"] == {"ann": TenantShare(2.0, None, 100)}
    assert shares["any_tenant"] == TenantShare(running=8)


def test_what_a_tenant_cannot_have_is_told_with_what_may_have_been_meant(tmp_path: Path) -> None:
    file = tmp_path / "halo.toml"
    file.write_text("[tenants.ann]\nrunnning = 3\nweight = 0\n")
    with pytest.raises(SettingsInvalid) as refused:
        read_settings(file)
    told = {problem.where: problem.fix for problem in refused.value.problems}
    assert told["tenants.ann.runnning"] == "did you mean running?"
    assert "HALO_TENANTS__ANN__WEIGHT" in told["tenants.ann.weight"]
