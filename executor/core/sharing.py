"""Equal work is done once: who does it, who waits for it, and which answers are still kept."""

from collections import OrderedDict
from dataclasses import dataclass, field

from executor.core.work import Work
from planner.ir.ids import ContentKey, JobId, NodeRef


@dataclass(slots=True, eq=False)
class Entry:
    """`owner` does the work until `done_by` did; `uses_left` is None where the number of takers is not known, and else
    counts those of the jobs in `counted`.

    Thousands are kept: a finished one holds no work, which would hold its program.
    """

    key: ContentKey
    job: JobId
    owner: Work | None
    uses_left: int | None
    waiting: list[Work] = field(default_factory=list)
    done_by: NodeRef | None = None
    tools: tuple[str, ...] = ()
    counted: tuple[JobId, ...] = ()


class SharedWork:
    """All keys under which work runs or answers are kept. Kept answers are bounded: the oldest goes first."""

    def __init__(self, kept: int) -> None:
        self._kept_limit = kept
        self._entries: dict[ContentKey, Entry] = {}
        self._kept: OrderedDict[ContentKey, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: ContentKey) -> Entry | None:
        return self._entries.get(key)

    def wait(self, entry: Entry, work: Work) -> None:
        work.waits_for = entry.key
        entry.waiting.append(work)

    def own(self, key: ContentKey, work: Work, uses: int | None) -> None:
        """`work` will do what `key` names; others that come with the key wait for it."""
        assert key not in self._entries
        self._entries[key] = Entry(key, work.program.job, work, uses, counted=(work.program.job,))
        work.keys.append(key)

    def know(self, key: ContentKey, job: JobId, node: NodeRef) -> None:
        """The answer is kept already: `node` gave it in an earlier process."""
        if key not in self._entries:
            self._entries[key] = Entry(key, job, None, None, done_by=node)
            self._kept[key] = None

    def finish(self, key: ContentKey, tools: tuple[str, ...]) -> tuple[Entry, list[Work]]:
        """The owner is done: the works that waited for it. The answer is kept from now on."""
        entry = self._entries[key]
        assert entry.owner is not None
        entry.done_by, entry.owner, entry.tools = entry.owner.ref, None, tools
        self._kept[key] = None
        return entry, _released(entry)

    def join(self, entry: Entry, job: JobId, uses: int | None) -> None:
        """A job asks for what another one's plan named too: as many uses more can come."""
        if entry.uses_left is not None and uses is not None and job not in entry.counted:
            entry.counted += (job,)
            entry.uses_left += uses

    def take(self, entry: Entry) -> bool:
        """Count one more use; True when it was the last that can come."""
        if entry.uses_left is None:
            return False
        entry.uses_left -= 1
        return entry.uses_left <= 0

    def heir(self, work: Work) -> Work | None:
        """The first whose program goes on of those that wait for `work`."""
        waiting = (other for key in work.keys for other in self._entries[key].waiting)
        return next((other for other in waiting if not other.program.ended), None)

    def inherit(self, work: Work, heir: Work) -> None:
        """`work` goes on in place of `heir`, which waited for it; what others wait for from either, it will give."""
        self.leave(heir)
        for key in work.keys:
            self._entries[key].job = heir.program.job
        for key in heir.keys:
            self._entries[key].owner = work
        work.keys += heir.keys
        heir.keys = []

    def abandon(self, key: ContentKey) -> list[Work]:
        """The owner will not finish: the works that waited for it."""
        return _released(self._entries.pop(key))

    def leave(self, work: Work) -> None:
        """`work` no longer waits for anybody."""
        assert work.waits_for is not None
        self._entries[work.waits_for].waiting.remove(work)
        work.waits_for = None

    def forget(self, key: ContentKey) -> None:
        del self._entries[key]
        self._kept.pop(key, None)

    def overfull(self) -> list[ContentKey]:
        """The oldest kept answers beyond the bound."""
        surplus = len(self._kept) - self._kept_limit
        if surplus <= 0:
            return []
        return [key for key, _ in zip(self._kept, range(surplus), strict=False)]

    def kept_for(self, job: JobId) -> list[ContentKey]:
        return [key for key in self._kept if self._entries[key].job == job]


def _released(entry: Entry) -> list[Work]:
    waiting, entry.waiting = entry.waiting, []
    for work in waiting:
        work.waits_for = None
    return waiting
