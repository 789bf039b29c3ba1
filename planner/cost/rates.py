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

    def seconds(self, prompt_tokens: float, output_tokens: float) -> float:
        reading = prompt_tokens * (self.prompt_token_s + prompt_tokens * self.prompt_pair_s)
        context = prompt_tokens + output_tokens / 2
        return self.call_s + reading + output_tokens * (self.output_token_s + context * self.output_context_s)
