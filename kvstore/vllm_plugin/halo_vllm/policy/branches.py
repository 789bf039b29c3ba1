"""Which branch of a program a call goes on from, and which branches nobody goes on from any more.

A program may have several calls in flight: votes on one prompt, sub-agents that share an opening, tools side by side.
Each that ended is a branch, a context that a later call may go on from, until such a call shows that it will not be.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from halo_vllm.policy.identity import Context, Ending


class Beginning(NamedTuple):
    """Of a text: so many full blocks, and what these end with."""

    blocks: int
    ending: Ending


@dataclass(frozen=True, slots=True)
class Tip:
    """Where a branch stands: the prompt of its last call, and that with the answer. `fork`: the prompt of the call that
    it went on from beside others, if it did."""

    prompt: Beginning
    whole: Beginning
    fork: Beginning | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """A branch that is over. `back`: what it waited for has come, only not as a call that goes on from it."""

    branch: str
    back: bool


def begins_with(prompt: Context, beginning: Beginning) -> bool:
    blocks, (last, tail) = beginning
    if len(prompt.chain) < blocks or (blocks and prompt.chain[blocks - 1] != last):
        return False
    begin = blocks * prompt.block_tokens
    return tuple(prompt.tokens[begin : begin + len(tail)]) == tail


def gone_on_from(prompt: Context, tips: Mapping[str, Tip]) -> str | None:
    """The branch whose last prompt `prompt` begins with, whatever became of the answer: of several the longest, of
    alike ones one whose answer is there too, then the first."""
    fitting = {branch: tip for branch, tip in tips.items() if begins_with(prompt, tip.prompt)}
    return max(fitting, key=lambda branch: _closeness(prompt, fitting[branch]), default=None)


def left(prompt: Context, waiting: Mapping[str, Tip], *, goes_on: bool, alone: bool) -> Iterator[Left]:
    """Of the branches that wait, those that are over now that a call with `prompt` runs.

    - Whose last prompt it begins with: the other answers to what it goes on from.
    - Where the call is `alone`, no other of the program being in flight, and `goes_on` from no branch: those that went
      on, side by side, from where it goes on again, since it joins them; and the only branch there is, since then what
      was said was written anew.

    All others wait on: that one branch goes on tells nothing of them.
    """
    rewritten = len(waiting) == 1
    for branch, tip in waiting.items():
        if begins_with(prompt, tip.prompt):
            yield Left(branch, back=False)
        elif alone and not goes_on and (rewritten or (tip.fork is not None and begins_with(prompt, tip.fork))):
            yield Left(branch, back=True)


def _closeness(prompt: Context, tip: Tip) -> tuple[int, int, bool]:
    blocks, (_, tail) = tip.prompt
    return (blocks, len(tail), begins_with(prompt, tip.whole))
