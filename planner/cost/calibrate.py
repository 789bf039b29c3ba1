"""From measured times to the coefficients of a GPU, and how far off they are.

The search (`planner.cost.descent`) is for the least mean absolute relative error. The same samples always give the same
coefficients.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp

import numpy as np

from planner.cost.descent import Floats, least_errors
from planner.cost.gpus import Gpu
from planner.cost.model import Replica, call_seconds, layer_seconds
from planner.cost.shapes import ModelShape

_OF_LAYERS = ("compute", "memory", "blend", "launch_s")
_OF_CALLS = ("compute", "memory", "attention", "step_s")
_MOST_BLEND = 20.0  # the maximum, for all that can be measured


@dataclass(frozen=True, slots=True)
class LayerSample:
    """Measured seconds of the token-level operators of one layer, on one GPU of a group of `degree`."""

    shape: ModelShape
    degree: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CallSample:
    """Measured seconds of one finished call; `running` calls, itself included, ran beside each other."""

    shape: ModelShape
    degree: int
    prompt_tokens: int
    output_tokens: int
    seconds: float
    cached_tokens: int = 0
    running: float = 1.0


Samples = Sequence[LayerSample] | Sequence[CallSample]


@dataclass(frozen=True, slots=True)
class Fit:
    """`gpu` with its new coefficients, calibrated. Errors are mean absolute relative ones: 0.05 is 5 %.

    `held_out_error` is over samples the fit has not seen; `None` where none were given.
    """

    gpu: Gpu
    samples: int
    error: float
    held_out_error: float | None


def calibrate(gpu: Gpu, samples: Samples, held_out: Samples = (), source: str = "") -> Fit:
    """The coefficients with which the model comes closest to `samples`; the search begins at those of `gpu`.

    Layers tell of matrix products, calls of attention and the engine's own time too. `samples` are not empty and all of
    one kind; all seconds are above 0.
    """
    assert samples
    names = _OF_LAYERS if isinstance(samples[0], LayerSample) else _OF_CALLS
    errors = _errors_of(samples)
    offsets = least_errors(lambda offsets: errors(_moved(gpu, names, offsets)), len(names))
    fitted = replace(_moved(gpu, names, offsets), calibrated=True, source=source or gpu.source)
    return Fit(fitted, len(samples), mean_error(fitted, samples), mean_error(fitted, held_out) if held_out else None)


def mean_error(gpu: Gpu, samples: Samples) -> float:
    """The mean absolute relative error of what the model says of `samples`."""
    return float(np.abs(_errors_of(samples)(gpu)).mean())


def _moved(gpu: Gpu, names: Sequence[str], offsets: Floats) -> Gpu:
    """`gpu` with each named coefficient multiplied by the exponential of its offset, within its bounds."""
    before = gpu.efficiency
    factors = zip(names, map(exp, offsets.tolist()), strict=True)
    return replace(gpu, efficiency=replace(before, **{n: _scaled(n, getattr(before, n), f) for n, f in factors}))


def _scaled(name: str, coefficient: float, factor: float) -> float:
    if name == "blend":
        return min(_MOST_BLEND, 1 + (coefficient - 1) * factor)
    return coefficient * factor if name.endswith("_s") else min(1.0, coefficient * factor)


def _errors_of(samples: Samples) -> Callable[[Gpu], Floats]:
    """The relative errors of all samples as a function of the GPU; layers of one shape are predicted at once."""
    assert all(sample.seconds > 0 for sample in samples)
    calls = [sample for sample in samples if isinstance(sample, CallSample)]
    groups: dict[tuple[ModelShape, int], list[LayerSample]] = {}
    for sample in samples:
        if isinstance(sample, LayerSample):
            groups.setdefault((sample.shape, sample.degree), []).append(sample)
    layers = [_Layers(shape, degree, group) for (shape, degree), group in groups.items()]
    return lambda gpu: np.concatenate([_call_errors(gpu, calls), *(group.errors(gpu) for group in layers)])


class _Layers:
    def __init__(self, shape: ModelShape, degree: int, samples: Sequence[LayerSample]) -> None:
        self._shape, self._degree = shape, degree
        self._tokens = np.array([sample.tokens for sample in samples], float)
        self._seconds = np.array([sample.seconds for sample in samples], float)

    def errors(self, gpu: Gpu) -> Floats:
        predicted = layer_seconds(Replica(gpu, self._shape, self._degree), self._tokens)
        errors: Floats = predicted / self._seconds - 1
        return errors


def _call_errors(gpu: Gpu, calls: Sequence[CallSample]) -> Floats:
    return np.array([_predicted(gpu, call) / call.seconds - 1 for call in calls], float)


def _predicted(gpu: Gpu, call: CallSample) -> float:
    replica = Replica(gpu, call.shape, call.degree)
    return call_seconds(replica, call.prompt_tokens, call.output_tokens, call.cached_tokens, call.running).p50
