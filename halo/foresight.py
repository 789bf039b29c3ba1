"""How long a run would last, for people: the makespan predicted in virtual time, with what the database has seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from executor.engines.port import EngineSpec
from executor.hindsight import NO_HINDSIGHT, Earlier, Hindsight, earlier_jobs, hindsight_of
from executor.prediction import Makespan, predict_makespan
from executor.store.jobs import DEFAULT_TENANT
from executor.tool_pools import tool_pools
from halo.batch.errors import EnginesUnfit
from halo.priced_fleet import kept_from, open_to, unforeseeable
from halo.sdk.workflow import Workflow
from halo.wiring import open_any_store
from planner.cost.gpus import REFERENCE
from planner.cost.history import NO_HISTORY, History, history_of
from planner.ir.ids import EngineId
from planner.ir.needs import models_of
from planner.ir.values import Json
from planner.table import Table

NOT_MEASURED = "as fast as its GPU kind is believed to be; how far off that is, is not in the range"


@dataclass(frozen=True, slots=True)
class Told:
    """A predicted makespan. `seen` counts the calls and tool runs of earlier jobs it was drawn from; `hindsight` is in
    it. `without` says which engines were left out. How fast those are that are `assumed`, nobody has measured."""

    makespan: Makespan
    rows: int
    seen: int
    hindsight: Hindsight = NO_HINDSIGHT
    without: str = ""
    assumed: Sequence[str] = ()

    def as_json(self) -> Json:
        found, seconds = self.makespan, self.makespan.seconds
        return {
            "seconds": {"p10": seconds.p10, "p50": seconds.p50, "p90": seconds.p90},
            "rows_played": found.rows,
            "calls": found.calls,
            "prompt_tokens": found.prompt_tokens,
            "cached_tokens": found.cached_tokens,
            "output_tokens": found.output_tokens,
            "failed": found.failed,
            "seen": self.seen,
            "earlier_jobs": {"times": self.hindsight.times, "jobs": self.hindsight.jobs},
            "without": self.without,
            "assumed": list(self.assumed),
        }

    def lines(self) -> Sequence[str]:
        found, seconds = self.makespan, self.makespan.seconds
        played = "" if found.rows == self.rows else f", drawn out from {found.rows:,} of {self.rows:,} rows"
        drawn = f"drawn from {self.seen:,} calls and tool runs seen" if self.seen else "nothing was seen yet: priors"
        failed = f"; {found.failed:.0%} of rows failed there, as what is made up may" if found.failed else ""
        return (
            f"makespan in virtual time: {seconds.p50:,.1f} s ({seconds.p10:,.1f} to {seconds.p90:,.1f}){played}",
            f"{found.calls:,.0f} calls, {found.prompt_tokens:,.0f} prompt tokens, of them {found.cached_tokens:,.0f} "
            f"cached, {found.output_tokens:,.0f} answered; {drawn}{failed}",
            *self._hindsight_lines(),
            *((self.without,) if self.without else ()),
            *((f"{', '.join(self.assumed)}: {NOT_MEASURED}",) if self.assumed else ()),
        )

    def _hindsight_lines(self) -> Sequence[str]:
        if not self.hindsight.jobs:
            return ()
        jobs = "the last job" if self.hindsight.jobs == 1 else f"the last {self.hindsight.jobs} jobs"
        return (f"{jobs} of this plan took {self.hindsight.times:.2f} times as long as predicted: that is in it",)


async def foresee(
    workflow: Workflow[..., Any],
    table: Table,
    engines: Sequence[EngineSpec],
    database_url: str | None,
    tenant: str = DEFAULT_TENANT,
) -> Told:
    """What the tenant's run over the rows would take. Engines that name no model serve all; none are one A100 with
    80 GB.

    Raises `EnginesUnfit` where no engine serves a model to the tenant, `StoreRefused` or `StoreUnavailable` where a
    database is named and cannot be read.
    """
    models = tuple(models_of(workflow.plan))
    if missing := unforeseeable(models, engines, tenant):
        raise EnginesUnfit("\n".join(["there is no run to foresee:", *(f"  {why}" for why in missing)]))
    fleet = [replace(spec, models=spec.models or models) for spec in engines]
    reference = EngineSpec(EngineId("reference"), "modelled", models, gpu=REFERENCE.name)
    history, seen = await history_in(database_url, workflow.name, tenant)
    earlier = await _earlier_in(database_url, workflow, tenant)
    pools = tool_pools(workflow.tools)
    fleet = fleet or [reference]
    started = tool_pools(workflow.tools, started=True)
    hindsight = await hindsight_of(earlier, fleet, history, tools=started, tenant=tenant)
    makespan = await predict_makespan(workflow.plan, table, fleet, history, tools=pools, tenant=tenant)
    assumed = [spec.id for spec in open_to(fleet, tenant) if spec.profile is None]
    left_out = kept_from(engines, tenant)
    return Told(hindsight.corrected(makespan), table.rows, seen, hindsight, left_out, assumed)


async def history_in(database_url: str | None, workflow: str, tenant: str = DEFAULT_TENANT) -> tuple[History, int]:
    """What the database has seen of the tenant's workflow, and how many calls and tool runs that is. Without a
    database: nothing.

    Raises `StoreRefused` or `StoreUnavailable`.
    """
    if database_url is None:
        return NO_HISTORY, 0
    store = await open_any_store(database_url)
    try:
        seen = await store.seen(workflow, tenant)
    finally:
        await store.close()
    return history_of(seen), len(seen)


async def _earlier_in(database_url: str | None, workflow: Workflow[..., Any], tenant: str) -> Sequence[Earlier]:
    if database_url is None:
        return ()
    store = await open_any_store(database_url)
    try:
        return await earlier_jobs(store, workflow.name, workflow.plan, tenant)
    finally:
        await store.close()
