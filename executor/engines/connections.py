"""Connections to the web servers of engines: what both clients of vLLM agree on."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp

CONNECT_TIMEOUT_S = 10.0
#: vLLM's web server closes a connection that was idle for 5 s; ours let go of it before that.
KEEPALIVE_S = 4.0
#: A connection the server had closed already fails before the request can have been worked on.
STALE_WITHIN_S = 1.0
#: aiohttp warns of larger bodies given as bytes: they would block the loop while they are copied.
LARGE_BODY_BYTES = 1024 * 1024


@dataclass(slots=True)
class Attempt:
    """What the connection pool tells of one request, given to it as `trace_request_ctx`."""

    on_used_connection: bool = False


def open_connections(headers: Mapping[str, str]) -> aiohttp.ClientSession:
    """A pool without a bound: the scheduler bounds the calls. Wants a running loop."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_used_connection)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        trace_configs=[trace],
    )


async def _note_used_connection(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.on_used_connection = True
