"""How long a step of the engine takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Linear in what a step does. The default was fitted to the CPU vLLM with a model of 4 million parameters."""

    step_s: float = 3.5e-3
    prefill_token_s: float = 0.11e-3
    decode_sequence_s: float = 0.14e-3
    context_token_s: float = 0.43e-6

    def __call__(self, prefill_tokens: int, decode_sequences: int, context_tokens: int) -> float:
        """Seconds. `context_tokens` are those that the decoding sequences attend to, all together."""
        return (
            self.step_s
            + self.prefill_token_s * prefill_tokens
            + self.decode_sequence_s * decode_sequences
            + self.context_token_s * context_tokens
        )

    @property
    def prefill_tokens_per_s(self) -> float:
        return 1.0 / self.prefill_token_s
