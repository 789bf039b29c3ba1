"""The child's side of `executor.child_process`: reads a call, makes it, answers; until its parent is gone.

Run as a script by its path, in Python's isolated mode, and so standard library only. Frames are a 4-byte big-endian
length and that many bytes of JSON. The first frame configures the worker, each later one loads or calls a function:

    {"sys_path": [...], "memory_bytes": n, "output_bytes": n, "parent": pid}  ->  {"ok": null}
    {"load": "module:qualname"}                                               ->  {"ok": null}
    {"call": "module:qualname", "arguments": {...}}                           ->  {"ok": result}
    {"batch": "module:qualname", "calls": [{...}, ...]}                       ->  {"ok": [{"ok": result}, ...]}
                                         any of them, and each of a batch     ->  {"failed": [code, message]}
"""

import functools
import importlib
import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

HEADER = struct.Struct(">I")
MESSAGE_CHARACTERS = 2000
MEMORY_GONE = json.dumps({"failed": ["tool_killed", "the tool needed more memory than its worker may use"]}).encode()

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
        _write_frame(answers, _answer(tools, json.loads(frame), output_bytes))


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


def _answer(tools: dict[str, Tool], request: dict[str, Any], output_bytes: int) -> bytes:
    if "batch" not in request:
        return _attempt(functools.partial(_serve, tools, request), output_bytes)
    return _attempt(functools.partial(tools[request["batch"]], request["calls"]), output_bytes, many=True)


def _attempt(action: Callable[[], Any], output_bytes: int, many: bool = False) -> bytes:
    """The answer to one request, whatever the foreign code in it does short of killing this process."""
    try:
        result = action()
        return _each_encoded(result, output_bytes) if many else _encoded(result, output_bytes)
    except MemoryError:
        return MEMORY_GONE
    except BaseException as error:  # noqa: BLE001 - foreign code may raise anything, `SystemExit` included
        return _raised(error)


def _each_encoded(results: list[Any], output_bytes: int) -> bytes:
    """The answers to a batch; exceptions stand for calls that failed."""
    answers = (_raised(one) if isinstance(one, BaseException) else _encoded(one, output_bytes) for one in results)
    return b'{"ok": [' + b", ".join(answers) + b"]}"


def _raised(error: BaseException) -> bytes:
    return _failed("tool_raised", f"{type(error).__name__}: {text_of(error)}")


def _encoded(result: Any, output_bytes: int) -> bytes:
    try:
        body = json.dumps({"ok": result}, ensure_ascii=False, allow_nan=False).encode()
    except MemoryError:
        return MEMORY_GONE
    except (TypeError, ValueError, RecursionError) as error:
        return _failed("tool_bad_output", f"the tool returned what JSON cannot hold: {text_of(error)}")
    if len(body) > output_bytes:
        return _failed("tool_output_too_large", f"the tool returned {len(body):,} bytes; {output_bytes:,} are allowed")
    return body


def _failed(code: str, message: str) -> bytes:
    return json.dumps({"failed": [code, message[:MESSAGE_CHARACTERS]]}).encode()


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
