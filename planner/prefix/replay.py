"""What a prefix cache of a given size saves when prompts come in a given order."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from planner.prefix.tree import Node, PrefixTree


def replay(tree: PrefixTree, order: Iterable[int], kv_tokens: float) -> float:
    """The prompt tokens found in a cache of `kv_tokens` that gives up what was used longest ago, a prompt's end first.

    Prompts are taken one after another, as an engine that runs one at a time takes them; answers take no room. All
    blocks of a node are always used together, so nodes stand in the cache for their blocks.
    """
    cache = _Cache(kv_tokens)
    ends, private = tree.ends(), tree.blocks.private_tokens.tolist()
    return sum(cache.use(prompt, ends[prompt], private[prompt]) for prompt in order)


class _Cache:
    """`_held` has the tokens held of each node, and of the private end of each prompt, the longest unused first."""

    def __init__(self, kv_tokens: float) -> None:
        self._free = kv_tokens
        self._held: OrderedDict[Node | int, float] = OrderedDict()

    def use(self, prompt: int, end: Node, private_tokens: float) -> float:
        """Takes in one prompt; says how many of its tokens were held."""
        path = list(_upwards(end))
        found = self._found(path)
        if private_tokens:
            self._hold(prompt, private_tokens)
        for node in path:
            self._hold(node, node.tokens)
        self._evict()
        return found

    def _found(self, path: list[Node]) -> float:
        found = 0.0
        for node in reversed(path):
            held = self._held.get(node, 0.0)
            found += held
            if held < node.tokens:
                break
        return found

    def _hold(self, key: Node | int, tokens: float) -> None:
        self._free += self._held.pop(key, 0.0) - tokens
        self._held[key] = tokens

    def _evict(self) -> None:
        while self._free < 0:
            key, held = self._held.popitem(last=False)
            kept = held - min(held, -self._free)
            self._free += held - kept
            if kept:
                self._held[key] = kept
                self._held.move_to_end(key, last=False)


def _upwards(end: Node) -> Iterator[Node]:
    """The nodes of a prompt from its end to its beginning."""
    node: Node | None = end
    while node is not None and node.parent is not None:
        yield node
        node = node.parent
