"""What it takes to have another model, or a conversation's KV, on an engine: bytes over the slowest way they go."""

from enum import Enum

from planner.cost.model import Replica, prefill_seconds

#: Of a bus's peak that large copies reach; an assumption between the 75 and 85 % that copies from pinned memory show.
BUS_EFFICIENCY = 0.8
#: A local NVMe disk, reading; an assumption.
DISK_GB_PER_S = 3.0
#: What an engine takes to start, beside reading weights: processes, memory plan, graphs. An assumption.
COLD_START_S = 20.0


class WeightsAt(Enum):
    """Where a model's weights are before it is wanted."""

    ENGINE = "engine"
    HOST = "host"  # in pinned memory beside the GPUs, the engine asleep
    DISK = "disk"  # the engine must be started


def switch_seconds(replica: Replica, weights_at: WeightsAt, disk_gb_per_s: float = DISK_GB_PER_S) -> float:
    """Until the replica can serve. From host memory each GPU loads its own part, at once; a disk is one for all."""
    weights = replica.shape.weights * replica.shape.weight_bytes
    match weights_at:
        case WeightsAt.ENGINE:
            return 0.0
        case WeightsAt.HOST:
            return weights / replica.degree / _bus_bytes_per_s(replica)
        case WeightsAt.DISK:
            return COLD_START_S + weights / min(disk_gb_per_s * 1e9, replica.degree * _bus_bytes_per_s(replica))


def kv_back_seconds(replica: Replica, tokens: float, link_gb_per_s: float | None = None) -> float:
    """Until `tokens` of a prefix are in the replica's KV again: fetched over the link (without one, from host memory)
    or computed again, whichever is less."""
    size = tokens * replica.shape.kv_bytes_per_token
    rate = replica.degree * _bus_bytes_per_s(replica) if link_gb_per_s is None else link_gb_per_s * 1e9
    return min(size / rate, prefill_seconds(replica, tokens)) if tokens > 0 else 0.0


def _bus_bytes_per_s(replica: Replica) -> float:
    return BUS_EFFICIENCY * replica.gpu.host_gb_per_s * 1e9
