"""The bounds the door keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from executor.core.working_sets import ADMISSION
from executor.policy.fairness import TenantShare
from halo_vllm.policy.admission import Limits as Admission


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """At most `waiting` calls of one tenant wait for an engine, or are held; more are refused.

    At most `most_passes` calls of its tenant are sent before one that came earlier, whatever program it is of; tenants
    have engines' time by their shares in `tenants`, those that are not there by `any_tenant`. A call waits at most
    `no_engine_s` for an engine of its model to come back. An engine that fails `breaker_failures` times in a row is
    taken out until it answers a probe; calls of one program that may be the cause count once. Programs and their
    conversations are remembered for `idle_s` after their last call, at most `programs` and `conversations` of them.
    Programs are let in by `admission`, as far as their KV fits; without it, all at once.
    """

    waiting: int = 1024
    most_passes: int = 512
    no_engine_s: float = 30.0
    breaker_failures: int = 5
    programs: int = 20_000
    conversations: int = 50_000
    idle_s: float = 3600.0
    admission: Admission | None = ADMISSION
    tenants: Mapping[str, TenantShare] = field(default_factory=dict)
    any_tenant: TenantShare = TenantShare()  # noqa: RUF009 - frozen
