"""Halo's OpenAI door in front of one engine, as a child that is never left behind."""

import asyncio
import sys
import tempfile
from pathlib import Path

import aiohttp

from executor.engines.local_recipe import free_port
from executor.engines.local_vllm import LEASH_SCRIPT

STARTING_S, POLL_S = 120.0, 0.25


class DoorNotReady(Exception):
    """`halo serve` did not come up; the message is for people."""


class ServedDoor:
    """`halo serve` on any free port, its database in a folder of its own."""

    def __init__(self, engine_url: str, log: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._engine_url = engine_url
        self._log = log
        self._folder = tempfile.TemporaryDirectory()
        self._leash: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Raises `DoorNotReady`."""
        self._leash = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", LEASH_SCRIPT, str(self._log), sys.executable, "-m", "halo", "serve"),
            *("--engine", self._engine_url, "--port", self.url.rpartition(":")[2]),
            *("--database", f"sqlite:///{self._folder.name}/halo.db"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(STARTING_S):
                while not await self._ready():
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            await self.stop()
            raise DoorNotReady(f"halo serve did not answer within {STARTING_S:g} s; see {self._log}") from None

    async def stop(self) -> None:
        leash, self._leash = self._leash, None
        if leash is not None and leash.stdin is not None:
            leash.stdin.close()
            await leash.wait()
        self._folder.cleanup()

    async def _ready(self) -> bool:
        assert self._leash is not None
        if self._leash.returncode is not None:
            raise DoorNotReady(f"halo serve ended while it started; see {self._log}")
        try:
            async with aiohttp.ClientSession(self.url) as session, session.get("/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False
