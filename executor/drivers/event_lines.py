"""Server-sent events, one by one, as they come over the wire."""

import re
from collections.abc import AsyncIterator

from pydantic_core import from_json

from planner.ir.values import Json

_END = re.compile(rb"\r?\n\r?\n")
DONE = b"data: [DONE]\n\n"


async def whole_events(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each as it was sent, with the empty line that ends it; what was broken off in the middle is left out."""
    rest = b""
    async for part in content:
        rest += part
        while end := _END.search(rest):
            yield rest[: end.end()]
            rest = rest[end.end() :]


def data_of(event: bytes) -> dict[str, Json] | None:
    """The JSON object an event carries; None for comments, for the end, and for whatever else."""
    lines = [line[5:] for line in event.splitlines() if line.startswith(b"data:")]
    try:
        data = from_json(b"\n".join(lines)) if lines else None
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
