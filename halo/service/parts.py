"""What the routes work with, and how they come by it: nothing in the service is global."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from executor.clock import Clock, WallClock
from executor.core.waiting import Doing
from executor.drivers.call_metrics import CallMetrics
from executor.drivers.door import Door
from executor.drivers.progress import Progress
from executor.engines.port import EngineSpec
from executor.store.jobs import DEFAULT_TENANT
from executor.store.port import Store
from halo.prices import read_prices
from halo.service.catalog import Catalog
from halo.service.doorkeeper import Doorkeeper
from halo.service.draining import Draining
from halo.service.endings import Endings
from halo.service.fleet import FleetView
from halo.service.problems import HostRefused, KeyMissing, OperatorsOnly
from halo.settings import Bounds, is_loopback
from halo.tuning import TuningState
from kvstore.program_state import ProgramStates
from planner.ir.ids import JobId


@dataclass(frozen=True, slots=True)
class Parts:
    """`tenants` has who a key belongs to, by the key's SHA-256; without any there is one tenant, and only this machine
    is answered. `cancel`, `progress` and `doings` are the driver's, for runs of this process; calls of agents outside
    of Halo go through `door`. `state_is` says in words where live state is kept. `prices` are dollars for an hour of a
    GPU, for forecasts. `tuning` tells how far the scheduler is tuned, where it is. Of several tenants only `operators`
    take engines out, and see those that are kept for others.
    """

    store: Store
    states: ProgramStates
    fleet: FleetView
    door: Door
    catalog: Catalog
    new_id: Callable[[], JobId]
    endings: Endings
    cancel: Callable[[JobId], None]
    progress: Callable[[JobId], Progress | None]
    doings: Callable[[JobId], Sequence[Doing]]
    draining: Draining
    tuning: Callable[[], TuningState | None] = lambda: None
    doorkeeper: Doorkeeper | None = None
    bounds: Bounds = field(default_factory=Bounds)
    tenants: Mapping[str, str] = field(default_factory=dict)
    operators: Collection[str] = ()
    state_is: str = "in-process: one process"
    metrics: CallMetrics = field(default_factory=CallMetrics)
    prices: Mapping[str, float] = field(default_factory=lambda: read_prices({}))
    clock: Clock = field(default_factory=WallClock)

    def operates(self, tenant: str) -> bool:
        """Where there are no keys, whoever works on this machine is an operator."""
        return not self.tenants or tenant in self.operators

    def seen_by(self, tenant: str) -> Sequence[EngineSpec]:
        """Operators see every engine, others those that take their calls."""
        return self.fleet.specs if self.operates(tenant) else self.fleet.open_to(tenant)


async def _parts(request: Request) -> Parts:
    found: Parts = request.app.state.parts
    return found


TheParts = Annotated[Parts, Depends(_parts)]


async def _tenant(request: Request, parts: TheParts) -> str:
    """Raises `KeyMissing` or `HostRefused`."""
    if not parts.tenants:
        return _tenant_of_this_machine(request)
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    digest = hashlib.sha256(key.strip().encode()).hexdigest()
    if scheme.lower() != "bearer" or digest not in parts.tenants:
        raise KeyMissing("send a key that is configured here: Authorization: Bearer KEY")
    return parts.tenants[digest]


TheTenant = Annotated[str, Depends(_tenant)]


async def _operator(parts: TheParts, tenant: TheTenant) -> str:
    """Raises `OperatorsOnly`."""
    if not parts.operates(tenant):
        raise OperatorsOnly(f"{tenant!r} is no operator: name it in the service's setting `operators` (HALO_OPERATORS)")
    return tenant


TheOperator = Annotated[str, Depends(_operator)]


def _tenant_of_this_machine(request: Request) -> str:
    """A web page somewhere may point a name of its own at this machine; asked by such a name, nothing is answered."""
    if not is_loopback(_asked_host(request)):
        raise HostRefused("without API keys this service is asked as localhost or 127.0.0.1; or configure api_keys")
    return DEFAULT_TENANT


def _asked_host(request: Request) -> str:
    """As the client wrote it: `request.url` replaces a name it does not like by the address of the server."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""
