"""What the demo runs on: a folder with its databases, rows and fleet, so that anybody can run the same again."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from executor.engines.fleet_file import engine_from_url, read_fleet
from executor.engines.open import open_engine
from executor.engines.options import ModelledOptions
from executor.engines.port import EngineSpec
from halo.batch.engines import named_engines
from halo.batch.errors import EnginesUnfit, FolderRefused
from halo.batch.run import Batch
from halo.sdk.workflow import Workflow
from workloads.demo.questions import Asked, asked_by_users
from workloads.programs.text2sql import make_text2sql, text2sql
from workloads.text2sql.datasets import Dataset, input_rows, read_own
from workloads.text2sql.make_databases import make_databases

FLEET = Path(__file__).with_name("fleet.toml")
SEED = 2025
_MARK = ".halo-demo"
_DATABASES, _BATCH, _AGAIN = "databases", "batch", "again"
_ROWS, _FLEET, _JOURNAL, _REPORT = "rows.jsonl", "fleet.toml", "journal.txt", "report.html"


@dataclass(frozen=True, slots=True)
class Setting:
    """`scale` modelled seconds pass in a real one; None where the engines are real."""

    out: Path
    asked: Asked
    workflow: Workflow[..., Any]
    engines: Sequence[EngineSpec]
    scale: float | None

    @property
    def databases(self) -> Path:
        return self.out / _DATABASES

    @property
    def rows(self) -> Path:
        return self.out / _ROWS

    @property
    def fleet(self) -> Path:
        return self.out / _FLEET

    @property
    def batch(self) -> Batch:
        return Batch(self.workflow, self.rows, self.out / _BATCH, self.engines, journal=self.journal)

    @property
    def again(self) -> Path:
        """Where the user is told to run the job once more."""
        return self.out / _AGAIN

    @property
    def journal(self) -> Path:
        return self.out / _JOURNAL

    @property
    def report(self) -> Path:
        return self.out / _REPORT


def prepare_modelled(out: Path, *, quick: bool = False) -> Setting:
    """The demo on modelled engines. Raises `FolderRefused`."""
    asked = _prepare_folder(out, quick)
    shutil.copyfile(FLEET, out / _FLEET)
    engines = read_fleet(out / _FLEET)
    scales = {ModelledOptions.model_validate(engine.options).scale for engine in engines}
    (scale,) = scales  # one clock for all, or their times could not be compared
    return Setting(out, asked, text2sql, engines, scale)


async def prepare_real(out: Path, urls: Sequence[str], model: str | None, *, quick: bool = False) -> Setting:
    """The same job for real engines. Raises `FolderRefused`, `FleetInvalid`, and `EnginesUnfit` if none answers."""
    served = model or await _served_model(urls[0])
    engines = named_engines(urls, [served])
    return Setting(out, _prepare_folder(out, quick), make_text2sql(model=served), engines, None)


async def _served_model(url: str) -> str:
    engine = open_engine(engine_from_url(url))
    health = await engine.probe()
    await engine.close()
    if not health.models:
        raise EnginesUnfit(f"the engine at {url} names no model: {health.detail or 'no answer'}; start it first")
    return health.models[0]


def _prepare_folder(out: Path, quick: bool) -> Asked:
    _clear(out)
    (out / _MARK).touch()
    make_databases(out / _DATABASES)
    own = read_own(out / _DATABASES)
    asked = asked_by_users(own.questions, Random(SEED), quick=quick)
    with (out / _ROWS).open("w", encoding="utf-8") as file:
        rows = input_rows(Dataset(own.name, tuple(asked.rows), own.databases))
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return asked


def _clear(out: Path) -> None:
    """A former demo is removed, file by file that a demo makes; nobody else's folder is touched."""
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not (out / _MARK).is_file():
        raise FolderRefused(f"the folder {out} has other files in it: name a new or an empty folder with --out")
    for name in (_DATABASES, _BATCH, _AGAIN):
        if (out / name).is_dir():
            shutil.rmtree(out / name)
    for name in (_ROWS, _FLEET, _JOURNAL, _REPORT):
        (out / name).unlink(missing_ok=True)
