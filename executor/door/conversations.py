"""Which program goes on: conversations that ended lately, by name."""

from bisect import bisect_left, insort
from collections import Counter, OrderedDict, deque
from itertools import takewhile

from executor.door.commands import NameTurn
from executor.door.turns import Digests, Said, Talk, Text, TextEnd, end_of, names_at
from planner.ir.ids import ProgramId


class Conversations:
    """At most `most` are remembered, each for `idle_s`. Two programs that said the same so far go on in the order in
    which they came: nobody can tell them apart, and their KV is one."""

    def __init__(self, most: int, idle_s: float) -> None:
        self._most, self._idle_s = most, idle_s
        self._ended: OrderedDict[str, deque[tuple[float, ProgramId]]] = OrderedDict()
        self._lengths = _Lengths()

    def __len__(self) -> int:
        return len(self._ended)

    def continued(self, said: Said, at: float) -> ProgramId | None:
        """The program whose last answer these words go on from; the longest beginning counts."""
        self._forget_old(at)
        for name in reversed(self._beginnings(said)):
            ended = self._ended.get(name)
            if ended is not None:
                return (ended.popleft() if len(ended) > 1 else ended[0])[1]
        return None

    def note(self, said: Said, program: ProgramId, at: float) -> NameTurn | None:
        """A call of the program ended with these words. Returns what other processes should know of it."""
        name = self._end_name(said)
        if name is None:
            return None
        ended = self._ended.setdefault(name, deque())
        if program in (one for _, one in ended):
            ended.remove(next(one for one in ended if one[1] == program))
        ended.append((at, program))
        self._ended.move_to_end(name)
        self._forget_old(at)
        return NameTurn(name, program, _end(said))

    def digests(self, said: Said) -> Said:
        """What these words are to the conversations known now, without the words of a text."""
        if not isinstance(said, Text):
            return said
        if not said.text:
            return Digests(tuple(self._lengths.beginnings(said)), None)
        return Digests(tuple(self._lengths.beginnings(said)), _name(said), end_of(said))

    def _beginnings(self, said: Said) -> list[str]:
        if isinstance(said, Talk):
            return list(said.names[:-1])
        return list(said.beginnings) if isinstance(said, Digests) else self._lengths.beginnings(said)

    def _end_name(self, said: Said) -> str | None:
        if isinstance(said, Talk):
            return said.names[-1] if said.names else None
        if isinstance(said, Digests):
            return said.name
        if not said.text:
            return None
        name = _name(said)
        if name not in self._ended:
            self._lengths.add(said.root, len(said.text), name)
        return name

    def _forget_old(self, at: float) -> None:
        while self._ended:
            name, ended = next(iter(self._ended.items()))
            if len(self._ended) <= self._most and ended[-1][0] + self._idle_s >= at:
                return
            del self._ended[name]
            self._lengths.drop(name)


def _end(said: Said) -> TextEnd | None:
    """A talk is found by the names of its turns."""
    if isinstance(said, Text):
        return end_of(said)
    return said.end if isinstance(said, Digests) else None


class _Lengths:
    """How long the texts are that may be gone on from: a text is looked at once, whatever their number."""

    def __init__(self) -> None:
        self._of_root: dict[str, list[int]] = {}
        self._counts: Counter[tuple[str, int]] = Counter()
        self._of_name: dict[str, tuple[str, int]] = {}

    def add(self, root: str, length: int, name: str) -> None:
        self._of_name[name] = root, length
        self._counts[root, length] += 1
        if self._counts[root, length] == 1:
            insort(self._of_root.setdefault(root, []), length)

    def drop(self, name: str) -> None:
        found = self._of_name.pop(name, None)
        if found is None:
            return
        root, length = found
        self._counts[found] -= 1
        if not self._counts[found]:
            del self._counts[found]
            lengths = self._of_root[root]
            del lengths[bisect_left(lengths, length)]

    def beginnings(self, said: Text) -> list[str]:
        return names_at(said, takewhile(lambda length: length < len(said.text), self._of_root.get(said.root, ())))


def _name(said: Text) -> str:
    (name,) = names_at(said, [len(said.text)])
    return name
