"""KV events over a real socket: in order, with gaps filled by replay, and honest where they cannot be."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

msgspec = pytest.importorskip("msgspec")
pytest.importorskip("zmq")

from zmq import SocketType  # noqa: E402
from zmq.asyncio import Context  # noqa: E402

from kvstore.kv_events import AllCleared, BlocksRemoved, BlocksStored, KvBatch  # noqa: E402
from kvstore.kv_sequence import Fresh, Missed, Sequence  # noqa: E402
from kvstore.kv_stream import KvStream  # noqa: E402
from kvstore.kv_wire import decode_batch  # noqa: E402


def batch(*events: object) -> bytes:
    return msgspec.msgpack.encode([1.5, list(events), 0])


def removed(*hashes: int) -> bytes:
    return batch({"type": "BlockRemoved", "block_hashes": hashes, "medium": "GPU"})


# The wire.


def test_events_are_read_by_name_and_by_position() -> None:
    by_name = {
        **{"type": "BlockStored", "block_hashes": [7, b"\x08"], "parent_block_hash": None, "token_ids": [1, 2]},
        **{"block_size": 2, "lora_id": None, "medium": "GPU", "lora_name": None, "session_id": "s", "new_field": 1},
    }
    by_position = ["BlockStored", [7, b"\x08"], None, [1, 2], 2, None, "GPU"]
    payload = batch(
        by_name, by_position, ["BlockRemoved", [7], "GPU"], ["AllBlocksCleared"], {"type": "AllBlocksCleared"}
    )
    assert decode_batch(payload) == (
        BlocksStored((7, 8), None, 2, "s"),
        BlocksStored((7, 8), None, 2),
        BlocksRemoved((7,)),
        AllCleared(),
        AllCleared(),
    )


def test_events_of_other_tiers_and_other_kinds_are_skipped() -> None:
    on_disk = {"type": "BlockRemoved", "block_hashes": [1], "medium": "STORAGE"}
    other_group = {"type": "BlockRemoved", "block_hashes": [1], "medium": "GPU", "group_idx": 1}
    assert decode_batch(batch(on_disk, other_group, {"type": "Invented"}, ["Invented"])) == ()


@pytest.mark.parametrize("payload", [b"", b"\xc1", msgspec.msgpack.encode({"ts": 1}), msgspec.msgpack.encode([1.0])])
def test_what_is_no_batch_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no batch"):
        decode_batch(payload)


# The numbers.


def test_a_gap_is_asked_for_and_an_engine_started_again_is_noticed() -> None:
    sequence = Sequence()
    assert [sequence.arrived(0), sequence.arrived(1), sequence.arrived(4)] == [Fresh(), Fresh(), Missed(2)]
    assert sequence.replayed([2, 3, 4])
    assert sequence.arrived(5) == Fresh()
    assert sequence.arrived(0) == Missed(0, anew=True)


def test_a_gap_that_is_not_filled_is_told() -> None:
    sequence = Sequence()
    assert sequence.arrived(9) == Missed(0)
    assert not sequence.replayed([5, 6, 7, 8, 9])
    assert sequence.arrived(10) == Fresh()


# The socket.


class Publisher:
    """Sends as vLLM's does: numbered batches, and those it kept on request."""

    def __init__(self, context: Any, keeps: int = 100) -> None:
        self._pub, self._router = context.socket(SocketType.PUB), context.socket(SocketType.ROUTER)
        self.port = self._pub.bind_to_random_port("tcp://127.0.0.1")
        self.replay_port = self._router.bind_to_random_port("tcp://127.0.0.1")
        self.kept: deque[tuple[int, bytes]] = deque(maxlen=keeps)
        self.number = 0

    async def send(self, payload: bytes, *, heard: bool = True) -> None:
        self.kept.append((self.number, payload))
        if heard:
            await self._pub.send_multipart((b"", self.number.to_bytes(8, "big"), payload))
        self.number += 1

    async def answer_replays(self) -> None:
        while True:
            client, _, first = await self._router.recv_multipart()
            for number, payload in self.kept:
                if number >= int.from_bytes(first, "big"):
                    await self._router.send_multipart((client, b"", b"", number.to_bytes(8, "big"), payload))
            await self._router.send_multipart((client, b"", b"", (-1).to_bytes(8, "big", signed=True), b""))


class Heard:
    def __init__(self) -> None:
        self.numbers: list[int | str] = []
        self.removed: list[object] = []

    def told(self, batch: KvBatch) -> None:
        self.numbers.append(batch.number)
        self.removed += [block for event in batch.events if isinstance(event, BlocksRemoved) for block in event.hashes]

    def lost(self) -> None:
        self.numbers.append("lost")

    async def until(self, done: Callable[["Heard"], bool]) -> None:
        async with asyncio.timeout(60):
            while not done(self):
                await asyncio.sleep(0.005)


@contextmanager
def sockets() -> Iterator[Any]:
    context = Context()
    yield context
    context.destroy(linger=0)


@asynccontextmanager
async def listening(publisher: Publisher, heard: Heard, *, replays: bool = True) -> AsyncIterator[None]:
    """Until the first batch was heard: a subscriber that has just connected hears nothing yet."""
    replay = f"tcp://127.0.0.1:{publisher.replay_port}" if replays else ""
    async with KvStream(f"tcp://127.0.0.1:{publisher.port}", replay, heard.told, heard.lost) as stream:
        tasks = [asyncio.create_task(stream.run()), asyncio.create_task(publisher.answer_replays())]
        while not heard.numbers:
            await publisher.send(batch())
            await asyncio.sleep(0.01)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_batches_sent_before_the_first_that_was_heard_are_replayed() -> None:
    with sockets() as context:
        publisher, heard = Publisher(context), Heard()
        await publisher.send(removed(1), heard=False)
        await publisher.send(removed(2), heard=False)
        async with listening(publisher, heard):
            assert heard.removed == [1, 2]
            assert heard.numbers == list(range(len(heard.numbers)))


async def test_a_gap_is_filled_before_what_comes_after_it() -> None:
    with sockets() as context:
        publisher, heard = Publisher(context), Heard()
        async with listening(publisher, heard):
            await publisher.send(removed(1))
            await publisher.send(removed(2), heard=False)
            await publisher.send(removed(3), heard=False)
            await publisher.send(removed(4))
            await heard.until(lambda heard: len(heard.removed) == 4)
    assert heard.removed == [1, 2, 3, 4]
    assert "lost" not in heard.numbers


@pytest.mark.parametrize("replays", [True, False])
async def test_what_is_missing_for_good_is_told_first(replays: bool) -> None:
    with sockets() as context:
        publisher, heard = Publisher(context, keeps=2), Heard()
        async with listening(publisher, heard, replays=replays):
            heard.numbers.clear()
            for block in range(5):
                await publisher.send(removed(block), heard=False)
            await publisher.send(removed(5))
            await heard.until(lambda heard: 5 in heard.removed)
    assert heard.numbers[0] == "lost"
    assert heard.removed == ([4, 5] if replays else [5])


async def test_an_engine_started_again_begins_anew() -> None:
    with sockets() as context:
        publisher, heard = Publisher(context), Heard()
        async with listening(publisher, heard):
            await publisher.send(removed(1))
            await heard.until(lambda heard: 1 in heard.removed)
            publisher.number = 0
            publisher.kept.clear()
            heard.numbers.clear()
            await publisher.send(removed(2))
            await heard.until(lambda heard: 2 in heard.removed)
            assert heard.numbers == ["lost", 0]


async def test_what_is_no_batch_is_replayed_or_skipped() -> None:
    with sockets() as context:
        publisher, heard = Publisher(context), Heard()
        async with listening(publisher, heard):
            await publisher.send(b"nonsense")
            await publisher.send(removed(1))
            await heard.until(lambda heard: 1 in heard.removed)
