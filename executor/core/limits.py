"""The bounds the core keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from executor.core.working_sets import ADMISSION
from executor.policy.fairness import TenantShare
from halo_vllm.policy.admission import Limits as Admission


@dataclass(frozen=True, slots=True)
class Limits:
    """`active_programs` may run at once, and a quarter more of tenants that run fewer than their share of these
    (`executor.core.entering`); `shared_outputs` bounds the answers kept for programs still to come.

    At most `most_passes` calls of its job are preferred to one that waits.

    A call waits at most `no_engine_s` for an engine of its model to come back. An engine that fails `breaker_failures`
    times in a row is taken out until it answers a probe; calls of one program that may be the cause count once.

    Agents' conversations are let in by `admission`, as far as their KV fits; without it, all at once.

    `tenants` have what they may have by their names, those that are not there `any_tenant`.
    """

    active_programs: int = 512
    shared_outputs: int = 10_000
    no_engine_s: float = 300.0
    breaker_failures: int = 5
    most_passes: int = 512
    admission: Admission | None = ADMISSION
    tenants: Mapping[str, TenantShare] = field(default_factory=dict)
    any_tenant: TenantShare = TenantShare()  # noqa: RUF009 - frozen
