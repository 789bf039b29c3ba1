"""What is believed of each job that runs here: read when it begins, and kept with it before anything it gives."""

from collections.abc import Mapping
from dataclasses import replace

from executor.beliefs import Beliefs, answered, decode_beliefs, encode_beliefs
from executor.clock import Clock
from executor.drivers.experiences import Experiences
from executor.store.jobs import JobContents
from executor.store.port import Store
from executor.store.writes import JobBelieved
from planner.cost.correction import Correction
from planner.ir.ids import EngineId, JobId
from planner.ir.plan import Plan


class JobBeliefs:
    """A job that is gone on with keeps what was believed before its first attempt: its own calls teach it nothing."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._experiences = Experiences(store, clock)
        self._unwritten: dict[JobId, Beliefs] = {}

    async def begin(self, contents: JobContents, plan: Plan, corrections: Mapping[EngineId, Correction]) -> Beliefs:
        """Raises `StoreUnavailable`."""
        if contents.beliefs is not None:
            return decode_beliefs(contents.beliefs)
        experience = await self._experiences.of(contents, plan)
        found = self._unwritten[contents.record.id] = Beliefs(experience, answered(corrections))
        return found

    def counted(self, job: JobId, chars_per_token: float) -> None:
        """A tokenizer told before the job's first call."""
        if (found := self._unwritten.get(job)) is not None:
            self._unwritten[job] = replace(found, experience=replace(found.experience, chars_per_token=chars_per_token))

    def to_write(self, job: JobId) -> JobBelieved | None:
        """What of it is to be written with the job's first write: once, and no transaction of its own."""
        found = self._unwritten.pop(job, None)
        return None if found is None else JobBelieved(encode_beliefs(found))
