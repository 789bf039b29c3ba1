"""KV events of one engine over ZMQ, as vLLM publishes them. Needs the extra `kv-events`.

vllm serve ... --kv-events-config '{"enable_kv_cache_events": true, "publisher": "zmq",
                                    "endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5558"}'
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import zmq
import zmq.asyncio

from kvstore.kv_events import KvBatch
from kvstore.kv_sequence import Fresh, Missed, Sequence
from kvstore.kv_wire import decode_batch

#: Batches that wait here while the event loop is busy; vLLM's own default.
HIGH_WATER_MARK = 100_000
#: A busy engine answers between two of its steps; what comes meanwhile waits.
REPLAY_TIMEOUT_S = 30.0
_END = (-1).to_bytes(8, "big", signed=True)


class KvStream:
    """Reads until it is cancelled. What it missed is asked for at `replay_endpoint`, where there is one.

    `told` gets every batch once and in order. Before it, `lost` is called where batches are missing for good, or the
    engine was started again: what was known is then worth nothing. A message that is no batch counts as missed.
    """

    def __init__(
        self, endpoint: str, replay_endpoint: str, told: Callable[[KvBatch], None], lost: Callable[[], None]
    ) -> None:
        self._endpoint, self._replay_endpoint = endpoint, replay_endpoint
        self._told, self._lost = told, lost
        self._sequence = Sequence()
        self._context = zmq.asyncio.Context()

    async def __aenter__(self) -> Self:
        self._events = self._context.socket(zmq.SUB)
        self._events.set_hwm(HIGH_WATER_MARK)
        self._events.subscribe(b"")
        self._events.connect(self._endpoint)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._context.destroy(linger=0)

    async def run(self) -> None:
        while True:
            frames = await self._events.recv_multipart()
            batch = _batch_of(frames)
            if batch is not None:
                await self._arrived(batch)

    async def _arrived(self, batch: KvBatch) -> None:
        match self._sequence.arrived(batch.number):
            case Fresh():
                self._told(batch)
            case Missed(first, anew):
                await self._catch_up(first, anew, batch)

    async def _catch_up(self, first: int, anew: bool, batch: KvBatch) -> None:
        if anew:
            self._sequence.restart()
        batches = [*(earlier for earlier in await self._replay(first) if earlier.number < batch.number), batch]
        whole = self._sequence.replayed([each.number for each in batches])
        if anew or not whole:
            self._lost()
        for each in batches:
            self._told(each)

    async def _replay(self, first: int) -> list[KvBatch]:
        """What the engine still has from `first` on; nothing where it does not answer."""
        if not self._replay_endpoint:
            return []
        socket = self._context.socket(zmq.DEALER)
        socket.connect(self._replay_endpoint)
        try:
            async with asyncio.timeout(REPLAY_TIMEOUT_S):
                await socket.send_multipart((b"", first.to_bytes(8, "big")))
                return await _until_end(socket)
        except TimeoutError:
            return []
        finally:
            socket.close(linger=0)


async def _until_end(socket: "zmq.asyncio.Socket") -> list[KvBatch]:
    batches: list[KvBatch] = []
    while True:
        _, *frames = await socket.recv_multipart()
        if frames[1:2] == [_END]:
            return batches
        batch = _batch_of(frames)
        if batch is not None:
            batches.append(batch)


def _batch_of(frames: list[bytes]) -> KvBatch | None:
    """From topic, number and payload."""
    try:
        _, number, payload = frames
        return KvBatch(int.from_bytes(number, "big"), decode_batch(payload))
    except ValueError:
        return None
