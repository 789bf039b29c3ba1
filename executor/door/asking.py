"""The request as an engine gets it: what the client sent, and whose it is."""

from collections.abc import Mapping

from executor.commands import Hint
from executor.door.kv_hints import hints_of
from executor.engines.names import engine_name, salted
from executor.engines.port import EngineSpec
from halo_vllm.policy.hints import CLASSES, PROGRAM, TOOL, Clamps
from planner.ir.ids import ProgramId
from planner.ir.values import Json


def engine_body(
    body: Mapping[str, Json], spec: EngineSpec, program: ProgramId, sequence: int, salt: str | None
) -> dict[str, Json]:
    """Fields the door does not know pass on as they are. `salt` parts one tenant's prefix cache from others'; where
    it is given there are several, and none may say how urgent its calls are to engines that all share.

    vLLM learns the program by `vllm_xargs`, other servers by header only: they may refuse fields they do not know.
    """
    asked = dict(body)
    asked["model"] = spec.served_names.get(body["model"], body["model"])
    if asked.get("stream"):
        asked["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    if salt is not None:
        asked.pop("priority", None)
    if salt is not None and (spec.kind != "openai" or "cache_salt" in body):
        asked["cache_salt"] = cache_salt(body, salt)
    if spec.kind != "vllm":
        return asked
    asked.pop("session_id", None)  # it would come before the header
    name = engine_name(program)
    said = {**hints_of(body.get("kv_hints")), **(body.get("vllm_xargs") or {})}
    asked["vllm_xargs"] = {**said, "session_id": name, PROGRAM: name}
    if spec.options.get("priority_scheduling"):
        asked["priority"] = sequence
    return asked


def engine_headers(program: ProgramId, request_id: str) -> dict[str, str]:
    name = engine_name(program)
    return {
        "Content-Type": "application/json",
        "X-Request-Id": request_id,
        "X-Session-ID": name,
        "X-Halo-Program-Id": name,
    }


def hint_body(hint: Hint) -> dict[str, Json]:
    """What `halo_vllm`'s endpoint is told."""
    told: dict[str, Json] = {"program": engine_name(hint.program), "event": hint.event}
    if hint.cache_salt is not None:
        told["cache_salt"] = hint.cache_salt
    if tools := hint.tools[: Clamps().most_tools]:
        told[TOOL] = [key.tool for key in tools]
        told[CLASSES] = [key.arguments for key in tools]
    return told


def cache_salt(body: Mapping[str, Json], salt: str | None) -> str | None:
    """As the engine gets it: the tenant's, or, where there is one tenant, what the client sent."""
    own = body.get("cache_salt")
    if salt is None:
        return own if isinstance(own, str) else None
    return salted(salt, own)
