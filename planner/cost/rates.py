"""How fast an engine works calls off, in so few figures that they can be asked for every call and every engine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadRates:
    """The share of an engine's time that calls and their tokens take: prompts are read in full chunks, many calls
    decode at once."""

    prompt_token_s: float
    prompt_pair_s: float
    output_token_s: float
    output_context_s: float
    call_s: float = 0.0
    intake_token_s: float = 0.0

    def seconds(self, prompt_tokens: float, output_tokens: float, cached_tokens: float = 0.0) -> float:
        """Cached tokens are taken in and not read again; the others still look back at them."""
        prefill_s, decode_s = self.parts(prompt_tokens, output_tokens, cached_tokens)
        return prefill_s + decode_s

    def parts(self, prompt_tokens: float, output_tokens: float, cached_tokens: float = 0.0) -> tuple[float, float]:
        """The same in two: until the prompt is read, with what the call costs at all, and writing the answer."""
        reading = self._reading_s(prompt_tokens) - self._reading_s(cached_tokens)
        context = prompt_tokens + output_tokens / 2
        intake = self.call_s + self.intake_token_s * prompt_tokens
        return intake + reading, output_tokens * (self.output_token_s + context * self.output_context_s)

    def step_s(self, running: int, context_tokens: float) -> float:
        """A step in which so many calls, with so many tokens of KV in all, write a token each. The rates must be those
        beside so many."""
        return running * self.output_token_s + context_tokens * self.output_context_s

    def _reading_s(self, tokens: float) -> float:
        return tokens * (self.prompt_token_s + tokens * self.prompt_pair_s)
