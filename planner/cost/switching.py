"""What it takes to have another model or adapter on an engine: bytes over the slowest way they go."""

from enum import Enum

from planner.cost.model import Replica

#: Of a bus's peak that large copies reach; an assumption between the 75 and 85 % that copies from pinned memory show.
BUS_EFFICIENCY = 0.8
#: A local NVMe disk, reading; an assumption.
DISK_GB_PER_S = 3.0
#: What an engine takes to start, beside reading weights: processes, memory plan, graphs. An assumption.
COLD_START_S = 20.0
#: Of a LoRA adapter: vLLM's default for the most that it has room for (`--max-lora-rank`).
ADAPTER_RANK = 16


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


def adapter_seconds(replica: Replica, rank: int = ADAPTER_RANK) -> float:
    """Until a replica that serves the adapter's model has it in its GPUs too, from the host's memory where vLLM keeps
    those it was started with. Each GPU loads all of it: vLLM does not cut adapters unless told."""
    return replica.shape.adapter_bytes(rank) / _bus_bytes_per_s(replica)


def _bus_bytes_per_s(replica: Replica) -> float:
    return BUS_EFFICIENCY * replica.gpu.host_gb_per_s * 1e9
