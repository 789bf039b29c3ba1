"""Runs a server as a child and leaves nothing of it behind. A script of its own: the standard library only.

    python leash.py LOG COMMAND ...

Its standard input is the leash: when it closes, because the owner stopped or died in any way, the server's whole
process group is ended, first by asking, then by force. When the server dies by itself, so is the rest of its group.
Writes the server's process id to standard output and exits with its code, or with 128 + the signal that killed it.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

GRACE_S = 10.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(arguments: Sequence[str]) -> int:
    log_path, *command = arguments
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the server come to us, so that we can wait for every one of them
    with open(log_path, "ab") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - there are no threads here
        )
        sys.stdout.write(f"{server.pid}\n")
        sys.stdout.flush()
        reason = _wait_for_either_end(server.pid)
        log.write(f"leash: {reason}, ending all of process group {server.pid}\n".encode())
    _end_group(server)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def _wait_for_either_end(pid: int) -> str:
    """Says which it was: the server ended, or the leash was let go."""
    server = os.pidfd_open(pid)
    watch = select.poll()
    watch.register(server, select.POLLIN)
    watch.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    while True:
        ready = {descriptor for descriptor, _ in watch.poll()}
        if server in ready:
            return "the server ended"
        if os.read(sys.stdin.fileno(), 4096) == b"":
            return "the owner stopped or died"


def _end_group(server: subprocess.Popen[bytes]) -> None:
    _signal(server.pid, signal.SIGTERM)
    if not _within(GRACE_S, lambda: _all_gone(server)):
        _signal(server.pid, signal.SIGKILL)
        _within(GRACE_S, lambda: _all_gone(server))


def _all_gone(server: subprocess.Popen[bytes]) -> bool:
    if server.poll() is None:
        return False
    _reap()
    return not _signal(server.pid, 0)


def _reap() -> None:
    """Takes in the orphans that have ended. The server itself is `Popen`'s to wait for, and has been by now."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _signal(group: int, number: int) -> bool:
    """False when the group has nobody left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
