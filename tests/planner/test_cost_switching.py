"""What it takes to change what an engine holds."""

import pytest

from planner.cost.model import Replica, replica_for
from planner.cost.switching import COLD_START_S, WeightsAt, adapter_seconds, switch_seconds

A100 = replica_for("A100", "Llama-3-8B")
H100 = replica_for("H100", "Llama-3-8B")


def test_a_model_that_is_there_costs_nothing_and_one_in_host_memory_a_copy():
    assert switch_seconds(A100, WeightsAt.ENGINE) == 0.0
    # 16 GB over 16 lanes of PCIe 4 at 80 %
    assert switch_seconds(A100, WeightsAt.HOST) == pytest.approx(16.06e9 / (0.8 * 32e9), rel=0.01)
    assert switch_seconds(H100, WeightsAt.HOST) == pytest.approx(switch_seconds(A100, WeightsAt.HOST) / 2)


def test_each_gpu_of_a_group_loads_its_own_part():
    pair = replica_for("A100", "Llama-3-70B", 4)
    single = replica_for("A100", "Llama-3-70B", 1)
    assert switch_seconds(pair, WeightsAt.HOST) == pytest.approx(switch_seconds(single, WeightsAt.HOST) / 4)


def test_from_disk_the_engine_starts_too():
    assert switch_seconds(A100, WeightsAt.DISK) > COLD_START_S + switch_seconds(A100, WeightsAt.HOST)
    fast = switch_seconds(A100, WeightsAt.DISK, disk_gb_per_s=100.0)
    assert fast == pytest.approx(COLD_START_S + switch_seconds(A100, WeightsAt.HOST))


def test_an_adapter_takes_milliseconds_and_each_gpu_all_of_it() -> None:
    pair = Replica(A100.gpu, A100.shape, 2)
    assert adapter_seconds(A100) == pytest.approx(32 * 16 * 81_920 * 2 / (0.8 * 32e9))
    assert adapter_seconds(pair) == adapter_seconds(A100) == adapter_seconds(A100, rank=32) / 2
