"""Prompts in groups with one common prefix each: what is run together, and in which order."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from planner.prefix.tree import Node, PrefixTree


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts that begin with the same `prefix_tokens` tokens; with the rest they come to `distinct_tokens`."""

    prefix_tokens: float
    distinct_tokens: float
    prompts: Sequence[int]

    @property
    def saved_tokens(self) -> float:
        """What is not computed again when the prefix is kept while the group runs."""
        return self.prefix_tokens * (len(self.prompts) - 1)


def first_level(tree: PrefixTree) -> list[Group]:
    """The groups that the tree's first nodes make, as they are: often a short instruction that all have."""
    return _groups(
        tree, ((child.tokens, [p for node in tree.walk(below=child) for p in node.ends]) for child in _children(tree))
    )


def enlarged(tree: PrefixTree) -> list[Group]:
    """The groups of one level that share the most: prompts leave a node for a longer prefix where that pays.

    A branch leaves when its own tokens, computed once instead of once a prompt, are more than the node's, computed once
    more. Source: BatchLLM (arXiv 2412.03594, algorithm 1); linear in the nodes, because leaves are counted.
    """
    levels: dict[int, list[_Branch]] = {}
    for node in reversed(list(tree.walk())):
        below = [(child, levels.pop(id(child))) for child in node.children.values()]
        levels[id(node)] = [branch for child, level in below for branch in _maximize(child, level)]
    return _groups(tree, ((branch.tokens, list(branch.prompts())) for branch in levels[id(tree.root)]))


def groups_at_once(groups: Sequence[Group], output_tokens: float, kv_tokens: float) -> int:
    """How many groups, taken in this order, an engine holds together: each with its prefix and its longest rest.

    At least one: a group that does not fit runs alone.
    """
    left, count = kv_tokens, 0
    for group in groups:
        left -= group.prefix_tokens + group.distinct_tokens / len(group.prompts) + output_tokens
        if left < 0:
            break
        count += 1
    return max(1, count)


@dataclass(frozen=True, slots=True)
class _Branch:
    """A node of the tree being enlarged. `leaves` are the prompts still at or below it."""

    tokens: float
    ends: Sequence[int]
    level: Sequence["_Branch"]
    leaves: int

    def longer(self, tokens: float) -> "_Branch":
        return replace(self, tokens=tokens + self.tokens)

    def prompts(self) -> Iterator[int]:
        """Depth first."""
        waiting = [self]
        while waiting:
            branch = waiting.pop()
            yield from branch.ends
            waiting += reversed(branch.level)


def _maximize(node: Node, level: Iterable[_Branch]) -> list[_Branch]:
    """The branches of a node that leave it, then the node with those that stay."""
    leaving: list[_Branch] = []
    staying: list[_Branch] = []
    for branch in level:
        pays = (branch.leaves - 1) * branch.tokens > node.tokens
        (leaving if pays else staying).append(branch)
    forked = [branch.longer(node.tokens) for branch in leaving]
    if not staying and not node.ends:
        return forked
    if len(staying) == 1 and not node.ends:
        return [*forked, staying[0].longer(node.tokens)]
    leaves = len(node.ends) + sum(branch.leaves for branch in staying)
    return [*forked, _Branch(node.tokens, node.ends, staying, leaves)]


def _children(tree: PrefixTree) -> Iterable[Node]:
    return tree.root.children.values()


def _groups(tree: PrefixTree, level: Iterable[tuple[float, Sequence[int]]]) -> list[Group]:
    """One group for each prefix and its prompts; a prompt without a whole block is a group of its own."""
    tokens = tree.blocks.tokens_of_prompts()
    alone = ((0.0, [prompt]) for prompt in tree.root.ends)
    return [
        Group(prefix, float(tokens[prompts].sum()) - prefix * len(prompts), tuple(prompts))
        for prefix, prompts in chain(level, alone)
    ]
