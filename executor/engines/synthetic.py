"""Made-up answers: plausible lengths, valid under a schema, a tool asked for now and then; drawn from a seed."""

import json
from functools import cached_property
from hashlib import blake2b
from math import exp
from random import Random

from executor.engines.answers import Answer, no_answer
from executor.engines.instances import SchemaUnsupported, instance_of
from executor.engines.port import GenerateRequest
from planner.ir.conversation import ToolCall
from planner.ir.tokens import CHARS_PER_TOKEN
from planner.ir.values import Json, canonical_json

#: Lengths of answers in tokens are log-normal, as in chat and agent traces: most are short, some are ten times longer.
MEDIAN_TOKENS = 60
SPREAD = 1.0
_LONGEST_TOKENS = 8192
_VOCABULARY = (
    "the plan reads each table once and joins what it needs before it counts rows so that later steps find "
    "their inputs ready while other programs wait for tools or for room in the cache"
)


class Synthetic:
    """Body of `Answers`. An answer depends on the seed, the model and what is asked; a request whose sampling is not
    fixed also on its call id, so that asking twice gives two answers."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def answer(self, request: GenerateRequest) -> Answer:
        random = Random(self._identity(request))
        if request.tools and _asks_for_tool(request, random):
            return Answer("", (_tool_call(request, random),))
        if request.schema is not None:
            return Answer(_guided(request, random))
        return Answer(self._prose(request, random))

    def _identity(self, request: GenerateRequest) -> int:
        drawn = request.sampling.seed if request.sampling.fixed else request.call_id
        asked = [self._seed, request.model, request.messages, request.schema, request.tools, drawn]
        text = canonical_json(asked).encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")

    def _prose(self, request: GenerateRequest, random: Random) -> str:
        """A window of one long text, opened by a word of its own: cheap, and no two answers are alike."""
        tokens = min(
            request.sampling.max_tokens, _LONGEST_TOKENS, 1 + int(MEDIAN_TOKENS * exp(random.gauss(0, SPREAD)))
        )
        start = random.randrange(len(self._prose_source) // 2)
        length = tokens * CHARS_PER_TOKEN
        return f"{random.getrandbits(48):012x} {self._prose_source[start : start + length]}"[:length]

    @cached_property
    def _prose_source(self) -> str:
        words = Random(self._seed).choices(_VOCABULARY.split(), k=2 * _LONGEST_TOKENS)
        return " ".join(words)


def _asks_for_tool(request: GenerateRequest, random: Random) -> bool:
    """Certain at first, ever less likely, so that every conversation ends."""
    turns = sum(1 for message in request.messages if message.get("tool_calls"))
    return random.random() < 1 / (1 + turns / 2)


def _tool_call(request: GenerateRequest, random: Random) -> ToolCall:
    function = random.choice(request.tools)["function"]
    arguments = _instance(function.get("parameters") or {"type": "object"}, random, spare=2)
    return ToolCall(f"call_{random.getrandbits(64):016x}", function["name"], canonical_json(arguments))


def _guided(request: GenerateRequest, random: Random) -> str:
    """The richest answer that fits into `max_tokens`; the least there is where even that one does not."""
    text = ""
    for spare in (3, 1, 0):
        text = json.dumps(_instance(request.schema, random, spare), ensure_ascii=False)
        if len(text) <= request.sampling.max_tokens * CHARS_PER_TOKEN:
            return text
    return text


def _instance(schema: Json, random: Random, spare: int) -> Json:
    try:
        return instance_of(schema, random, spare)
    except SchemaUnsupported as problem:
        raise no_answer("schema_unsupported", f"no answer can be made up for this schema: {problem}") from None
