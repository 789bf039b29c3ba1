"""Whose job is claimed next: tenants take turns by how many of their jobs run, whatever each of them has waiting. Among
those that have as many, whose last turn is longest ago is next: so they take turns where jobs run one at a time, too.

Written so that a claim looks at few rows: tenants are found by hopping along the index, from one to the next, and of
each only the first job is looked at.
"""

from typing import Any

from sqlalchemy import CTE, ColumnElement, Select, case, func, literal, or_, select, text

from executor.store.jobs import JobStatus, Weights
from executor.store.tables import OPEN, RUNNING, database_now, jobs


def next_job(weights: Weights) -> Select[tuple[int]]:
    """The number of the job whose turn it is."""
    whose = _tenants_by_turn(weights).limit(1).scalar_subquery()
    return first_free().where(jobs.c.tenant == whose)


def first_free() -> Select[tuple[int]]:
    """The numbers of jobs that may be claimed, the most urgent of a tenant first."""
    return select(jobs.c.number).where(OPEN, free()).order_by(jobs.c.tenant, jobs.c.priority, jobs.c.number)


def free() -> ColumnElement[bool]:
    return or_(jobs.c.status == JobStatus.QUEUED, jobs.c.lease_until <= database_now())


def _tenants_by_turn(weights: Weights) -> Select[tuple[str]]:
    tenants, running, first = _tenants(), _running(), jobs.alias("first")
    of_tenant = first_free().where(jobs.c.tenant == tenants.c.tenant).limit(1).correlate(tenants).scalar_subquery()
    had = func.coalesce(running.c.jobs, 0) / _weight(tenants.c.tenant, weights)
    return (
        select(tenants.c.tenant)
        .join(first, first.c.number == of_tenant)
        .outerjoin(running, running.c.tenant == tenants.c.tenant)
        .order_by(had, func.coalesce(_last_turn(tenants.c.tenant), 0), first.c.priority, first.c.number)
    )


def _last_turn(tenant: ColumnElement[str]) -> ColumnElement[float]:
    """When the tenant's newest began."""
    given = jobs.alias("given")
    return (
        select(given.c.started_at)
        .where(text("given.started_at IS NOT NULL"), given.c.tenant == tenant)
        .order_by(given.c.started_at.desc())
        .limit(1)
        .scalar_subquery()
    )


def _tenants() -> CTE:
    """Those with open jobs; and None, after the last."""
    least = select(func.min(jobs.c.tenant).label("tenant")).where(OPEN)
    found = least.cte("tenants", recursive=True)
    after = least.where(jobs.c.tenant > found.c.tenant).correlate(found).scalar_subquery()
    return found.union_all(select(after).where(found.c.tenant.is_not(None)))


def _running() -> CTE:
    held = select(jobs.c.tenant, func.count().label("jobs")).where(RUNNING, jobs.c.lease_until > database_now())
    return held.group_by(jobs.c.tenant).cte("running")


def _weight(tenant: ColumnElement[str], weights: Weights) -> ColumnElement[Any]:
    if not weights.by_tenant:
        return literal(weights.others)
    return case(dict(weights.by_tenant), value=tenant, else_=weights.others)
