"""Stories that need a deadline of their own, told on machines that may stall: longer and longer, until they hold."""

from collections.abc import Awaitable, Callable, Sequence

import pytest

#: Each is as much longer than the last stall as a story may need.
PACES = (1.0, 5.0, 25.0)


async def at_some_pace(story: Callable[[float], Awaitable[None]], paces: Sequence[float] = PACES) -> None:
    """`story` with all its times so many times as long: the first that holds will do, and the last must.

    What holds for no pace is no matter of speed. A story may be told again from its beginning, so it must clean up.
    """
    for pace in paces[:-1]:
        try:
            return await story(pace)
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever a stall makes of it; the last tells
            continue
    return await story(paces[-1])
