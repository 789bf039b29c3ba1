"""The prefix tree of many prompts, compact: a node is a run of blocks that no prompt leaves midway."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from planner.prefix.blocks import PromptBlocks

#: What a sibling is placed by: the greater, the earlier.
Rank = Callable[["Node"], float]


@dataclass(slots=True, eq=False)
class Node:
    """A run of blocks, `ids[start:stop]` of the tree's prompts, and what follows it.

    `ends` are the prompts that end with the run. `leaves` prompts pass through it; `below_tokens` is what the node and
    all below it hold, each block once, with what is private to its prompts.
    """

    start: int
    stop: int
    tokens: float
    parent: "Node | None" = None
    children: dict[int, "Node"] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    leaves: int = 0
    below_tokens: float = 0.0


class PrefixTree:
    """All prompts of `blocks`. Children stand in the order in which their first prompts came.

    `root` holds no blocks. Source: BatchLLM (arXiv 2412.03594, section 4.1), over blocks instead of tokens.
    """

    def __init__(self, blocks: PromptBlocks) -> None:
        self.blocks = blocks
        self.root = Node(0, 0, 0.0)
        self._until = np.concatenate([np.zeros(1), np.cumsum(blocks.tokens)])
        starts = blocks.starts.tolist()
        for prompt in range(len(blocks)):
            self._insert(prompt, starts[prompt], starts[prompt + 1])
        self._count()

    def walk(self, rank: Rank | None = None, below: Node | None = None) -> Iterator[Node]:
        """Every node at or below `below`, depth first, parents first. Siblings of equal rank keep their order."""
        waiting = [below or self.root]
        while waiting:
            node = waiting.pop()
            yield node
            children = list(node.children.values())
            if rank is not None:
                children.sort(key=rank, reverse=True)
            waiting += reversed(children)

    def ends(self) -> list[Node]:
        """For each prompt the node with which it ends; its other nodes are the parents of that."""
        found = [self.root] * len(self.blocks)
        for node in self.walk():
            for prompt in node.ends:
                found[prompt] = node
        return found

    @property
    def distinct_tokens(self) -> float:
        """What a cache without bounds would have to compute."""
        return self.root.below_tokens

    def _insert(self, prompt: int, at: int, stop: int) -> None:
        ids = self.blocks.ids
        node = self.root
        while at < stop:
            child = node.children.get(int(ids[at]))
            if child is None:
                node = self._add(node, at, stop)
                break
            common = self._common(child, at, stop)
            at += common
            node = child if common == child.stop - child.start else self._split(child, common)
        node.ends.append(prompt)

    def _add(self, parent: Node, start: int, stop: int) -> Node:
        node = Node(start, stop, float(self._until[stop] - self._until[start]), parent)
        parent.children[int(self.blocks.ids[start])] = node
        return node

    def _common(self, child: Node, at: int, stop: int) -> int:
        """How many blocks of the child's run stand at `at`, too; the first does."""
        length = min(child.stop - child.start, stop - at)
        if length == 1:
            return 1
        ids = self.blocks.ids
        differ = ids[child.start : child.start + length] != ids[at : at + length]
        first = int(differ.argmax())
        return first if differ[first] else length

    def _split(self, child: Node, length: int) -> Node:
        """The first `length` blocks of the child as a node of their own, in its place, with the rest below it."""
        assert child.parent is not None
        middle = child.start + length
        upper = self._add(child.parent, child.start, middle)
        upper.children[int(self.blocks.ids[middle])] = child
        child.parent, child.start = upper, middle
        child.tokens -= upper.tokens
        return upper

    def _count(self) -> None:
        private = self.blocks.private_tokens.tolist()
        for node in reversed(list(self.walk())):
            children = node.children.values()
            node.leaves = len(node.ends) + sum(child.leaves for child in children)
            own = node.tokens + sum(private[prompt] for prompt in node.ends)
            node.below_tokens = own + sum(child.below_tokens for child in children)


def dfs_order(tree: PrefixTree, rank: Rank | None = None) -> list[int]:
    """The prompts in the order of a walk through the tree, depth first: what is shared is used while it is warm.

    Equal prompts keep their order. `rank` places siblings; it cannot part what shares a prefix.
    """
    return [prompt for node in tree.walk(rank) for prompt in node.ends]
