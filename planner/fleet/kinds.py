"""Kinds of engines that a fleet may be made of: how fast one is, what it has room for, what it costs and draws."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray

from planner.cost.gpus import Gpu
from planner.cost.model import Replica, kv_tokens, look_back_seconds, mixed_seconds, prefill_seconds
from planner.cost.profile import Profile
from planner.fleet.workload import CallClass

#: vLLM's default bound on the calls of one engine that are computed together.
MAX_RUNNING = 256
DEGREES = (1, 2, 4, 8)

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EngineKind:
    """One engine that serves `model` on `replica`; with a `profile` it is as fast as that was measured to be.

    `name` tells kinds apart. `kv_room_tokens` is what its KV cache holds. With `only` it is kept for calls of that
    class, with `tenants` for theirs. It serves `adapters` beside its model.
    """

    name: str
    model: str
    replica: Replica = field(hash=False)  # names differ where these do: hashing is most of a search otherwise
    usd_per_hour: float = field(hash=False)
    profile: Profile | None = field(default=None, repr=False, hash=False)
    kv_room_tokens: int = field(default=0, hash=False)
    max_running: int = field(default=MAX_RUNNING, hash=False)
    only: CallClass | None = None
    tenants: tuple[str, ...] = ()
    adapters: tuple[str, ...] = field(default=(), hash=False)

    def takes(self, call: CallClass) -> bool:
        return self.only in (None, call) and self.serves(call)

    def serves(self, call: CallClass) -> bool:
        """Whether it has the model or adapter, and is there for the tenant."""
        if call.model != self.model and call.model not in self.adapters:
            return False
        return call.tenant in self.tenants if self.tenants else not call.apart

    @property
    def gpu(self) -> Gpu:
        return self.replica.gpu

    @property
    def gpus(self) -> int:
        return self.replica.degree

    @property
    def kv_tokens(self) -> int:
        if self.kv_room_tokens:
            return self.kv_room_tokens
        return self.profile.kv_tokens if self.profile is not None else kv_tokens(self.replica)

    def prefill_s(self, call: CallClass) -> float:
        """Reading what of the prompt is not cached, alone."""
        if self.profile is None:
            return prefill_seconds(self.replica, call.prompt_tokens, call.cached_tokens)
        return _profiled_prefill_s(self.profile, call.prompt_tokens, call.prefill_tokens)

    def step_s(self, running: float, context_tokens: float, prompt_tokens: float = 0.0) -> float:
        """One step in which each of `running` calls writes a token and so many of other prompts are read."""
        if self.profile is None:
            return mixed_seconds(self.replica, context_tokens, running, prompt_tokens)
        profile, read = self.profile, running * context_tokens
        return profile.matrix_s(running + prompt_tokens) + profile.sequence_s * running + profile.kv_read_s * read

    def steps_s(self, running: _Floats, context_tokens: float, prompt_tokens: _Floats) -> _Floats:
        """`step_s` of many steps at once."""
        if self.profile is None:
            return mixed_seconds(self.replica, context_tokens, running, prompt_tokens)
        pairs = zip(running.tolist(), prompt_tokens.tolist(), strict=True)
        return np.array([self.step_s(calls, context_tokens, read) for calls, read in pairs])

    def look_back_s(self, call: CallClass) -> float:
        """What reading a prompt takes beside its tokens' share of steps."""
        if self.profile is None:
            return look_back_seconds(self.replica, call.prompt_tokens, call.cached_tokens)
        look_back_s = _profiled_look_back_s(self.profile, call.prompt_tokens, call.prefill_tokens)
        return _profiled_intake_s(self.profile, call.prompt_tokens) + look_back_s


def kinds_of(
    model: str, shape_of: Replica, gpus: Mapping[str, tuple[Gpu, float]], degrees: Sequence[int] = DEGREES
) -> Iterator[EngineKind]:
    """Every kind on which the model of `shape_of` leaves room for KV; `gpus` have dollars for an hour beside them."""
    for name, (gpu, usd) in gpus.items():
        for degree in degrees:
            replica = Replica(gpu, shape_of.shape, degree)
            if kv_tokens(replica) > 0:
                yield EngineKind(f"{degree} x {name}" if degree > 1 else name, model, replica, degree * usd)


def _profiled_prefill_s(profile: Profile, prompt_tokens: float, new: float) -> float:
    """In full chunks, as `Profile.step_s` takes them; without chunks in one step."""
    chunk = profile.step_tokens if profile.chunked else max(new, 1.0)
    whole, rest = divmod(new, chunk)
    seconds = whole * profile.matrix_s(chunk) + (profile.matrix_s(rest) if rest else 0.0)
    steps = ceil(new / chunk)
    intake_s = _profiled_intake_s(profile, prompt_tokens)
    return seconds + steps * profile.sequence_s + intake_s + _profiled_look_back_s(profile, prompt_tokens, new)


def _profiled_intake_s(profile: Profile, prompt_tokens: float) -> float:
    return profile.call_s + profile.intake_token_s * prompt_tokens


def _profiled_look_back_s(profile: Profile, prompt_tokens: float, new: float) -> float:
    """Within the chunks of a prompt, and from each to what was read before."""
    chunk = profile.step_tokens if profile.chunked else max(new, 1.0)
    within = new * min(new, chunk) / 2
    behind = new * (prompt_tokens - new) + max(0.0, new * (new - chunk) / 2)
    look_back = profile.attend_s if profile.look_back_s is None else profile.look_back_s
    return profile.attend_s * within + look_back * behind
