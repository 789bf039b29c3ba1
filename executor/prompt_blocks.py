"""The blocks of a rendered prompt, by name: what routing knows of prompts without reading them.

An engine shares the KV of equal beginnings block by block. Halo has no tokenizer at hand for every engine, so a block
is cut by characters, at the stated estimate of characters a token.
"""

from collections.abc import Sequence
from zlib import crc32

from executor.engines.prompts import prompt_text
from planner.ir.tokens import CHARS_PER_TOKEN
from planner.ir.values import Json

BLOCK_TOKENS = 32
_WIDTH = 4 * BLOCK_TOKENS * CHARS_PER_TOKEN  # bytes of UTF-32


def prompt_blocks(model: str, messages: Sequence[Json], tools: Sequence[Json] = ()) -> tuple[int, ...]:
    """The names of the prompt's full blocks, each chained to the one before: equal names mean equal beginnings.

    The same in every process. Two different beginnings get one name once in four billion pairs; then a guess about an
    engine's cache is wrong, and nothing else.
    """
    data = prompt_text(messages, tools).encode("utf-32-le", "surrogatepass")
    name, names = crc32(model.encode("utf-8", "surrogatepass")), []
    for end in range(_WIDTH, len(data) + 1, _WIDTH):
        name = crc32(data[end - _WIDTH : end], name)
        names.append(name)
    return tuple(names)
