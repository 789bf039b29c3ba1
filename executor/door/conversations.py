"""Which program goes on: conversations that ended lately, by name."""

from bisect import bisect_left, insort
from collections import Counter, OrderedDict, deque
from hashlib import blake2b

from executor.door.turns import Digests, Said, Talk, Text
from planner.ir.ids import ProgramId

_NAME_BYTES = 16


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

    def note(self, said: Said, program: ProgramId, at: float) -> str | None:
        """A call of the program ended with these words. Returns their name, where other processes can know it too."""
        name = self._end_name(said)
        if name is None:
            return None
        ended = self._ended.setdefault(name, deque())
        if program in (one for _, one in ended):
            ended.remove(next(one for one in ended if one[1] == program))
        ended.append((at, program))
        self._ended.move_to_end(name)
        self._forget_old(at)
        return name if isinstance(said, Talk) else None

    def digests(self, said: Said) -> Said:
        """What these words are to the conversations known now, without the words of a text."""
        if not isinstance(said, Text):
            return said
        name = _digest(said.root, said.text) if said.text else None
        return Digests(tuple(self._lengths.beginnings(said)), name)

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
        name = _digest(said.root, said.text)
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
        digest, done, names = blake2b(said.root.encode(), digest_size=_NAME_BYTES), 0, []
        for length in self._of_root.get(said.root, ()):
            if length >= len(said.text):
                break
            digest.update(said.text[done:length].encode("utf-32-le", "surrogatepass"))
            done = length
            names.append(digest.hexdigest())
        return names


def _digest(root: str, text: str) -> str:
    data = root.encode() + text.encode("utf-32-le", "surrogatepass")
    return blake2b(data, digest_size=_NAME_BYTES).hexdigest()
