"""What a step of one engine takes, as a handful of coefficients, and what else of it decides how long a job lasts.

Both who plans and who simulates works with it: load rates for routing come from here, and the modelled engine takes
its steps by it. `executor.engines.model.fit` finds the coefficients of a real engine.
"""

from dataclasses import dataclass, fields, replace
from math import ceil

from planner.cost.rates import LoadRates
from planner.ir.tokens import CHARS_PER_TOKEN

_STEP_OVERHEAD_S = 0.0015  # scheduling, launching and sampling; an assumption
#: Idle for so long, an engine is as slow to begin again as it gets: its caches hold what others left there, its cores
#: doze. Of a CPU vLLM, calls took about 10 % longer after rests from 30 ms to 0.3 s, and hardly longer after 5 ms.
_DOZES_AFTER_S = 0.03


@dataclass(frozen=True, slots=True)
class Profile:
    """The parameters of a step's time. `calibrated` ones are fitted to measurements, which `source` names.

    A step reads all weights (`weights_s`) and multiplies each token with them (`token_s`); the two overlap, the more
    so the greater `blend` is (a p-norm: the smooth roofline). To that come `overhead_s`, `sequence_s` for each call in
    it, `call_s` for each call that begins and `intake_token_s` for each token of its prompt, cached ones too (both are
    its intake, which on a CPU takes the engine's own cores: a request is read and its blocks are named whatever of it
    is known), the KV of every running call (`kv_read_s` a token), and prompt tokens looking back: `attend_s` for each
    pair within a chunk, `look_back_s` for each with a token that was in the KV before (without it, the same).
    `wake_s` comes to the step that an idle engine begins with. `round_trip_s` passes outside the engine, once a call.

    Without `chunked` prefill a prompt is read in one step or waits. A text of n characters is `template_tokens +
    n / chars_per_token` tokens. `error` is the mean absolute relative one on calls the fit has not seen.
    """

    gpu: str
    source: str
    calibrated: bool
    weights_s: float
    token_s: float
    blend: float
    kv_read_s: float
    attend_s: float
    kv_tokens: int
    overhead_s: float = _STEP_OVERHEAD_S
    block_tokens: int = 16
    step_tokens: int = 2048
    sequence_s: float = 0.0
    call_s: float = 0.0
    intake_token_s: float = 0.0
    wake_s: float = 0.0
    round_trip_s: float = 0.0
    look_back_s: float | None = None
    chunked: bool = True
    chars_per_token: float = CHARS_PER_TOKEN
    template_tokens: float = 0.0
    error: float | None = None

    @property
    def kv_blocks(self) -> int:
        return self.kv_tokens // self.block_tokens

    @property
    def block_characters(self) -> int:
        return max(1, round(self.block_tokens * self.chars_per_token))

    def quicker(self, times: float) -> "Profile":
        """One of an engine that does everything so many times as quickly."""
        seconds = {name: getattr(self, name) / times for name in _SECONDS}
        look_back_s = None if self.look_back_s is None else self.look_back_s / times
        return replace(self, **seconds, look_back_s=look_back_s)

    def matrix_s(self, tokens: float) -> float:
        """The part of a step that depends on how many tokens are in it, overhead included."""
        p = self.blend
        return self.overhead_s + float((self.weights_s**p + (tokens * self.token_s) ** p) ** (1 / p))

    def step_s(
        self,
        tokens: int,
        calls: int,
        begun: int,
        kv_reads: int,
        pairs: float,
        backward: float = 0.0,
        intake_tokens: int = 0,
    ) -> float:
        """A step of `tokens` in all, for `calls`, of which `begun` are new, with prompts of `intake_tokens`; `kv_reads`
        are tokens looked back at while decoding, `pairs` the pairs of tokens within the chunks of prompts, `backward`
        those with tokens before them."""
        look_back_s = self.attend_s if self.look_back_s is None else self.look_back_s
        reading = self.kv_read_s * kv_reads + self.attend_s * pairs + look_back_s * backward
        intake = self.call_s * begun + self.intake_token_s * intake_tokens
        return self.matrix_s(tokens) + self.sequence_s * calls + intake + reading

    def waking_s(self, idle_s: float) -> float:
        """What a step takes longer that begins after the engine had nothing to do for so long."""
        return self.wake_s * min(1.0, idle_s / _DOZES_AFTER_S)

    def text_tokens(self, characters: int) -> int:
        """The estimated tokens of a prompt of so many characters; at least 1."""
        return max(1, ceil(self.template_tokens + characters / self.chars_per_token))

    def load_rates(self, running: float) -> LoadRates:
        """The share of the engine's time that a call's tokens take when prompts fill steps and `running` calls decode
        beside each other."""
        return LoadRates(
            prompt_token_s=self.matrix_s(self.step_tokens) / self.step_tokens,
            prompt_pair_s=self.attend_s / 2,
            output_token_s=self.matrix_s(running) / running + self.sequence_s,
            output_context_s=self.kv_read_s,
            call_s=self.call_s,
            intake_token_s=self.intake_token_s,
        )


_SECONDS = tuple(field.name for field in fields(Profile) if field.name.endswith("_s") and field.name != "look_back_s")
