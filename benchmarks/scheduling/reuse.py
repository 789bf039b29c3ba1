"""Which beginnings of prompts engines may share: nothing, the templates, or also what calls of one request share.

Requests never share anything but templates, not even where the trace asks the same question twice.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from enum import StrEnum

from benchmarks.scheduling.lengths import CANDIDATE_TEMPLATES, CANDIDATES_SHARED_BY_ALL, OWN_TAIL, SHARED_BY_ALL
from benchmarks.scheduling.requests import Call, Request, Step
from executor.prompt_blocks import BLOCK_TOKENS
from kvstore.prefix_index import BlockName

#: No template and no request has so many blocks, so names are its number and the block's.
_MOST_BLOCKS = 1 << 16
_STEPS = {step: number for number, step in enumerate(Step)}
_TEMPLATES = len(Step) + 1  # the candidates have two


class Reuse(StrEnum):
    NONE = "none"
    TEMPLATE = "template"
    REQUEST = "template and request"


def block_names(reuse: Reuse, number: int, call: Call) -> tuple[BlockName, ...]:
    """Names of the leading blocks of the prompt that others may have too, for a call of the `number`-th request."""
    if reuse is Reuse.NONE:
        return ()
    template = _names(_template(call), 0, shared_by_all(call) // BLOCK_TOKENS)
    if reuse is Reuse.TEMPLATE or call.step not in OWN_TAIL:
        return template
    stream = _TEMPLATES + number * _TEMPLATES + _STEPS[call.step]
    return template + _names(stream, len(template), (call.prompt_tokens - OWN_TAIL[call.step]) // BLOCK_TOKENS)


def shared_by_all(call: Call) -> int:
    """Tokens at the beginning of the prompt that are the template's."""
    if call.step is not Step.CANDIDATE:
        return SHARED_BY_ALL[call.step]
    return CANDIDATES_SHARED_BY_ALL[_template(call) == _STEPS[Step.CANDIDATE]]


def least_read(reuse: Reuse, request: Request) -> Request:
    """The request with only those tokens of its prompts that must be read whatever a rule does: every template is in
    every cache, and what two calls of the request share is read once."""
    if reuse is Reuse.NONE:
        return request
    return Request(*(_least_read(reuse, getattr(request, field.name)) for field in fields(request)))


def _least_read(reuse: Reuse, calls: Sequence[Call]) -> tuple[Call, ...]:
    read, known_blocks = [], 0
    for call in calls:
        blocks = len(block_names(reuse, 0, call))
        found = max(shared_by_all(call) // BLOCK_TOKENS, min(blocks, known_blocks))
        known_blocks = max(blocks, known_blocks)
        read.append(replace(call, prompt_tokens=max(1, call.prompt_tokens - found * BLOCK_TOKENS)))
    return tuple(read)


def _template(call: Call) -> int:
    if call.step is not Step.CANDIDATE:
        return _STEPS[call.step]
    one, two = CANDIDATE_TEMPLATES
    is_first = call.prompt_tokens > one + (one - two) // 2
    return len(Step) if is_first else _STEPS[Step.CANDIDATE]


def _names(stream: int, first: int, end: int) -> tuple[BlockName, ...]:
    return tuple(range(stream * _MOST_BLOCKS + first, stream * _MOST_BLOCKS + end))
