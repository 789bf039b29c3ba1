"""How far a batch is, while it runs: a bar on a terminal, a plain line now and then elsewhere. Always on stderr."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from rich.progress import BarColumn, Progress, TextColumn

from executor.drivers.progress import Progress as Figures
from halo.batch.run import Running
from halo.cli.console import err, say

DRAW_EVERY_S = 0.25
LINE_EVERY_S = 5.0
WINDOW_S = 30.0


@dataclass(frozen=True, slots=True)
class View:
    """What is shown. `rows_per_second` is None until it can be told."""

    rows: int
    figures: Figures
    rejected: int
    rows_per_second: float | None
    engines_up: int
    engines: int

    @property
    def ended(self) -> int:
        return self.figures.ended + self.rejected

    @property
    def failed(self) -> int:
        return self.figures.failed + self.rejected

    @property
    def eta_s(self) -> float | None:
        return (self.rows - self.ended) / self.rows_per_second if self.rows_per_second else None


class Rate:
    """Rows a second over the last `WINDOW_S`, from `now` on."""

    def __init__(self, now: float) -> None:
        self._seen: deque[tuple[float, int]] = deque([(now, 0)])

    def note(self, now: float, ended: int) -> float | None:
        self._seen.append((now, ended))
        while now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        then, before = self._seen[0]
        return (ended - before) / (now - then) if ended > before and now > then else None


async def show_progress(running: Running) -> None:
    """Until it is cancelled."""
    if err().is_terminal:
        await _draw(running)
    else:
        await _tell(running)


def describe(view: View) -> str:
    """One line without a bar."""
    share = 100 * view.ended / view.rows
    return f"{view.ended:,}/{view.rows:,} rows ({share:.0f} %) · {details(view)}"


def details(view: View) -> str:
    figures = view.figures
    saved = figures.saved_prompt_tokens + figures.saved_output_tokens
    parts = [
        "no row has ended yet" if view.rows_per_second is None else f"{view.rows_per_second:,.1f} rows/s",
        *([f"ETA {duration(view.eta_s)}"] if view.eta_s is not None else []),
        f"{view.failed:,} failed",
        f"{short(figures.calls)} calls (+{short(figures.saved_calls)} saved{_recalled(figures)})",
        f"{short(figures.prompt_tokens + figures.output_tokens)} tokens (+{short(saved)} saved)",
        f"engines {view.engines_up}/{view.engines} up",
    ]
    return " · ".join(parts)


def _recalled(figures: Figures) -> str:
    return f", {short(figures.recalled_calls)} of them from the cache" if figures.recalled_calls else ""


def short(count: int) -> str:
    """1,234 as it is, 123,456 as 123k, 12,345,678 as 12.3M."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def duration(seconds: float) -> str:
    """The two largest units: 45 s, 3:20 min, 5:03 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


class _Looker:
    """Looks at a running batch; between a job's end and its last file it sees what it saw last."""

    def __init__(self, running: Running) -> None:
        self._running, self._rate = running, Rate(time.monotonic())
        self._figures = Figures(rows=running.intake.rows)

    def look(self) -> View:
        driver = self._running.runtime.driver
        self._figures = driver.progress(self._running.job) or self._figures
        up = driver.engines_up()
        return View(
            rows=self._running.intake.rows,
            figures=self._figures,
            rejected=len(self._running.intake.rejected),
            rows_per_second=self._rate.note(time.monotonic(), self._figures.ended - self._figures.before),
            engines_up=sum(up.values()),
            engines=len(up),
        )


async def _tell(running: Running) -> None:
    looker = _Looker(running)
    while True:
        await asyncio.sleep(LINE_EVERY_S)
        say(describe(looker.look()))


async def _draw(running: Running) -> None:
    looker = _Looker(running)
    columns = (BarColumn(bar_width=None), TextColumn("{task.completed:,.0f}/{task.total:,.0f}"))
    with Progress(*columns, TextColumn("{task.fields[details]}"), console=err(), transient=True) as bar:
        task = bar.add_task("rows", total=running.intake.rows, details="")
        while True:
            view = looker.look()
            bar.update(task, completed=view.ended, details=details(view))
            await asyncio.sleep(DRAW_EVERY_S)
