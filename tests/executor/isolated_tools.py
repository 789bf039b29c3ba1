"""Tools that misbehave, for the workers of `test_child_process`. Imported by the workers, by this name."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable


def add(left: int, right: int) -> int:
    return left + right


def whoami() -> int:
    return os.getpid()


def environment() -> dict[str, str]:
    return dict(os.environ)


def chatter(text: str) -> str:
    print(text * 1000)
    print(text * 1000, file=sys.stderr)
    os.write(1, text.encode())
    return sys.stdin.read() + text


def explode(message: str) -> None:
    raise LookupError(message)


def leave() -> None:
    sys.exit(3)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def explode_unspeakably() -> None:
    raise Unspeakable


def hang(marker: str = "") -> None:
    if marker:
        with open(marker, "w") as file:
            file.write(str(os.getpid()))
    while True:
        pass


def hang_with_company(marker: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(marker, "w") as file:
        file.write(str(child.pid))
    time.sleep(600)


def flood(megabytes: int) -> str:
    return "x" * (megabytes * 1024 * 1024)


def flood_the_pipe(megabytes: int) -> None:
    block = b"\xff" * (1024 * 1024)
    for descriptor in range(3, 20):
        try:
            for _ in range(megabytes):
                os.write(descriptor, block)
        except OSError:
            continue


def babble() -> None:
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, b"\x00\x00\x00\x05hello")
        except OSError:
            continue
    time.sleep(600)


def hog() -> int:
    return len([bytearray(64 * 1024 * 1024) for _ in range(1000)])


def crash() -> None:
    os._exit(7)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def unserialisable() -> object:
    return {"when": object()}


def not_a_number() -> float:
    return float("nan")


def half_a_character() -> str:
    return "\ud800"


def endless_nest() -> list[object]:
    nest: list[object] = []
    nest.append(nest)
    return nest


def replaced(function: Callable[[int], int]) -> object:
    class Marked:
        __wrapped__ = staticmethod(function)

    return functools.update_wrapper(Marked(), function)


@replaced
def double(number: int) -> int:
    return 2 * number


not_a_function = 5
