"""What is asked of an engine or a tool for one node, and the content key under which equal work is done once."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b

from executor.engines.port import GenerateRequest
from planner.interpret import StageFailed
from planner.ir.ids import ContentKey, NodeRef
from planner.ir.plan import Agent, Effect, Generate, Sampling, ToolSpec
from planner.ir.values import Json, canonical_json, ordered_json

MAX_PROMPT_BYTES = 1024 * 1024

#: What most calls ask for beside their prompt.
_PLAIN = ordered_json([None, [], False])


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A tool ready to run."""

    spec: ToolSpec
    arguments: dict[str, Json]


def generate_request(
    node: NodeRef,
    stage: Generate | Agent,
    messages: list[Json],
    *,
    schema: Json = None,
    tools: tuple[Json, ...] = (),
    is_turn: bool = False,
) -> GenerateRequest:
    """A call; its `call_id` is not yet set."""
    return GenerateRequest(
        call_id="",
        program=node.program,
        model=stage.model,
        messages=tuple(messages),
        sampling=stage.sampling,
        schema=schema,
        tools=tools,
        timeout_s=stage.timeout_s,
        is_turn=is_turn,
    )


def check_size(node: NodeRef, text: str) -> None:
    """Raises `StageFailed` where the text of a prompt or of arguments is too large to be sent."""
    size = len(text.encode("utf-8", "surrogatepass")) if len(text) * 4 > MAX_PROMPT_BYTES else len(text)
    if size > MAX_PROMPT_BYTES:
        raise StageFailed(
            "prompt_too_large", f"the prompt of {node.path!r} has {size:,} bytes; at most {MAX_PROMPT_BYTES:,} are sent"
        )


def call_key(request: GenerateRequest, prompt: str) -> ContentKey:
    """Equal keys, equal answers: everything the engine sees is in it, and whether the answer is taken as a turn's."""
    plain = request.schema is None and not request.tools and not request.is_turn
    asked = _PLAIN if plain else ordered_json([request.schema, request.tools, request.is_turn])
    return ContentKey(_digest("call", request.model, _sampling_text(request.sampling), asked, prompt))


def tool_key(spec: ToolSpec, arguments: str) -> ContentKey | None:
    """Of a tool that may be done once for all who ask the same; `arguments` are their canonical JSON."""
    return ContentKey(_digest("tool", spec.name, arguments)) if spec.effect is Effect.PURE else None


@lru_cache(maxsize=1024)
def _sampling_text(sampling: Sampling) -> str:
    return canonical_json(asdict(sampling))


def _digest(*parts: str) -> str:
    return blake2b("\x00".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
