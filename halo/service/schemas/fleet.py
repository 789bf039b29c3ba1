"""What a fleet is asked for, beside what it can do."""

from pydantic import Field

from halo.service.schemas.base import Told


class FleetSignal(Told):
    """One model, in tokens for each second: `prefill` are prompt tokens that are not cached, `decode` those written.
    Engines that are kept for `tenants` count apart; the others of them are told to operators.

    What is possible is the load at which calls leave the bounds asked for, in the mix that was seen; `load` is what was
    seen as a part of it. `engines_wanted` are of the kinds there are. Where nothing was seen, the last three are null.
    """

    model: str
    tenants: list[str] = Field(default_factory=list)
    engines: int
    calls_per_s: float
    prefill_demanded: float
    decode_demanded: float
    prefill_possible: float | None = None
    decode_possible: float | None = None
    load: float | None = None
    engines_wanted: int | None = None
    note: str = ""


class FleetSignals(Told):
    """Of what engines answered in the last `window_s` seconds: runs of every replica, and calls through this one."""

    window_s: float
    target_load: float
    models: list[FleetSignal]
