"""Keeps the KV of agent programs on an unmodified vLLM: `vllm serve MODEL --scheduler-cls halo_vllm.Scheduler`.

`halo_vllm.policy` and `halo_vllm.programs` decide and need the standard library only; the rest needs vLLM.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halo_vllm.scheduler import Scheduler

__all__ = ["Scheduler"]


def __getattr__(name: str) -> Any:
    """vLLM is imported when the scheduler is asked for, not before."""
    if name != "Scheduler":
        raise AttributeError(f"module 'halo_vllm' has no attribute {name!r}")
    from halo_vllm.scheduler import Scheduler

    return Scheduler
