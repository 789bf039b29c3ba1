"""Time spans as users write them."""

import math
import re

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")


def seconds(duration: str | float) -> float:
    """`"300s"`, `"150ms"`, `"5m"`, `"1h"`, `"30d"`, or a number of seconds. Raises `ValueError` for anything else."""
    if isinstance(duration, str):
        found = _WRITTEN.fullmatch(duration)
        if found is None:
            raise ValueError(f"{duration!r} is not a time span")
        duration = float(found[1]) * _UNITS_S[found[2]]
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        raise ValueError(f"{duration!r} is not a time span")
    if not math.isfinite(duration) or duration <= 0:
        raise ValueError(f"{duration!r} is not a time span above zero")
    return float(duration)
