"""What `kv_hints` of a request become."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.door.asking import engine_body
from executor.door.kv_hints import hints_of
from executor.engines.port import EngineSpec
from halo_vllm.policy.hints import Clamps, read_hints
from planner.ir.ids import EngineId, ProgramId

SPEC = EngineSpec(EngineId("a"), "vllm", ("m",), url="http://engine")


def envelope(*actions: tuple[str, Any]) -> dict[str, Any]:
    told = [
        {"action_id": "1", "action_type": kind, "action_version": "1", "payload": payload} for kind, payload in actions
    ]
    return {"protocol_version": "1", "message_id": "7", "actions": told}


def retain(*durations: Any) -> tuple[str, Any]:
    return "kv.retain", {
        "scope": "request",
        "directives": [{"start": 0, "end": None, "duration": d} for d in durations],
    }


@pytest.mark.parametrize(
    ("said", "ttl_s"),
    [
        (envelope(retain(5, 30)), 30.0),
        (envelope(retain(5), retain(7.5)), 7.5),
        (envelope(retain(5), ("kv.evict", {})), 0.0),
        (envelope(retain(1e9)), 600.0),
        (envelope(("kv.prefetch", {})), None),
        (envelope(retain("long", -1, True)), None),
    ],
)
def test_how_long_the_kv_is_of_use(said: Any, ttl_s: float | None) -> None:
    body = engine_body({"model": "m", "messages": [], "kv_hints": said}, SPEC, ProgramId("p"), 1, None)
    assert read_hints(body["vllm_xargs"], Clamps()).ttl_s == ttl_s


def test_the_clients_own_words_to_the_plugin_count_more() -> None:
    asked = {"model": "m", "kv_hints": envelope(retain(30)), "vllm_xargs": {"halo_ttl_s": 3}}
    assert engine_body(asked, SPEC, ProgramId("p"), 1, None)["vllm_xargs"]["halo_ttl_s"] == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["actions", "payload"]), inner),
)


@given(JSON)
def test_whatever_is_sent_no_call_is_refused_for_it(said: Any) -> None:
    assert set(hints_of(said)) <= {"halo_ttl_s"}
