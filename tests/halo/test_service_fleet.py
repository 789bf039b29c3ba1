"""GET /v1/fleet/signals: what was asked of engines lately, and what is possible."""

from service_stand import service


async def test_signals_tell_what_engines_were_asked_and_can_do() -> None:
    async with service() as stand:
        (before,) = (await stand.api.get("/v1/fleet/signals")).json()["models"]
        run = (await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}})).json()["id"]
        await stand.api.get(f"/v1/runs/{run}/wait")
        body = {"model": "small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        assert (await stand.api.post("/v1/chat/completions", json=body)).status_code == 200
        asked = "/v1/fleet/signals?window_s=60&token_ms=50"
        (after,) = (await stand.api.get(asked)).json()["models"]
    assert (before["model"], before["calls_per_s"], before["load"]) == ("small", 0.0, None)
    assert before["note"] == "no call was answered"
    assert (after["engines"], after["calls_per_s"]) == (1, 2 / 60)
    assert after["decode_possible"] > after["decode_demanded"] > 0
    assert after["load"] == after["decode_demanded"] / after["decode_possible"]
    assert after["engines_wanted"] == 1


async def test_bounds_that_no_engine_keeps_are_told() -> None:
    async with service() as stand:
        run = (await stand.api.post("/v1/runs", json={"workflow": "greet", "input": {"name": "ada"}})).json()["id"]
        await stand.api.get(f"/v1/runs/{run}/wait")
        (signal,) = (await stand.api.get("/v1/fleet/signals?token_ms=0.001")).json()["models"]
        refused = await stand.api.get("/v1/fleet/signals?window_s=0")
    assert "no engine of the fleet keeps the bounds" in signal["note"]
    assert signal["load"] is None
    assert refused.status_code == 422
