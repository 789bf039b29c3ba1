"""What a client says about its program, and how far it is believed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Any

from halo_vllm.policy.tools import LONGEST_NAME, ToolKey, tool_key

PROGRAM = "halo_program"
TOOL = "halo_tool"
ARGUMENTS = "halo_tool_arguments"
CLASSES = "halo_tool_class"
ETA_S = "halo_eta_s"
TTL_S = "halo_ttl_s"
LAST = "halo_last"
TURNS_LEFT = "halo_turns_left"

#: Between calls hints come as JSON, with `program`, `event`, and the `cache_salt` of the program's calls.
HINT_PATH = "/halo/hint"
STATS_PATH = "/halo/stats"
TOOL_CALLED = "tool_called"
TOOL_FINISHED = "tool_finished"
LAST_STEP = "last_step"
LET_GO = "let_go"
EVENTS = (TOOL_CALLED, TOOL_FINISHED, LAST_STEP, LET_GO)

OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "job_id": PROGRAM,
        "session_id": PROGRAM,
        "program_id": PROGRAM,
        "this_func_call": TOOL,
        "is_last_step": LAST,
    }
)
"""Names of clients written for Continuum's released code (vllm-continuum) and for vLLM's sessions."""


@dataclass(frozen=True, slots=True)
class Clamps:
    """The most a hint may say: a longer time is taken for this one, a longer list or text is cut."""

    longest_s: float = 600.0
    most_tools: int = 16
    longest_program: int = 256
    most_turns_left: int = 1_000


@dataclass(frozen=True, slots=True)
class Hints:
    """All of it optional, none of it trusted. `eta_s` and `ttl_s` count from the end of the last call.

    What a hint can do: let its own program's KV go sooner (`ttl_s`, `last`), or have it valued by the pause it tells
    (`eta_s`, `tools`), which never holds it longer than twice the break-even pause. Caps on what is held stand above
    that (`give_back.Caps`). `ignored`: "name: reason", for a counter; nothing of what the client sent.
    """

    program: str | None = None
    tools: tuple[ToolKey, ...] = ()
    eta_s: float | None = None
    ttl_s: float | None = None
    last: bool = False
    turns_left: int | None = None
    ignored: tuple[str, ...] = ()


def read_hints(said: Mapping[str, object], clamps: Clamps) -> Hints:
    """The hints among a request's extra arguments (`vllm_xargs`: numbers, texts, and lists of them).

    Names that are no hints are other people's and passed over. A bad value costs that hint and no more. Never fails.
    """
    told = {name: value for name, value in said.items() if name in OWN_NAMES}
    if not OTHER_NAMES.keys().isdisjoint(said):
        told = {OTHER_NAMES[name]: value for name, value in said.items() if name in OTHER_NAMES} | told
    found: dict[str, Any] = {}
    ignored: list[str] = []
    for name, reader in _READERS.items():
        if told.get(name) is None:
            continue
        try:
            reader(found, told, clamps)
        except Unread as unread:
            ignored.append(f"{name}: {unread}")
    return Hints(**found, ignored=tuple(ignored))


def says_something(said: Mapping[str, object]) -> bool:
    """Whether a request's extra arguments have hints among them."""
    return bool(said) and not NAMES.isdisjoint(said)


def scoped(tenant: str, program: str) -> str:
    """The name of a tenant's program: no tenant can name another's, whatever either is called."""
    return f"{len(tenant)}:{tenant}:{program}"


class Unread(ValueError):
    """A hint that is not understood; its text is the reason."""


def _program(found: dict[str, Any], told: Mapping[str, object], clamps: Clamps) -> None:
    name = told[PROGRAM]
    if not isinstance(name, str | int) or not str(name):
        raise Unread("not a text")
    if len(str(name)) > clamps.longest_program:
        raise Unread("too long")  # cut short, it could be taken for another program
    found["program"] = str(name)


def _tools(found: dict[str, Any], told: Mapping[str, object], clamps: Clamps) -> None:
    names = _list(told[TOOL])[: clamps.most_tools]
    if not all(isinstance(name, str) for name in names):
        raise Unread("not a text or a list of texts")
    missing = [None] * len(names)
    arguments, classes = ([*_list(told.get(field)), *missing] for field in (ARGUMENTS, CLASSES))
    calls = zip(map(str, names), arguments, classes, strict=False)
    found["tools"] = tuple(dict.fromkeys(_key(*call) for call in calls if call[0].strip()))


def _key(name: str, arguments: object, of_class: object) -> ToolKey:
    """Who has read the arguments already tells their class; it is a name like any other."""
    key = tool_key(name, arguments)
    return ToolKey(key.tool, of_class[:LONGEST_NAME]) if isinstance(of_class, str) else key


def _eta(found: dict[str, Any], told: Mapping[str, object], clamps: Clamps) -> None:
    found["eta_s"] = _seconds(told[ETA_S], clamps)


def _ttl(found: dict[str, Any], told: Mapping[str, object], clamps: Clamps) -> None:
    found["ttl_s"] = _seconds(told[TTL_S], clamps)


def _last(found: dict[str, Any], told: Mapping[str, object], _clamps: Clamps) -> None:
    if told[LAST] not in (0, 1):
        raise Unread("neither 0 nor 1")
    found["last"] = bool(told[LAST])


def _turns_left(found: dict[str, Any], told: Mapping[str, object], clamps: Clamps) -> None:
    left = int(min(_number(told[TURNS_LEFT]), clamps.most_turns_left))
    found["turns_left"] = left
    found["last"] = found.get("last", False) or left == 0


_READERS: Mapping[str, Callable[[dict[str, Any], Mapping[str, object], Clamps], None]] = MappingProxyType(
    {PROGRAM: _program, TOOL: _tools, ETA_S: _eta, TTL_S: _ttl, LAST: _last, TURNS_LEFT: _turns_left}
)

OWN_NAMES = frozenset((*_READERS, ARGUMENTS, CLASSES))
NAMES = OWN_NAMES | OTHER_NAMES.keys()


def _seconds(value: object, clamps: Clamps) -> float:
    return float(min(_number(value), clamps.longest_s))


def _number(value: object) -> float | int:
    if not isinstance(value, int | float):
        raise Unread("not a number")
    if not 0 <= value < inf:
        raise Unread("not a finite number from 0")
    return value


def _list(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
