"""Problems as RFC 9457 has them."""

from pydantic import Field

from halo.service.schemas.base import Told


class ProblemPlace(Told):
    where: str
    what: str
    fix: str


class ProblemDocument(Told):
    """RFC 9457. `type` is stable; `problems` tells everything that is wrong at once."""

    type: str
    title: str
    status: int
    detail: str
    problems: list[ProblemPlace] = Field(default_factory=list)
    problems_total: int = 0
