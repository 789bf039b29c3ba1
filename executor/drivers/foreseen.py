"""What calls will be answered and tools will give, before anything is asked: drawn from what was seen, else made up."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from random import Random

from executor.engines.answers import Answer
from executor.engines.port import GenerateRequest
from executor.engines.prompts import prompt_text
from executor.engines.synthetic import Synthetic
from planner.cost.history import History, Seen, stage_of
from planner.cost.quantiles import Quantiles
from planner.estimate import TOOL_OUTPUT_TOKENS
from planner.ir.answer import AnswerInvalid, parse_answer
from planner.ir.conversation import ToolCall
from planner.ir.ids import NodeRef
from planner.ir.plan import ToolSpec
from planner.ir.tokens import CHARS_PER_TOKEN
from planner.ir.values import Json, canonical_json

_FILLER = "text of a likely length that nobody has written "


class Foreseen:
    """A `World` that asks nobody. Each stage answers as one of those seen of it did, with that one's tokens and time;
    a stage never seen answers with made-up text as long as its prior says.

    The same seed draws the same for the same node. `chars_per_token` is how long made-up texts are. `asked` counts, for
    each stage, its prompts and their characters.
    """

    def __init__(self, history: History, seed: int = 0, chars_per_token: float = CHARS_PER_TOKEN) -> None:
        self._history, self._seed, self._chars_per_token = history, seed, chars_per_token
        self._synthetic = Synthetic(seed)
        self._usable: dict[str, Sequence[Seen]] = {}
        self._novelty: dict[str, float] = {}
        self.asked: dict[str, tuple[int, int]] = {}

    def answer(self, node: NodeRef, request: GenerateRequest) -> Answer:
        self._note(node, request)
        random = self._random(node)
        seen = self._seen_calls(node.path, request)
        if not seen:
            return self._made_up(node, request, random)
        one = random.choice(seen)
        if request.is_turn:
            return _turn(one)
        output: Json = json.loads(one.output)
        if not isinstance(output, str):
            return Answer(canonical_json(output), output_tokens=one.output_tokens)
        if random.random() < self._novelty[node.path]:
            output = _own_words(output, random)
        return Answer(output, output_tokens=one.output_tokens)

    async def run_tool(self, node: NodeRef, spec: ToolSpec, arguments: Mapping[str, Json]) -> tuple[Json, float]:
        """What it gives, and after how many seconds."""
        random = self._random(node)
        if seen := self._history.of(node.path):
            one = random.choice(seen)
            return json.loads(one.output), one.seconds
        seconds = self._history.tool_seconds(node.path, spec.timeout_s).at(random.random())
        return self._text(TOOL_OUTPUT_TOKENS, random), seconds

    def _note(self, node: NodeRef, request: GenerateRequest) -> None:
        stage = stage_of(node.path)
        prompts, characters = self.asked.get(stage, (0, 0))
        self.asked[stage] = prompts + 1, characters + len(prompt_text(request.messages, request.tools))

    def _seen_calls(self, path: str, request: GenerateRequest) -> Sequence[Seen]:
        """Those of the stage that the plan of today would take, too."""
        if path not in self._usable:
            seen = [one for one in self._history.of(path) if one.output_tokens and _fits(one, request)]
            self._usable[path] = seen
            self._novelty[path] = _novelty(seen)
        return self._usable[path]

    def _made_up(self, node: NodeRef, request: GenerateRequest, random: Random) -> Answer:
        lengths: Quantiles = self._history.output_tokens(node.path, request.sampling.max_tokens)
        tokens = max(1, round(lengths.at(random.random())))
        if request.schema is None and not request.tools:
            return Answer(self._text(tokens, random), output_tokens=tokens)
        answer = self._synthetic.answer(replace(request, call_id=str(node)))
        characters = len(answer.text) + sum(len(call.name + call.arguments) for call in answer.tool_calls)
        written = max(1, round(characters / self._chars_per_token))
        return replace(answer, output_tokens=min(request.sampling.max_tokens, written))

    def _text(self, tokens: int, random: Random) -> str:
        """No two are alike."""
        length = max(1, round(tokens * self._chars_per_token))
        return (f"{random.getrandbits(48):012x} " + _FILLER * (length // len(_FILLER) + 1))[:length]

    def _random(self, node: NodeRef) -> Random:
        digest = blake2b(f"{self._seed} {node}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return Random(int.from_bytes(digest, "big"))


def _fits(seen: Seen, request: GenerateRequest) -> bool:
    if request.is_turn:
        return True
    output = json.loads(seen.output)
    try:
        parse_answer(output if isinstance(output, str) else seen.output, request.schema)
    except AnswerInvalid:
        return False
    return request.schema is not None or isinstance(output, str)


def _novelty(seen: Sequence[Seen]) -> float:
    """The chance that the next answer is one nobody has given yet: the share of those given once (Good and Turing)."""
    times: dict[str, int] = {}
    for one in seen:
        times[one.output] = times.get(one.output, 0) + 1
    return sum(1 for count in times.values() if count == 1) / max(1, len(seen))


def _own_words(text: str, random: Random) -> str:
    """As long, and like no other from its beginning on."""
    return f"{random.getrandbits(48):012x}"[: len(text)] + text[12:]


def _turn(seen: Seen) -> Answer:
    reply = json.loads(seen.output)
    calls = tuple(ToolCall(**call) for call in reply.get("tool_calls", ()))
    return Answer(reply["text"], calls, seen.output_tokens)
