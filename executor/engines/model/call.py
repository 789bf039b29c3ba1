"""A call inside the modelled engine."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from executor.engines.model.block_pool import BlockName

Id = TypeVar("Id", bound=Hashable)


@dataclass(slots=True, eq=False)
class Call(Generic[Id]):
    """`computed` tokens have their KV in memory, `written` are the answer so far: as of the step `since`, while it is
    in a `Decoding`. The call admitted later has the greater `place`."""

    id: Id
    prompt_tokens: int
    output_tokens: int
    names: Sequence[BlockName]
    submitted_at: float
    priority: int = 0
    said: Mapping[str, object] | None = None  # to the plugin
    place: int = -1  # before it is admitted, and again once it gave its blocks back
    since: int = -1  # outside of a `Decoding`
    computed: int = 0
    written: int = 0
    chunk: int = 0  # tokens it has in the step at hand
    blocks: int = 0
    shared: list[BlockName] = field(default_factory=list)  # those of its blocks that others may use
    published: int = 0  # blocks from the first that are full and offered to others
    cached_tokens: int = 0
    began_at: float | None = None
    first_token_at: float | None = None
    preemptions: int = 0

    @property
    def known(self) -> int:
        """Tokens whose KV it needs before it can write the next one."""
        return self.prompt_tokens + self.written
