"""The branches of a program: which of them a call goes on from, and which are over when it runs."""

from collections.abc import Iterable, Iterator

from halo_vllm.policy.branches import Tip, begins_with, gone_on_from, left
from halo_vllm.policy.identity import Context
from halo_vllm.program import Branch, Call, Program

#: Beside those with a call in flight. Who has more is voting, or hostile.
MOST_WAITING = 32


def branch_for(program: Program, prompt: Context) -> Branch:
    """That which a call goes on from, a new one if it goes on from none. A program without a name has only one."""
    if program.branches and not program.named:
        return next(iter(program.branches.values()))
    found = gone_on_from(prompt, _tips(branch for branch in program.branches.values() if branch.call is None))
    return program.branches[found] if found is not None else _new(program, prompt)


def over_with(call: Call, prompt: Context) -> Iterator[tuple[Branch, bool]]:
    """The branches that are over now that the call runs, and whether what they waited for came."""
    waiting = _tips(branch for branch in call.program.branches.values() if branch.call is None)
    alone = len(call.program.pending) == 1
    for found in left(prompt, waiting, goes_on=call.branch.tip is not None, alone=alone):
        yield call.program.branches[found.branch], found.back


def too_many(program: Program) -> list[Branch]:
    """Those that wait longest, if more do than are remembered."""
    if len(program.branches) <= MOST_WAITING:
        return []
    waiting = [branch for branch in program.branches.values() if branch.call is None]
    waiting.sort(key=_since_s)
    return waiting[: max(len(waiting) - MOST_WAITING, 0)]


def last_to_wait(program: Program) -> Branch | None:
    """What a client tells between calls, it tells of the call that was answered last."""
    waiting = [branch for branch in program.branches.values() if branch.call is None and branch.waiting is not None]
    return max(waiting, key=_since_s, default=None)


def _new(program: Program, prompt: Context) -> Branch:
    key = f"branch {program.branched} of {program.key}" if program.branched else program.key
    branch = program.branches[key] = Branch(key, program)
    program.branched += 1
    for other in program.branches.values():
        if other.tip is not None and begins_with(prompt, other.tip.prompt):
            branch.fork = other.fork = other.tip.prompt
    return branch


def _tips(branches: Iterable[Branch]) -> dict[str, Tip]:
    return {branch.key: branch.tip for branch in branches if branch.tip is not None}


def _since_s(branch: Branch) -> float:
    return branch.waiting.since_s if branch.waiting is not None else float("-inf")
