"""Runs a command with a private PostgreSQL and a private Redis beside it: `python scripts/test_services.py -- pytest`.

Standard library only. Both servers listen on free loopback ports, keep their files in a temporary folder and are gone
at the end, however the command ends. The command finds them by HALO_TEST_POSTGRES_URL and HALO_TEST_REDIS_URL; where
a server is not installed its variable stays unset, and this says so. PostgreSQL refuses to run as root, so root runs it
as the user `postgres`. The servers do not sync their disks: nothing here outlives the tests.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

START_S = 200.0
STOP_S = 60.0


class CannotStart(Exception):
    """A server that is installed does not start; the message says why."""


def main(arguments: list[str]) -> int:
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        print("Usage: python scripts/test_services.py -- COMMAND ...", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _stop)
    environment = {
        name: text for name, text in os.environ.items() if name not in ("HALO_TEST_POSTGRES_URL", "HALO_TEST_REDIS_URL")
    }
    try:
        with ExitStack() as running:
            for variable, server in (("HALO_TEST_POSTGRES_URL", postgres), ("HALO_TEST_REDIS_URL", redis)):
                address = running.enter_context(server())
                environment |= {variable: address} if address else {}
            return _run(command, environment)
    except CannotStart as problem:
        print(f"test services: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


@contextmanager
def postgres() -> Iterator[str | None]:
    initdb, server = _binary("initdb"), _binary("postgres")
    if initdb is None or server is None:
        _say("PostgreSQL is not installed: its tests will be skipped")
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="halo-postgres-") as name:
        folder, port, account = Path(name), _free_port(), _account()
        if account:
            shutil.chown(folder, account["user"], account["group"])
        make = [initdb, "--pgdata", str(folder / "data"), "--username", "halo", "--auth", "trust", "--no-sync"]
        made = subprocess.run(
            [*make, "--encoding", "UTF8", "--locale", "C"],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            **account,
        )
        if made.returncode:
            raise CannotStart(f"initdb failed:\n{made.stderr}")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": folder,
            "fsync": "off",
            "max_connections": 200,
        }
        command = [server, "-D", str(folder / "data")] + [
            part for name, value in settings.items() for part in ("-c", f"{name}={value}")
        ]
        with _server("PostgreSQL", command, folder, port, signal.SIGINT, _postgres_answers, account):
            yield f"postgresql://halo@127.0.0.1:{port}/postgres"


@contextmanager
def redis() -> Iterator[str | None]:
    server = _binary("redis-server")
    if server is None:
        _say("Redis is not installed: its tests will be skipped")
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="halo-redis-") as name:
        port = _free_port()
        command = [
            server,
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            name,
        ]
        with _server("Redis", command, Path(name), port, signal.SIGTERM, _redis_answers, {}):
            yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def _server(
    name: str,
    command: list[str],
    folder: Path,
    port: int,
    stop: signal.Signals,
    answers: Callable[[socket.socket], bool],
    account: dict[str, Any],
) -> Iterator[None]:
    with (folder / "server.log").open("w+") as log:
        # A session of its own: Ctrl-C is for the command, and the server must outlive it.
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True, **account)
        try:
            if not _comes_up(process, port, answers):
                log.seek(0)
                raise CannotStart(f"{name} did not start:\n{log.read()[-2000:]}")
            yield
        finally:
            _end(process, stop)


def _comes_up(process: subprocess.Popen[Any], port: int, answers: Callable[[socket.socket], bool]) -> bool:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                if answers(connection):
                    return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def _postgres_answers(connection: socket.socket) -> bool:
    # A start-up packet, protocol 3.0; R means "authenticate" or "welcome", E means "still starting".
    body = b"\x00\x03\x00\x00user\x00halo\x00database\x00postgres\x00\x00"
    connection.sendall((len(body) + 4).to_bytes(4, "big") + body)
    return connection.recv(1) == b"R"


def _redis_answers(connection: socket.socket) -> bool:
    connection.sendall(b"PING\r\n")
    return connection.recv(5) == b"+PONG"


def _end(process: subprocess.Popen[Any], stop: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(stop)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(command: list[str], environment: dict[str, str]) -> int:
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        print(f"test services: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    try:
        return process.wait()
    except BaseException:
        _end(process, signal.SIGTERM)
        raise


def _binary(name: str) -> str | None:
    """On the path, or where Debian keeps each version of PostgreSQL; the newest."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    return str(debian[-1]) if debian else shutil.which(name)


def _account() -> dict[str, Any]:
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stop(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _say(text: str) -> None:
    print(f"test services: {text}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
