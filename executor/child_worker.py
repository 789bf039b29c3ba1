"""The child's side of `executor.child_process`: reads a call, makes it, answers; until its parent is gone.

Run as a script by its path, in Python's isolated mode, and so standard library only. Frames are a 4-byte big-endian
length and that many bytes of JSON. The first frame configures the worker, each later one loads or calls a function:

    {"sys_path": [...], "memory_bytes": n, "output_bytes": n, "parent": pid}  ->  {"ok": null}
    {"load": "module:qualname"}                                               ->  {"ok": null}
    {"call": "module:qualname", "arguments": {...}}                           ->  {"ok": result}
                                                             any of them      ->  {"failed": [code, message]}
    {"batch": "module:qualname", "calls": [{...}, ...]}                       ->  {"ok": result} or {"failed": ...},
            one frame for each call, in their order and as soon as it is known; or, in the place of all those missing,
                                                                                  {"broken": [code, message]}
"""

import functools
import importlib
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, BinaryIO

HEADER = struct.Struct(">I")
MESSAGE_CHARACTERS = 2000
_MEMORY = ["tool_killed", "the tool needed more memory than its worker may use"]
#: Made beforehand: when they are needed, there is no memory for them.
MEMORY_GONE = json.dumps({"failed": _MEMORY}).encode()
BATCH_MEMORY_GONE = json.dumps({"broken": _MEMORY}).encode()

#: How a result is mended that JSON cannot hold.
NO_JSON_FIX = "return texts, whole and finite numbers, lists and dicts, and None in the place of NaN"

Tool = Callable[..., Any]


def main() -> None:
    requests, answers = _take_pipes()
    configuration = json.loads(_read_frame(requests) or b"{}")
    if not configuration:
        return
    output_bytes = int(configuration["output_bytes"])
    _write_frame(answers, _attempt(functools.partial(_configure, configuration), output_bytes))
    tools: dict[str, Tool] = {}
    while (frame := _read_frame(requests)) is not None:
        for answer in _answers(tools, json.loads(frame), output_bytes):
            _write_frame(answers, answer)


def _take_pipes() -> tuple[BinaryIO, int]:
    """Keep the two pipes under numbers of our own, so that what a tool prints or reads goes nowhere near them."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return requests, answers


def _read_frame(requests: BinaryIO) -> bytes | None:
    header = requests.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    return requests.read(HEADER.unpack(header)[0])


def _write_frame(answers: int, body: bytes) -> None:
    remaining = memoryview(HEADER.pack(len(body)) + body)
    while remaining:
        remaining = remaining[os.write(answers, remaining) :]


def _configure(configuration: dict[str, Any]) -> None:
    sys.path[:] = configuration["sys_path"]
    _die_with(configuration["parent"])
    _bound_memory(configuration["memory_bytes"])


def _die_with(parent: int) -> None:
    """Linux kills this process when its parent ends, even in the middle of a call. Elsewhere it ends after the call."""
    if sys.platform != "linux":
        return
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _bound_memory(memory_bytes: int) -> None:
    """Linux only: elsewhere a bound on address space is refused or ignored."""
    if sys.platform != "linux":
        return
    import resource

    _, highest = resource.getrlimit(resource.RLIMIT_AS)
    allowed = memory_bytes if highest == resource.RLIM_INFINITY else min(memory_bytes, highest)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answers(tools: dict[str, Tool], request: dict[str, Any], output_bytes: int) -> Iterator[bytes]:
    if "batch" in request:
        return _attempt_each(tools[request["batch"]], request["calls"], output_bytes)
    return iter([_attempt(functools.partial(_serve, tools, request), output_bytes)])


def _attempt(action: Callable[[], Any], output_bytes: int) -> bytes:
    """The answer to one request, whatever the foreign code in it does short of killing this process."""
    try:
        return _encoded(action(), output_bytes)
    except MemoryError:
        return MEMORY_GONE
    except BaseException as error:  # noqa: BLE001 - foreign code may raise anything, `SystemExit` included
        return _raised(error)


def _attempt_each(many: Tool, calls: list[Any], output_bytes: int) -> Iterator[bytes]:
    """The answers to a batch, each as the foreign code gives it; exceptions stand for calls that failed."""
    missing = len(calls)
    try:
        for one in islice(many(calls), missing):
            yield _raised(one) if isinstance(one, BaseException) else _encoded(one, output_bytes)
            missing -= 1
    except MemoryError:
        yield BATCH_MEMORY_GONE
    except BaseException as error:  # noqa: BLE001 - as above
        yield _raised(error, "broken")
    else:
        if missing:
            yield _failed("tool_bad_output", f"the tool left {missing} of {len(calls)} calls unanswered", "broken")


def _raised(error: BaseException, what: str = "failed") -> bytes:
    return _failed("tool_raised", f"{type(error).__name__}: {text_of(error)}", what)


def _encoded(result: Any, output_bytes: int) -> bytes:
    try:
        body = json.dumps({"ok": result}, ensure_ascii=False, allow_nan=False).encode()
    except MemoryError:
        return MEMORY_GONE
    except (TypeError, ValueError, RecursionError) as error:
        return _failed("tool_bad_output", f"the tool returned what JSON cannot hold: {text_of(error)}; {NO_JSON_FIX}")
    if len(body) > output_bytes:
        return _failed("tool_output_too_large", f"the tool returned {len(body):,} bytes; {output_bytes:,} are allowed")
    return body


def _failed(code: str, message: str, what: str = "failed") -> bytes:
    return json.dumps({what: [code, message[:MESSAGE_CHARACTERS]]}).encode()


def text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a foreign `__str__` may raise anything
        return "(its message cannot be read)"


def _serve(tools: dict[str, Tool], request: dict[str, Any]) -> Any:
    if "load" in request:
        tools[request["load"]] = _find(request["load"])
        return None
    return tools[request["call"]](**request["arguments"])


def _find(function: str) -> Tool:
    module, _, qualname = function.partition(":")
    if module == "__main__":
        raise ImportError("a tool that runs in its own process must stand in a module, not in the script that is run")
    found = functools.reduce(getattr, qualname.split("."), importlib.import_module(module))
    unwrapped = getattr(found, "__wrapped__", found)
    if not callable(unwrapped):
        raise TypeError(f"{function} is not a function")
    tool: Tool = unwrapped
    return tool


if __name__ == "__main__":
    main()
