"""What may have been meant by a name that is not known."""

import difflib
from collections.abc import Iterable

_LONGEST_NAME = 100
_LOOKED_AT, _LISTED = 1000, 20


def advice(name: str, known: Iterable[str]) -> str:
    """The known name that is close to `name`, else those there are: a fix to be told."""
    names = sorted(known)
    close = closest(name, names)
    if close is not None:
        return f"did you mean {close!r}?"
    return f"there are: {', '.join(names[:_LISTED])}" if names else "there are none here"


def hint(name: str, known: Iterable[str]) -> str:
    """What follows the name of something unknown: `; did you mean ...?`, or nothing where no known name is close."""
    close = closest(name, known)
    return "" if close is None else f"; did you mean {close!r}?"


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if any is. Both may come from anybody, so only so much is looked at."""
    found = difflib.get_close_matches(name[:_LONGEST_NAME], list(known)[:_LOOKED_AT], n=1)
    return found[0] if found else None
