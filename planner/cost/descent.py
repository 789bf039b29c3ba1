"""Fitting coefficients that must stay positive: Gauss-Newton with damping (Levenberg-Marquardt) on their logarithms.

The errors are weighted so that it is their mean absolute value that falls, which a few wild measurements do not move;
those so small that they are noise count by their squares, so that many are met half-way and not some exactly (Huber).
The same errors always give the same coefficients.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDS = 60
_TRIALS = 8  # of more damping, before the search ends
_LEAP = 1.0  # no coefficient moves by more than a factor of e in a round
_STEP = 1e-4
_NOISE = 1e-2
_PRIOR = 1e-6  # keeps a coefficient that the samples say nothing about where it was


def least_errors(
    errors: Callable[[Floats], Floats], coefficients: int, prior: float = _PRIOR, noise: float = _NOISE
) -> Floats:
    """The offsets of the logarithms at which the mean absolute error is least, or near it; the search begins at 0.

    `errors` gives relative errors at offsets, of which measurements have so much `noise`; `prior` weighs the squares of
    these. No round is taken that does not lower the mean.
    """
    cost = _Cost(errors, prior, noise)
    found: Floats = np.zeros(coefficients)
    damping, least = 1e-2, cost.at(found)
    for _ in range(_ROUNDS):
        normal, slope = cost.linear(found)
        for _ in range(_TRIALS):
            trial = found + _step(normal, slope, damping)
            if (reached := cost.at(trial)) < least:
                break
            damping *= 4
        else:
            return found
        found, least, damping = trial, reached, max(damping / 5, 1e-8)
    return found


class _Cost:
    def __init__(self, errors: Callable[[Floats], Floats], prior: float, noise: float) -> None:
        self._errors, self._prior, self._noise = errors, prior, noise

    def at(self, offsets: Floats) -> float:
        off = np.abs(self._errors(offsets))
        counted = np.where(off > self._noise, off, (off * off / self._noise + self._noise) / 2)
        return float(counted.mean() + self._prior * offsets @ offsets)

    def linear(self, found: Floats) -> tuple[Floats, Floats]:
        """The normal matrix and the slope of the weighted squares; the weights turn squares into absolute values."""
        here = self._errors(found)
        steps = _STEP * np.eye(len(found))
        jacobian = np.stack([(self._errors(found + step) - here) / _STEP for step in steps], axis=1)
        weights = 1 / np.maximum(np.abs(here), self._noise) / len(here)
        normal = jacobian.T @ (weights[:, None] * jacobian) + self._prior * np.eye(len(found))
        return normal, jacobian.T @ (weights * here) + self._prior * found


def _step(normal: Floats, slope: Floats, damping: float) -> Floats:
    damped = normal + damping * np.diag(np.diag(normal))
    return np.clip(np.linalg.solve(damped, -slope), -_LEAP, _LEAP)
