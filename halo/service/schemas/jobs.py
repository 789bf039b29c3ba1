"""A job beside what was predicted of it."""

from halo.service.schemas.base import Row, Told


class JobAnalyzed(Told):
    """What was predicted of a job beside what became of it: `analysis` stage by stage, `text` the same for people.

    `seconds` is from the begin of its first call or tool to the end of the last.
    """

    id: str
    rows: int
    rows_ended: int
    seconds: float
    analysis: Row
    text: str
