"""The tokenizer port: a chat prompt as the token ids an engine makes of it, its chat template applied."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from executor.errors import ExecutorError
from planner.errors import Problem
from planner.ir.values import Json

TokenIds = NDArray[np.int64]


class NotTokenized(ExecutorError):
    """The tokenizer cannot be had, or cannot take these messages. Lengths are then estimated by characters."""

    def __init__(self, where: str, what: str, fix: str) -> None:
        super().__init__("the prompts cannot be counted in tokens", [Problem(where, what, fix)])


class Tokenize(Protocol):
    """Promises: one sequence of ids for each prompt, in order, up to where the answer begins; or `NotTokenized`."""

    async def __call__(self, prompts: Sequence[Sequence[Json]]) -> list[TokenIds]: ...
