"""Names of conversations: two calls belong to one program where the later one goes on where the earlier one ended.

A client sends no name of its program (measured: the OpenAI SDK, LangChain and mini-swe-agent send none), but it sends
back what it was answered. So a conversation is named by everything said in it, and who begins with a name that is
known goes on with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from planner.ir.values import Json, canonical_json, parse_json

#: A text is known by its beginnings of so many characters.
BLOCK = 1024
_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class Talk:
    """A chat. `names[i]` says what was said up to and with message i, under `root`: who speaks to which model."""

    root: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt without turns. Token ids are given as the characters of these numbers."""

    root: str
    text: str


@dataclass(frozen=True, slots=True)
class TextEnd:
    """Where another process looks for a text that ended: among those of its whole blocks' name, by its length. What a
    text goes on from is found so without knowing where in it that ended."""

    blocks: str
    length: int


@dataclass(frozen=True, slots=True)
class Digests:
    """A text in a journal, which keeps no prompts: the names of those of its beginnings that earlier texts ended with,
    the shortest first, its own, and its end."""

    beginnings: tuple[str, ...]
    name: str | None
    end: TextEnd | None = None


Said = Talk | Text | Digests


def talk_of(root: str, messages: Sequence[Json]) -> Talk:
    name, names = "", []
    for message in messages:
        name = _named(name or root, _essence(message))
        names.append(name)
    return Talk(root, tuple(names))


def answered_talk(talk: Talk, message: Json) -> Talk:
    """The talk with the answer to it."""
    name = _named(talk.names[-1] if talk.names else talk.root, _essence(message))
    return Talk(talk.root, (*talk.names, name))


def names_at(text: Text, lengths: Iterable[int]) -> list[str]:
    """Names of its beginnings of so many characters, in ascending order; the text is looked at once."""
    digest, done, names = blake2b(text.root.encode(), digest_size=_NAME_BYTES), 0, []
    for length in lengths:
        digest.update(text.text[done:length].encode("utf-32-le", "surrogatepass"))
        done = length
        names.append(digest.hexdigest())
    return names


def end_of(text: Text) -> TextEnd:
    length = len(text.text)
    (blocks,) = names_at(text, [length - length % BLOCK])
    return TextEnd(blocks, length)


def blocks_of(text: Text, most: int) -> tuple[str, ...]:
    """Names of its last beginnings that are whole blocks, the longest first: in one of them, what it goes on from has
    its end."""
    whole = range(0, len(text.text), BLOCK)
    return tuple(reversed(names_at(text, whole[-most:])))


def text_of_ids(ids: Sequence[int]) -> str:
    """Equal beginnings of ids are equal beginnings of text. An id beyond Unicode takes two characters."""
    return "".join(chr(one) if one < 0x10FFFF else "\U0010ffff" + chr(one % 0x10FFFF) for one in ids)


def _essence(message: Json) -> Json:
    """What clients send back as they got it. They add fields, drop empty ones, and may strip the text."""
    calls = message.get("tool_calls") or ()
    asked = [_asked(call.get("function")) for call in calls if isinstance(call, dict)]
    return [message.get("role"), _plain(message.get("content")), asked, message.get("tool_call_id")]


def _plain(content: Json) -> Json:
    if content is None:
        return ""
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, list) and all(isinstance(part, dict) and "text" in part for part in content):
        return "".join(str(part["text"]) for part in content).strip()
    return content


def _asked(function: Json) -> Json:
    if not isinstance(function, dict):
        return [None, None]
    arguments = function.get("arguments")
    try:
        return [function.get("name"), parse_json(arguments) if isinstance(arguments, str) else arguments]
    except ValueError:  # a model wrote it: NaN, too
        return [function.get("name"), arguments]


def _named(before: str, said: Json) -> str:
    text = f"{before}\0{canonical_json(said)}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_NAME_BYTES).hexdigest()
