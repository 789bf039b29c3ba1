"""What one engine holds by its own account, and which names that has here.

An engine names its blocks by hashes of its tokens; routing names blocks of prompts by their text. The two meet where a
call is answered: the engine said under the call's session which blocks it stored, and the call tells how many tokens
its prompt has. From then on, a name is warm for as long as the engine holds the block in which it ends.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TypeVar

from kvstore.kv_events import AllCleared, BlockHash, BlocksRemoved, BlocksStored, KvEvent
from kvstore.prefix_index import BlockName

Value = TypeVar("Value")

#: Sessions whose stored blocks wait for an answer, and answers that wait for their blocks; of more, the oldest are
#: forgotten.
WAITING = 4_096


@dataclass(frozen=True, slots=True)
class _Prompt:
    names: Sequence[BlockName]
    name_tokens: float
    tokens: int


@dataclass(slots=True)
class _Block:
    """`place` counts from the beginning of the prompt; it is not known where the blocks before were never told of."""

    parent: BlockHash | None
    place: int | None
    names: set[BlockName] = field(default_factory=set)


class EngineBlocks:
    """Pure: events and answers in, names that are no longer warm out."""

    def __init__(self) -> None:
        self._held: dict[BlockHash, _Block] = {}
        self._bound: dict[BlockName, BlockHash] = {}
        self._stored: OrderedDict[str, dict[int, BlockHash]] = OrderedDict()
        self._answered: OrderedDict[str, _Prompt] = OrderedDict()
        self._block_tokens = 0

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, block: BlockHash) -> bool:
        return block in self._held

    def apply(self, event: KvEvent) -> tuple[BlockName, ...]:
        """Returns the names that were warm and are no longer."""
        match event:
            case BlocksStored():
                self._store(event)
                return ()
            case BlocksRemoved(hashes):
                return tuple(name for block in hashes for name in self._remove(block))
            case AllCleared():
                return self.forget()

    def forget(self) -> tuple[BlockName, ...]:
        """Nothing is known any more. Returns all names that were warm."""
        gone = tuple(self._bound)
        self._held.clear()
        self._bound.clear()
        self._stored.clear()
        self._answered.clear()
        return gone

    def answered(self, session: str, names: Sequence[BlockName], name_tokens: float, prompt_tokens: int) -> None:
        """A call was answered: `names` are the full blocks of its prompt, each of about `name_tokens` of the
        `prompt_tokens` that the engine counted."""
        prompt = _Prompt(names, name_tokens, prompt_tokens)
        if not self._bind_all(prompt, self._stored.pop(session, {})):
            _put(self._answered, session, prompt)  # events may come after the answer

    def _store(self, event: BlocksStored) -> None:
        self._block_tokens = event.block_tokens
        parent, place = event.parent, self._place_after(event.parent)
        for block in event.hashes:
            if block not in self._held:
                self._held[block] = _Block(parent, place)
            if event.session is not None and place is not None:
                self._note(event.session, place, block)
            parent, place = block, None if place is None else place + 1
        if event.session is not None:
            self._bind_answered(event.session)

    def _bind_answered(self, session: str) -> None:
        prompt, stored = self._answered.get(session), self._stored.get(session)
        if prompt and stored and self._bind_all(prompt, stored):
            del self._answered[session], self._stored[session]

    def _place_after(self, parent: BlockHash | None) -> int | None:
        if parent is None:
            return 0
        before = self._held.get(parent)
        return None if before is None or before.place is None else before.place + 1

    def _note(self, session: str, place: int, block: BlockHash) -> None:
        stored = self._stored.get(session)
        if stored is None:
            stored = {}
            _put(self._stored, session, stored)
        stored[place] = block

    def _remove(self, block: BlockHash) -> set[BlockName]:
        gone = self._held.pop(block, None)
        if gone is None:
            return set()
        for name in gone.names:
            del self._bound[name]
        return gone.names

    def _chain(self, tip: BlockHash) -> list[BlockHash]:
        """From the first block of a prompt to `tip`; empty where one of them is gone already."""
        chain: list[BlockHash] = []
        block: BlockHash | None = tip
        while block is not None:
            if block not in self._held:
                return []
            chain.append(block)
            block = self._held[block].parent
        return chain[::-1]

    def _bind_all(self, prompt: _Prompt, stored: Mapping[int, BlockHash]) -> bool:
        """Whether the blocks of the whole prompt are known by now."""
        last = prompt.tokens // self._block_tokens - 1 if self._block_tokens else 0
        tip = max((place for place in stored if place <= last), default=None)
        chain = self._chain(stored[tip]) if tip is not None else []
        for number, name in enumerate(prompt.names, start=1):
            place = min(last, ceil(number * prompt.name_tokens / self._block_tokens) - 1) if chain else 0
            if place >= len(chain):
                break
            self._bind(name, chain[place])
        return bool(chain) and tip == last

    def _bind(self, name: BlockName, block: BlockHash) -> None:
        before = self._bound.get(name)
        if before is not None:
            self._held[before].names.discard(name)
        self._bound[name] = block
        self._held[block].names.add(name)


def _put(waiting: OrderedDict[str, Value], session: str, value: Value) -> None:
    waiting[session] = value
    waiting.move_to_end(session)
    if len(waiting) > WAITING:
        waiting.popitem(last=False)
