"""Which program a prompt continues, told by the prompt alone."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_CALLS = 65_536
MOST_ALIKE = 64


@dataclass(frozen=True, slots=True)
class Context:
    """Tokens as an engine's cache sees them: the chained hashes of the full blocks, and all tokens.

    A chained hash names the tokens of its block and of all before it (and the tenant's salt, where there is one), so
    one hash is enough to compare whole beginnings.
    """

    chain: Sequence[Hashable]
    tokens: Sequence[int]
    block_tokens: int

    @property
    def ending(self) -> "Ending":
        return ending_of(self.chain, self.tokens[len(self.chain) * self.block_tokens :])


class Ending(NamedTuple):
    """What is remembered of a context: the hash of its last full block, and the tokens after that."""

    last: Hashable | None
    tail: tuple[int, ...]


def ending_of(chain: Sequence[Hashable], tail: Sequence[int]) -> Ending:
    return Ending(chain[-1] if chain else None, tuple(tail))


@dataclass(frozen=True, slots=True)
class Continuation:
    """The earlier `call`, of `program`, that a prompt goes on from."""

    program: str
    call: str


class Conversations:
    """The last finished calls, found again by the prompts that go on from them (bounded; the first finished go first).

    A prompt goes on from a call if it begins with the call's whole prompt and is longer; best if it begins with the
    answer too. The last full block is found by its hash, the rest is compared token by token, so programs that only
    share a system prompt are kept apart.
    """

    def __init__(self, most_calls: int = MOST_CALLS) -> None:
        assert most_calls > 0
        self._most = most_calls
        self._calls: OrderedDict[str, _Call] = OrderedDict()
        self._ends: dict[Hashable, list[_End]] = {}

    def finished(self, call: str, program: str, prompt: Ending, whole: Ending, after: str | None = None) -> None:
        """`call` of `program` ended. `whole` is prompt and answer; `after` the call it went on from, if found."""
        known = _Call(call, program, whole.last, prompt.last)
        self._calls[call] = known
        if after is not None and after != call and (parent := self._calls.get(after)):
            parent.went_on = True
        self._enter(whole.last, _End(known, whole.tail, True))
        self._enter(prompt.last, _End(known, prompt.tail, False))
        if len(self._calls) > self._most:
            self._forget(next(iter(self._calls)))

    def continued(self, prompt: Context) -> Continuation | None:
        """The call that `prompt` goes on from: of all it could be, the longest. Of alike ones one that nobody went on
        from yet, the first that finished."""
        if not self.may_go_on(prompt.chain):
            return None
        for blocks in range(len(prompt.chain), 0, -1):
            alike = self._ends.get(prompt.chain[blocks - 1])
            if alike and (fitting := [end for end in alike if _goes_on(prompt, blocks, end.tail)]):
                call = max(fitting, key=_closeness).call
                return Continuation(call.program, call.name)
        return None

    def may_go_on(self, chain: Sequence[Hashable]) -> bool:
        """Whether a prompt of this chain may go on from a call at all."""
        return not self._ends.keys().isdisjoint(chain)

    def __len__(self) -> int:
        return len(self._calls)

    def _enter(self, last: Hashable | None, end: "_End") -> None:
        if last is not None:
            alike = self._ends.setdefault(last, [])
            alike.append(end)
            del alike[:-MOST_ALIKE]

    def _forget(self, call: str) -> None:
        known = self._calls.pop(call)
        for last in (known.whole, known.prompt):
            left = [end for end in self._ends.get(last, ()) if end.call is not known]
            if left:
                self._ends[last] = left
            else:
                self._ends.pop(last, None)


@dataclass(eq=False, slots=True)
class _Call:
    name: str
    program: str
    whole: Hashable | None
    prompt: Hashable | None
    went_on: bool = False


class _End(NamedTuple):
    call: _Call
    tail: tuple[int, ...]
    answered: bool


def _goes_on(prompt: Context, blocks: int, tail: tuple[int, ...]) -> bool:
    begin = blocks * prompt.block_tokens
    end = begin + len(tail)
    return len(prompt.tokens) > end and tuple(prompt.tokens[begin:end]) == tail


def _closeness(end: _End) -> tuple[int, bool, bool]:
    return (len(end.tail), end.answered, not end.call.went_on)
