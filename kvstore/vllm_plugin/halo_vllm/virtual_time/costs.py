"""How long a step of the engine takes."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """What one step does. `context_tokens` are those that the decoding sequences attend to, all together.

    Prompts look back: `chunk_pairs` are the pairs of tokens within what the step reads of each, `backward_pairs` those
    with tokens before it. `begun` sequences, with prompts of `intake_tokens` in all, are in their first step. The
    engine had nothing to do for `idle_s` before.
    """

    prefill_tokens: int
    decode_sequences: int
    context_tokens: int
    prefill_sequences: int = 0
    begun: int = 0
    chunk_pairs: float = 0.0
    backward_pairs: int = 0
    intake_tokens: int = 0
    idle_s: float = 0.0


#: Seconds.
Costs = Callable[[Step], float]


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Linear in what a step does. The default was fitted to the CPU vLLM with a model of 4 million parameters."""

    step_s: float = 3.5e-3
    prefill_token_s: float = 0.11e-3
    decode_sequence_s: float = 0.14e-3
    context_token_s: float = 0.43e-6

    def __call__(self, step: Step) -> float:
        return (
            self.step_s
            + self.prefill_token_s * step.prefill_tokens
            + self.decode_sequence_s * step.decode_sequences
            + self.context_token_s * step.context_tokens
        )

    @property
    def prefill_tokens_per_s(self) -> float:
        return 1.0 / self.prefill_token_s
