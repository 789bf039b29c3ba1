"""What a fleet is to do, and how well: kinds of calls with their rates, and what they may take."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class CallClass:
    """Calls that are alike: on average `prompt_tokens`, of which the engine has `cached_tokens`, and `output_tokens`.

    A program makes `per_program` of them, and waits for `in_turn` one after another; without it, for all of them. They
    are the `tenant`'s; with `apart`, they go to engines that are kept for it and to no others. Where `model` is a LoRA
    adapter, `adapter_of` is the model whose weights it is computed with.
    """

    name: str
    model: str
    prompt_tokens: float
    output_tokens: float = field(hash=False)
    per_program: float = field(default=1.0, hash=False)
    cached_tokens: float = field(default=0.0, hash=False)
    in_turn: float | None = field(default=None, hash=False)
    tenant: str = ""
    apart: bool = field(default=False, hash=False)
    adapter_of: str = field(default="", hash=False)

    def __post_init__(self) -> None:
        assert min(self.prompt_tokens, self.output_tokens, self.per_program) > 0, self
        assert 0 <= self.cached_tokens <= self.prompt_tokens, self

    @property
    def turns(self) -> float:
        return self.per_program if self.in_turn is None else self.in_turn

    @property
    def weights(self) -> str:
        """The model that an engine has to have in its memory for them."""
        return self.adapter_of or self.model

    @property
    def prefill_tokens(self) -> float:
        """Those that have to be read: at least one."""
        return max(1.0, self.prompt_tokens - self.cached_tokens)


@dataclass(frozen=True, slots=True)
class Workload:
    """`programs_per_s` begin at random instants (Poisson), each making the `calls`. `origin` says where it is from."""

    programs_per_s: float
    calls: tuple[CallClass, ...]
    origin: str = ""

    @property
    def models(self) -> tuple[str, ...]:
        """Those whose weights are needed."""
        return tuple(dict.fromkeys(call.weights for call in self.calls))

    @property
    def tenants_apart(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(call.tenant for call in self.calls if call.apart))

    def rate(self, call: CallClass) -> float:
        """Calls of the class for each second."""
        return self.programs_per_s * call.per_program

    def of_model(self, model: str) -> Sequence[CallClass]:
        return [call for call in self.calls if call.weights == model]

    def only(self, calls: Sequence[CallClass]) -> "Workload":
        return replace(self, calls=tuple(calls))

    def of_tenant(self, tenant: str) -> "Workload":
        """With those calls the tenant's of which nobody is named."""
        return self.only([call if call.tenant else replace(call, tenant=tenant) for call in self.calls])

    def at(self, programs_per_s: float) -> "Workload":
        return replace(self, programs_per_s=programs_per_s)

    def times(self, factor: float) -> "Workload":
        return self.at(self.programs_per_s * factor)


@dataclass(frozen=True, slots=True)
class Slo:
    """What calls may take, each bound where it is given: `token_s` for each token after the first, `first_token_s` from
    when the call is ready to its first token, `call_s` to its last, `program_s` for all that a program waits for.

    `share` of the calls have to keep the bounds.
    """

    token_s: float | None = None
    first_token_s: float | None = None
    call_s: float | None = None
    program_s: float | None = None
    share: float = 0.95

    def __post_init__(self) -> None:
        assert 0 < self.share < 1, self

    @property
    def bounded(self) -> bool:
        return any(one is not None for one in (self.token_s, self.first_token_s, self.call_s, self.program_s))
