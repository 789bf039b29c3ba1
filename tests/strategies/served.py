"""`halo serve` as it is started by people: a process of its own, on a port of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from service_stand import FLOWS

START_S = 60.0
FLEET = """
[[engine]]
id = "small-0"
kind = "scripted"
model = "small"
"""


class Served:
    """A running service: its process, the client `api`, and what it said so far."""

    def __init__(self, process: "subprocess.Popen[str]", said: list[str], url: str) -> None:
        self.process, self.said, self.url = process, said, url
        self.api = httpx.Client(base_url=url, timeout=90, trust_env=False)

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(120)


@contextmanager
def served(folder: Path, database_url: str, variables: Mapping[str, str] | None = None) -> Iterator[Served]:
    """A service with the workflows of the tests, killed at the end if it still runs."""
    fleet = folder / "fleet.toml"
    fleet.write_text(FLEET)
    given = {
        "HALO_DATABASE_URL": database_url,
        "HALO_FLEET": str(fleet),
        "HALO_WORKFLOWS": ",".join(f"{FLOWS}:{name}" for name in ("greet", "fail", "two_steps")),
        "HALO_PORT": "0",
        **(variables or {}),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "halo", "serve"],
        env={**_without_halo(os.environ), **given},
        cwd=FLOWS.parent.parent.parent.parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = _until_listening(process)
        running = Served(process, said, _url(said))
        with running.api:
            yield running
    finally:
        process.kill()
        process.communicate()


def _until_listening(process: Any) -> list[str]:
    said: list[str] = []
    for line in process.stderr:
        said.append(line.rstrip())
        if line.startswith("live state"):
            return said
    raise AssertionError(f"the service ended with {process.wait()}:\n" + "\n".join(said))


def _url(said: list[str]) -> str:
    found = re.search(r"listens on (http://[^ ]+)", "\n".join(said))
    assert found, said
    return found.group(1)


def _without_halo(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("HALO_")}
