"""A large batch, killed with `kill -9` at random moments and gone on with, against one that was left alone.

    python -m benchmarks.batch.crash [--rows 10000] [--kills 20] [--seed 1] [--out FILE.json]
        [--workflow WORKFLOW --input FILE.jsonl --answers MODULE:FUNCTION --model NAME]

Without more, the rows are those of Spider dev, repeated, where that data set lies beside the repository; else the
questions that come with Halo. The engine is scripted and logs every call before it answers, so that its log survives
the process. Each process is killed after a random part of the undisturbed run's time; when a batch ends before all
kills are spent, another is begun. Then, for each batch:

- lost, twice: rows that stand nowhere in results and errors, or more than once
- same: results and errors are those of the undisturbed run, byte by byte
- sums: calls and tools, made and saved together, are as many in the summary as in that of the undisturbed run
- called again: calls whose answer was committed before a kill, and which were made again after it
- made more: calls beyond those of the undisturbed run; what was in flight at a kill must be asked again

Exit code 1 when any row is lost or doubled, any file differs, sums are wrong, a committed call is made again, or
memory reaches 1 GB.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path

from executor.drivers.live_nodes import call_id
from planner.ir.ids import JobId, NodeRef, program_id
from workloads.text2sql.databases import FOLDER_VARIABLE, all_samples
from workloads.text2sql.datasets import input_rows, read_own, read_spider

ROOT = Path(__file__).parents[2]
SPIDER = ROOT.parent / "shared" / "data" / "spider_dev"
MOST_RSS_MIB = 1000
FLEET = """
[[engine]]
id = "scripted"
kind = "scripted"
model = "{model}"
max_running = 256
context_tokens = 32768

[engine.options]
answers = "{answers}"
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ended: how, after how long, with how much memory, and the calls it made."""

    code: int
    seconds: float
    peak_rss_mib: float
    calls: Sequence[str]


@dataclass(slots=True)
class Verdict:
    """One batch that was killed `kills` times, against the undisturbed one."""

    kills: int
    seconds: float
    lost: int
    twice: int
    same: bool
    sums: bool
    called_again: int
    calls: int
    made_more: int
    peak_rss_mib: float

    @property
    def good(self) -> bool:
        wrong = self.lost or self.twice or self.called_again
        return self.same and self.sums and not wrong and self.peak_rss_mib < MOST_RSS_MIB


@dataclass(slots=True)
class Bench:
    """Runs `halo batch run` on the same rows as often as asked, each time in a process of its own."""

    folder: Path
    workflow: str
    rows: int
    environment: Mapping[str, str]
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "calls.log"

    def run(self, out: str, kill_after_s: float | None = None) -> Ended:
        """The process's end: by itself, or by `kill -9`."""
        before, began = self._calls(), time.monotonic()
        process = self._start(out)
        killer = threading.Timer(kill_after_s or 0.0, os.kill, (process.pid, signal.SIGKILL))
        if kill_after_s is not None:
            killer.start()
        _, status, usage = os.wait4(process.pid, 0)  # unlike Popen's own waiting, it tells the memory used
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds, rss_mib = time.monotonic() - began, usage.ru_maxrss / 1024
        return Ended(process.returncode, seconds, rss_mib, self._calls()[len(before) :])

    def _start(self, out: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "halo", "batch", "run", self.workflow, "--resume", "--json"]
        command += ["--rows", "rows.jsonl", "--out", out, "--fleet", "fleet.toml"]
        with (self.folder / f"{out}.err").open("ab") as err, (self.folder / f"{out}.out").open("wb") as summary:
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=summary, stderr=err)

    def committed(self, out: str) -> set[str]:
        """The ids of the calls whose answers stand in the database."""
        path = self.folder / out / "job.db"
        if not path.exists():
            return set()
        with sqlite3.connect(path) as database:
            try:
                nodes = database.execute("SELECT job_id, row_index, path, attempt FROM nodes WHERE engine IS NOT NULL")
            except sqlite3.OperationalError:  # killed before there were tables
                return set()
            return {call_id(NodeRef(program_id(JobId(job), row), node), attempt) for job, row, node, attempt in nodes}

    def files(self, out: str) -> tuple[bytes, bytes]:
        return (self.folder / out / "results.jsonl").read_bytes(), (self.folder / out / "errors.jsonl").read_bytes()

    def rows_of(self, out: str) -> Counter[int]:
        return Counter(json.loads(line)["row"] for file in self.files(out) for line in file.splitlines())

    def work_of(self, out: str) -> list[int]:
        """How often a model was called and a tool was run, or would have been, by the summary."""
        summary = json.loads((self.folder / out / "summary.json").read_text())
        return [sum(summary[kind].values()) for kind in ("calls", "tools")]

    def _calls(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="halo-crash-") as folder:
        bench = _prepared(Path(folder), arguments)
        whole = bench.run("undisturbed")
        assert whole.code in (0, 1), (bench.folder / "undisturbed.err").read_text()[-2000:]
        summary = json.loads((bench.folder / "undisturbed.out").read_text())
        verdicts = _killed(bench, whole, arguments.kills, random.Random(arguments.seed))
    print(f"undisturbed: {bench.rows:,} rows, {summary['succeeded']:,} succeeded, {whole.seconds:.1f} s, ", end="")
    print(f"{len(whole.calls):,} calls made, {summary['calls']['saved']:,} saved, {whole.peak_rss_mib:.0f} MiB")
    print(_table(verdicts))
    good = whole.peak_rss_mib < MOST_RSS_MIB and all(verdict.good for verdict in verdicts)
    found = {"seed": arguments.seed, "undisturbed": asdict(whole) | {"calls": len(whole.calls)}}
    found |= {"summary": summary, "batches": [asdict(verdict) for verdict in verdicts], "good": good}
    print(json.dumps(found))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2))
    raise SystemExit(0 if good else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workflow", default="text2sql")
    parser.add_argument("--input", type=Path, help="rows, repeated as often as needed")
    parser.add_argument("--answers", default="benchmarks.batch.logged_model:answer")
    parser.add_argument("--model", default="sql")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _prepared(folder: Path, arguments: argparse.Namespace) -> Bench:
    databases = SPIDER if SPIDER.is_dir() else all_samples()
    rows = islice(cycle(_rows(arguments.input)), arguments.rows)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "fleet.toml").write_text(FLEET.format(model=arguments.model, answers=arguments.answers))
    log = {"BENCH_CALL_LOG": str(folder / "calls.log")}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), FOLDER_VARIABLE: str(databases), **log}
    workflow = arguments.workflow
    source, colon, name = workflow.partition(":")
    if source.endswith(".py"):
        workflow = f"{Path(source).resolve()}{colon}{name}"
    return Bench(folder, workflow, arguments.rows, environment)


def _rows(given: Path | None) -> list[object]:
    if given is not None:
        return [json.loads(line) for line in given.read_text().splitlines()]
    return list(input_rows(read_spider(SPIDER) if SPIDER.is_dir() else read_own(all_samples())))


def _killed(bench: Bench, whole: Ended, kills: int, moments: random.Random) -> list[Verdict]:
    """Batches until all kills are spent; the last one is left to end by itself."""
    verdicts: list[Verdict] = []
    while kills:
        verdict = _one_batch(bench, whole, kills, moments, f"killed-{len(verdicts)}")
        kills -= verdict.kills
        verdicts.append(verdict)
    return verdicts


def _one_batch(bench: Bench, whole: Ended, kills: int, moments: random.Random, out: str) -> Verdict:
    used, calls, called_again, peak, seconds = 0, 0, 0, 0.0, 0.0
    while True:
        done = bench.committed(out)
        after_s = moments.uniform(0.2, 0.4 * whole.seconds) if used < kills else None
        ended = bench.run(out, after_s)
        called_again += len(done & set(ended.calls))
        calls += len(ended.calls)
        seconds += ended.seconds
        peak = max(peak, ended.peak_rss_mib)
        if ended.code >= 0:
            break
        used += 1
    assert ended.code in (0, 1), (bench.folder / f"{out}.err").read_text()[-2000:]
    rows = bench.rows_of(out)
    return Verdict(
        kills=used,
        seconds=seconds,
        lost=sum(row not in rows for row in range(bench.rows)),
        twice=sum(count > 1 for count in rows.values()),
        same=bench.files(out) == bench.files("undisturbed"),
        sums=bench.work_of(out) == bench.work_of("undisturbed"),
        called_again=called_again,
        calls=calls,
        made_more=calls - len(whole.calls),
        peak_rss_mib=peak,
    )


_COLUMNS = {
    "kills": "",
    "lost": "",
    "twice": "",
    "same": "",
    "sums": "",
    "called_again": "",
    "calls": ",",
    "made_more": ",",
    "seconds": ".1f",
    "peak_rss_mib": ".0f",
}


def _table(verdicts: Sequence[Verdict]) -> str:
    lines = [["batch", *(name.replace("_", " ") for name in _COLUMNS)]]
    for number, verdict in enumerate(verdicts):
        lines.append([str(number), *(format(getattr(verdict, name), form) for name, form in _COLUMNS.items())])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


if __name__ == "__main__":
    main()
