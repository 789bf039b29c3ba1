"""What the door knows of a request in OpenAI's shape: whose it is, what was said before, and how long it is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from executor.door.turns import Said, Talk, Text, answered_talk, blocks_of, names_at, talk_of, text_of_ids
from executor.engines.names import from_header
from executor.engines.prompts import prompt_text
from executor.prompt_blocks import prompt_blocks
from halo_vllm.policy.hints import PROGRAM
from kvstore.prefix_index import BlockName
from planner.ir.ids import ProgramId
from planner.ir.tokens import CHARS_PER_TOKEN
from planner.ir.values import Json

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
#: Names a client may give its program by, the first that is there counts.
NAME_HEADERS = ("x-halo-program-id", "x-session-id", "x-dynamo-session-id")
_NAME_FIELDS = (
    ("metadata", "program_id"),
    *(("vllm_xargs", name) for name in (PROGRAM, "session_id", "agent_id")),
)
#: How many of the last turns of a conversation another replica is asked for, and of the last blocks of a text.
LAST_TURNS, LAST_BLOCKS = 8, 64
_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class Reading:
    """`turns` are names under which another replica may know the conversation, the longest first; of a text, `blocks`
    are those under which it may know how long what it goes on from was."""

    named: ProgramId | None
    said: Said | None
    prefix: tuple[BlockName, ...]
    prompt_tokens: int
    answer_tokens: int
    turns: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()

    def turns_at(self, lengths: Iterable[int]) -> tuple[str, ...]:
        """What `turns` are of a talk: names of the beginnings of the text that are so long, the longest first."""
        if not isinstance(self.said, Text):
            return ()
        size = len(self.said.text)
        return tuple(reversed(names_at(self.said, sorted({length for length in lengths if length < size}))))


def read_call(tenant: str, path: str, body: Mapping[str, Json], headers: Mapping[str, str]) -> Reading:
    """`body` was checked; `headers` have names in small letters."""
    root, salted = f"{tenant}\0{body['model']}", f"{tenant}\0{body['model']}"
    said = _said(root, path, body)
    messages: Sequence[Json] = body["messages"] if path == CHAT else [{"role": "user", "content": _text(said)}]
    tools: Sequence[Json] = (body.get("tools") or ()) if path == CHAT else ()
    turns = _turns(said, messages) if path == CHAT else ()
    return Reading(
        named=_named(tenant, body, headers),
        said=said,
        prefix=prompt_blocks(salted, messages, tools),
        prompt_tokens=-(-len(prompt_text(messages, tools)) // CHARS_PER_TOKEN),
        answer_tokens=_answer_tokens(body),
        turns=turns,
        blocks=blocks_of(said, LAST_BLOCKS) if isinstance(said, Text) else (),
    )


def with_answer(said: Said | None, message: Json, token_ids: Sequence[int] | None) -> Said | None:
    """What was said when the call ended. Of a prompt of token ids whose answer came as text, the prompt alone."""
    if isinstance(said, Talk):
        return answered_talk(said, message)
    if not isinstance(said, Text):
        return None
    if token_ids is not None:
        return Text(said.root, said.text + text_of_ids(token_ids))
    return Text(said.root, said.text + str(message.get("content") or "")) if said.root.endswith("\0text") else said


def _named(tenant: str, body: Mapping[str, Json], headers: Mapping[str, str]) -> ProgramId | None:
    given: list[Json] = [from_header(headers[name]) for name in NAME_HEADERS if name in headers]
    given += [holder.get(field) for name, field in _NAME_FIELDS if isinstance(holder := body.get(name), dict)]
    given.append(body.get("session_id"))
    name = next((str(one) for one in given if isinstance(one, str | int) and str(one)), None)
    return None if name is None else ProgramId(f"{tenant}/{name[:_LONGEST_NAME]}")


def _said(root: str, path: str, body: Mapping[str, Json]) -> Said | None:
    if path == CHAT:
        return talk_of(root, body["messages"])
    prompt = body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return Text(f"{root}\0text", prompt)
    if prompt and all(isinstance(one, int) for one in prompt):
        return Text(f"{root}\0ids", text_of_ids(prompt))
    return None  # many prompts in one call are no conversation


def _text(said: Said | None) -> str:
    """As many characters as the prompt's tokens are estimated by."""
    if not isinstance(said, Text):
        return ""
    return said.text if said.root.endswith("\0text") else "".join(char * CHARS_PER_TOKEN for char in said.text)


def _turns(said: Said | None, messages: Sequence[Json]) -> tuple[str, ...]:
    """A conversation can only have ended with an answer."""
    if not isinstance(said, Talk):
        return ()
    answers = [name for name, message in zip(said.names[:-1], messages, strict=False) if message["role"] == "assistant"]
    return tuple(reversed(answers[-LAST_TURNS:]))


def _answer_tokens(body: Mapping[str, Json]) -> int:
    given = body.get("max_completion_tokens") or body.get("max_tokens")
    return given if isinstance(given, int) and given > 0 else 0
