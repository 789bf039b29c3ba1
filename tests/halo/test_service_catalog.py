"""What is here, what would be done, and who may ask."""

import hashlib
import json

import pytest
from service_stand import FLOWS, flows, service

from halo.sdk.find import find_workflow
from halo.service.catalog import load_catalog, make_catalog
from halo.settings import SettingsInvalid
from planner.errors import Problem

GREET = {"workflow": "greet", "input": {"name": "ada"}}


async def test_workflows_tell_what_they_take():
    async with service(working=False) as stand:
        names = [one["name"] for one in (await stand.api.get("/v1/workflows")).json()["workflows"]]
        greet = (await stand.api.get("/v1/workflows/greet")).json()
        again = await stand.api.post("/v1/runs", json={"plan": greet["document"], "input": {"name": "ada"}})
    assert names == ["fail", "greet", "two_steps"]
    assert greet["inputs"]["required"] == ["name"]
    assert greet["inputs"]["properties"]["greeting"] == {"type": "string", "default": "hello"}
    assert (greet["models"], greet["tools"]) == (["small"], ["shout"])
    assert again.status_code == 202


async def test_engines_tell_what_they_are():
    async with service(working=False) as stand:
        (engine,) = (await stand.api.get("/v1/engines")).json()["engines"]
    assert (engine["id"], engine["models"], engine["ready"]) == ("small-0", ["small"], True)
    assert engine["retention"] == "nothing"
    assert engine["hints"] == {"taken": 0, "unheard": 0, "crowded": 0, "late": 0, "failed": 0}


async def test_a_plan_is_explained_and_nothing_is_queued():
    rows = [{"name": "ada"}, {"name": "ada"}, {"name": "bob"}]
    async with service() as stand:
        bare = (await stand.api.post("/v1/plans", json={"workflow": "greet"})).json()
        told = (await stand.api.post("/v1/plans", json={"workflow": "greet", "rows": rows})).json()
        assert (await stand.api.get("/v1/runs")).json()["runs"] == []
        assert stand.calls == []
    assert "generate small" in bare["plan"]
    assert bare["forecast"] is None
    assert told["forecast"]["plans"] == [{"name": "greet", "rows": 3}]
    assert told["forecast"]["calls"] == {"low": 3, "high": 3}
    assert told["forecast"]["distinct_calls"] == {"low": 2, "high": 2}
    assert "model calls: 3 as written, 2 after merging" in told["text"]
    assert told["forecast"]["engine_seconds"]["high"] > 0
    assert "the engines of this service" in told["forecast"]["engines"]


async def test_a_plan_is_explained_with_what_runs_of_the_workflow_took_before():
    rows = [{"name": "ada"}]
    async with service() as stand:
        before = (await stand.api.post("/v1/plans", json={"workflow": "greet", "rows": rows})).json()["forecast"]
        run = (await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}})).json()["id"]
        await stand.api.get(f"/v1/runs/{run}/wait")
        after = (await stand.api.post("/v1/plans", json={"workflow": "greet", "rows": rows})).json()["forecast"]
        analyzed = (await stand.api.get(f"/v1/runs/{run}/analyze")).json()["analysis"]["prediction"]
    assert not [line for line in before["assumptions"] if "stages seen before" in line]
    assert [line for line in after["assumptions"] if "stages seen before" in line]
    assert analyzed["stages"] == before["stages"], "the run is held against what was known before it"


async def test_a_run_is_analyzed_as_a_document_and_as_a_page():
    async with service() as stand:
        run = (await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}})).json()["id"]
        await stand.api.get(f"/v1/runs/{run}/wait")
        told = (await stand.api.get(f"/v1/runs/{run}/analyze")).json()
        same = (await stand.api.get(f"/v1/jobs/{run}/analyze")).json()
        page = await stand.api.get(f"/v1/runs/{run}/analyze", headers={"accept": "text/html"})
        unknown = await stand.api.get("/v1/runs/run_77/analyze")
    assert told == same
    assert (told["rows"], told["rows_ended"], told["analysis"]["calls"]) == (1, 1, 1)
    assert "model calls: 1 predicted, 1 made (as predicted)" in told["text"]
    assert page.headers["content-type"].startswith("text/html")
    assert "EXPLAIN ANALYZE" in page.text
    assert unknown.status_code == 404


async def test_the_documents_are_there():
    async with service(working=False) as stand:
        document = (await stand.api.get("/openapi.json")).json()
        assert (await stand.api.get("/docs")).status_code == 200
    assert "ProblemDocument" in document["components"]["schemas"]
    refused = document["paths"]["/v1/runs"]["post"]["responses"]["4XX"]["content"]
    assert refused.keys() == {"application/problem+json"}
    assert "Idempotency-Key" in json.dumps(document["paths"]["/v1/runs"]["post"]["parameters"])


KEYS = {hashlib.sha256(key.encode()).hexdigest(): tenant for key, tenant in (("a", "ada"), ("a2", "ada"), ("b", "bob"))}


def _as(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_without_a_key_nothing_is_told():
    async with service(tenants=KEYS, working=False) as stand:
        for head in ({}, _as("c"), {"Authorization": "Basic a"}, {"Authorization": "a"}):
            for path in ("/v1/runs", "/v1/workflows", "/v1/engines", "/v1/runs/x"):
                answer = await stand.api.get(path, headers=head)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert answer.json()["type"] == "urn:halo:problem:key-missing"
        assert (await stand.api.get("/healthz")).status_code == 200
        assert (await stand.api.get("/readyz")).status_code == 200


async def test_one_tenant_never_sees_anothers_runs():
    async with service(tenants=KEYS, working=False) as stand:
        run = (await stand.api.post("/v1/runs", json=GREET, headers={**_as("a"), "Idempotency-Key": "k"})).json()
        for link in ("run", "wait", "events"):
            answer = await stand.api.get(run["links"][link], headers=_as("b"))
            assert (answer.status_code, answer.json()["type"]) == (404, "urn:halo:problem:run-unknown")
        assert (await stand.api.post(run["links"]["cancel"], headers=_as("b"))).status_code == 404
        assert (await stand.api.get("/v1/runs", headers=_as("b"))).json()["runs"] == []
        assert (await stand.api.get(f"/v1/runs?cursor={run['id']}", headers=_as("b"))).status_code == 422
        theirs = (await stand.api.post("/v1/runs", json=GREET, headers={**_as("b"), "Idempotency-Key": "k"})).json()
        assert theirs["id"] != run["id"]
        assert (await stand.api.get(run["links"]["run"], headers=_as("a2"))).json()["status"] == "queued"


async def test_without_keys_a_web_page_cannot_ask_by_a_name_of_its_own():
    async with service(working=False) as stand:
        for host in ("evil.example", "evil_one.example", "a b", "[::", "", "127.0.0.1.evil.example"):
            answer = await stand.api.get("/v1/runs", headers={"Host": host})
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:halo:problem:host-refused")
        for host in ("localhost:8080", "127.0.0.1", "[::1]:8080"):
            assert (await stand.api.get("/v1/runs", headers={"Host": host})).status_code == 200


def test_references_that_lead_nowhere_are_all_told():
    with pytest.raises(SettingsInvalid) as refused:
        load_catalog(["no_such_workflow", f"{FLOWS}:none", f"{FLOWS}:greet"])
    assert len(refused.value.problems) == 2


def test_two_workflows_of_one_name_are_told():
    problems: list[Problem] = []
    greet = find_workflow(f"{FLOWS}:greet")
    assert make_catalog([greet, greet], problems).workflows.keys() == {"greet"}
    assert problems == []
    other = type(greet)(greet.function, greet._definition)
    make_catalog([greet, other], problems)
    assert [problem.what for problem in problems] == ["two of them bring a workflow called 'greet'"]
    assert set(flows().tools) == {"count", "linger", "refuse", "shout"}
