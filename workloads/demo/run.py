"""Runs the demo's job, as `halo batch run` would."""

import asyncio
from dataclasses import dataclass

from executor.engines.port import EngineSpec
from executor.journal import read_journal
from halo.batch.run import Running, Watch, run_batch
from halo.batch.summary import Summary
from workloads.demo.account import Account, read_account
from workloads.demo.setting import Setting


@dataclass(frozen=True, slots=True)
class DemoRun:
    """`engines` are those it ran on, with what they said of themselves."""

    setting: Setting
    engines: tuple[EngineSpec, ...]
    summary: Summary
    account: Account


async def run_demo(setting: Setting, watch: Watch, stop: asyncio.Event) -> DemoRun:
    """Raises `BatchStopped` and other `BatchError`s, as `run_batch` does."""
    seen: list[EngineSpec] = []

    async def look(running: Running) -> None:
        seen.extend(engine.spec for engine in running.runtime.engines)
        await watch(running)

    summary = await run_batch(setting.batch, stop=stop, watch=look)
    account = read_account(read_journal(setting.journal), seen, pace=setting.scale or 1.0)
    return DemoRun(setting, tuple(seen), summary, account)
