"""The block pool with a second zone, as the plugin's `halo_vllm.eviction` makes it: what is kept for programs that wait
is used by nobody and counts as free, but is taken only after all other idle blocks."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from executor.engines.model.block_pool import BlockName, BlockPool


class KeptPool(BlockPool):
    """`order` tells who gives way, the first first; `taken` is told how many blocks a program lost to somebody who
    needed the room."""

    def __init__(self, capacity: int, order: Callable[[], Iterator[str]], taken: Callable[[str, int], None]) -> None:
        super().__init__(capacity)
        self._order, self._taken = order, taken
        self._chains: dict[str, OrderedDict[BlockName, None]] = {}  # of each program, the last block first
        self._chain_of: dict[BlockName, str] = {}
        self._claimed: dict[str, list[BlockName]] = {}
        self._claims: dict[BlockName, list[str]] = {}

    @property
    def kept_blocks(self) -> int:
        """Used by nobody."""
        return len(self._chain_of)

    def kept_of(self, program: str) -> int:
        """Those of one program."""
        return len(self._chains.get(program, ()))

    def keep(self, program: str, names: Sequence[BlockName]) -> None:
        """From now on these blocks, when nobody uses them, are kept for `program`. Replaces what was kept for it."""
        self.let_go(program)
        self._claimed[program] = list(names)
        self._chains[program] = OrderedDict()
        for name in names:
            self._claims.setdefault(name, []).append(program)
        for name in reversed(names):
            if name in self._idle:
                del self._idle[name]
                self._into_chain(program, name)

    def let_go(self, program: str) -> None:
        """Nothing is kept for `program` any more."""
        for name in self._claimed.pop(program, ()):
            self._disclaim(name, program)
        for name in self._chains.pop(program, ()):
            del self._chain_of[name]
            self._rest(name)

    def leave(self, program: str) -> None:
        """Nothing is kept for `program` any more, and what it does not use now it has left behind: the first to go, as
        far as nobody else keeps it."""
        for name in self._claimed.pop(program, ()):
            self._disclaim(name, program)
        for name in reversed(self._chains.pop(program, {})):
            del self._chain_of[name]
            self._rest(name)
            if name in self._idle:
                self._idle.move_to_end(name, last=False)

    def give(self, program: str, blocks: int) -> int:
        """`program` gives up so many blocks, the last first; the number that are now as free as any other."""
        chain, before = self._chains.get(program, OrderedDict()), self.kept_blocks
        for name in list(chain)[:blocks]:
            self._disclaim(name, program)
            del chain[name], self._chain_of[name]
            self._rest(name)
        return before - self.kept_blocks

    def hits(self, names: Sequence[BlockName], most: int) -> int:
        for index, name in enumerate(names[:most]):
            if name not in self._shared and name not in self._idle and name not in self._chain_of:
                return index
        return min(most, len(names))

    def idle_among(self, names: Sequence[BlockName]) -> int:
        return sum(1 for name in names if name in self._idle or name in self._chain_of)

    def share(self, names: Sequence[BlockName]) -> None:
        for name in names:
            if (program := self._chain_of.pop(name, None)) is not None:
                del self._chains[program][name]
                self._shared[name] = 1
            else:
                super().share((name,))

    def publish(self, name: BlockName) -> bool:
        return name not in self._chain_of and super().publish(name)

    def check(self) -> None:
        super().check()
        assert sum(map(len, self._chains.values())) == len(self._chain_of)
        assert not self._chain_of.keys() & (self._shared.keys() | self._idle.keys())
        assert self.used + len(self._idle) + len(self._chain_of) <= self.capacity

    def _rest(self, name: BlockName) -> None:
        """Nobody uses the block any more."""
        claims = self._claims.get(name)
        if claims:
            self._into_chain(claims[0], name)
        else:
            self._idle[name] = None

    def _make_room(self) -> None:
        wanted = self.used + len(self._idle) + len(self._chain_of) - self.capacity
        while wanted > 0 and self._idle:
            self._idle.popitem(last=False)
            wanted -= 1
        if wanted > 0:
            self._take_kept(wanted)

    def _take_kept(self, wanted: int) -> None:
        for program in self._in_order():
            given = self._from_chain(program, wanted)
            if not given:
                continue
            if not self._chains[program]:
                self.let_go(program)
            self._taken(program, given)
            wanted -= given
            if not wanted:
                return

    def _in_order(self) -> Iterator[str]:
        """After the order, whoever has blocks: they may have gone over to one whose turn had been."""
        yield from self._order()
        while self._chain_of:
            yield from list(self._chains)

    def _from_chain(self, program: str, most: int) -> int:
        """Its last blocks, but none that is kept for another program too: those go over to that one."""
        chain, given = self._chains.get(program), 0
        while chain and given < most:
            name, _ = chain.popitem(last=False)
            del self._chain_of[name]
            self._disclaim(name, program)
            if name in self._claims:
                self._rest(name)
            else:
                given += 1
        return given

    def _into_chain(self, program: str, name: BlockName) -> None:
        self._chains[program][name] = None
        self._chain_of[name] = program

    def _disclaim(self, name: BlockName, program: str) -> None:
        claims = self._claims.get(name)
        if claims is None or program not in claims:
            return
        claims.remove(program)
        if not claims:
            del self._claims[name]
