"""What this engine's KV is worth, from what was measured while it ran."""

from halo_vllm.policy.meters import PrefillMeter, QueueingMeter
from halo_vllm.policy.worth import Worth, worth_of


class Measured:
    """Of an engine with `capacity_blocks` of `block_tokens` tokens each."""

    def __init__(self, capacity_blocks: int, block_tokens: int) -> None:
        self.prefill, self.queueing = PrefillMeter(), QueueingMeter()
        self.capacity_blocks, self.block_tokens = capacity_blocks, block_tokens

    def worth(self, context_blocks: int, own_blocks: int) -> Worth:
        tokens, own = context_blocks * self.block_tokens, own_blocks * self.block_tokens
        capacity = self.capacity_blocks * self.block_tokens
        return worth_of(capacity, self.prefill.cost(), tokens, own, self.queueing.miss_s())
