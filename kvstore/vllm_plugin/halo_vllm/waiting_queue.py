"""vLLM's waiting queue in program order, with calls in it that admission holds back."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request

Key = Callable[[Request], tuple[Any, ...]]


class ProgramQueue(RequestQueue):
    """Requests ordered by `key`. Those for which `ready` is false are counted, but not offered until `release`; nor is
    the first one while it may not start, nor those behind it."""

    def __init__(self, key: Key, ready: Callable[[Request], bool], may_start: Callable[[Request], bool]) -> None:
        self._key, self._ready, self._may_start = key, ready, may_start
        self._heap: list[tuple[tuple[Any, ...], int, Request]] = []
        self._held: dict[str, Request] = {}
        self._added = 0

    @property
    def ready(self) -> int:
        return len(self._heap)

    @property
    def held(self) -> int:
        return len(self._held)

    def release(self, request_id: str) -> None:
        """The request is ready now."""
        request = self._held.pop(request_id, None)
        if request is not None:
            self._push(request)

    def replace(self, request_id: str) -> None:
        """The request's key is another now."""
        ready = [entry[2] for entry in self._heap if entry[2].request_id == request_id]
        if ready:
            self.remove_requests(ready)
            self._push(ready[0])

    def add_request(self, request: Request) -> None:
        if self._ready(request):
            self._push(request)
        else:
            self._held[request.request_id] = request

    def pop_request(self) -> Request:
        return heapq.heappop(self._heap)[2]

    def peek_request(self) -> Request:
        return self._heap[0][2]

    def prepend_request(self, request: Request) -> None:
        self.add_request(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.add_request(request)

    def remove_request(self, request: Request) -> None:
        self.remove_requests([request])

    def remove_requests(self, requests: Iterable[Request]) -> None:
        gone = {request.request_id for request in requests}
        self._heap = [entry for entry in self._heap if entry[2].request_id not in gone]
        heapq.heapify(self._heap)
        for request_id in gone & self._held.keys():
            del self._held[request_id]

    def __bool__(self) -> bool:
        """Whether there is one to start now."""
        return bool(self._heap) and self._may_start(self._heap[0][2])

    def __len__(self) -> int:
        return len(self._heap) + len(self._held)

    def __iter__(self) -> Iterator[Request]:
        return iter([*(entry[2] for entry in sorted(self._heap)), *self._held.values()])

    def _push(self, request: Request) -> None:
        self._added += 1
        heapq.heappush(self._heap, (self._key(request), self._added, request))
