"""vLLM's scheduler with programs in it: `--scheduler-cls halo_vllm.Scheduler`.

What is decided is decided in `halo_vllm.programs`; what is done is vLLM's own code, on queues in another order.
"""

import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from vllm.logger import init_logger
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.request_queue import SchedulingPolicy
from vllm.v1.request import Request

from halo_vllm import compat
from halo_vllm.eviction import RankedFreeQueue
from halo_vllm.pins import PinnedBlocks
from halo_vllm.program import Asked, Resumed
from halo_vllm.programs import Programs
from halo_vllm.settings import read_settings
from halo_vllm.waiting_queue import ProgramQueue

logger = init_logger(__name__)

#: Steps that may be scheduled before the first of them has ended: one a stage of a pipeline, and one.
STEPS_AHEAD = 32


class Scheduler(AsyncScheduler):
    """vLLM's own scheduler until the first call that belongs to a program. From then on new programs wait until they
    fit, calls go in program order, and the KV of programs that wait for a tool goes last.

    Where this vLLM is not known, it stays vLLM's own scheduler, with one warning.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock: Callable[[], float] = time.monotonic
        self._programs: Programs | None = None
        self._kept: RankedFreeQueue | PinnedBlocks | None = None
        self._queues: list[ProgramQueue] = []
        self._steps: deque[tuple[float, Any]] = deque(maxlen=STEPS_AHEAD)
        self._ended_s = float("-inf")
        problems = compat.problems(self)
        if problems:
            logger.warning("halo_vllm leaves vLLM's scheduler as it is: %s", "; ".join(problems))
            return
        settings = read_settings(_settings_of(self.vllm_config.additional_config))
        self._block_tokens = block_tokens = compat.hash_block_tokens(self)
        capacity = self.cache_config.num_gpu_blocks * self.block_size // block_tokens
        self._programs = Programs(settings, capacity // len(self.kv_cache_config.kv_cache_groups), block_tokens)
        for lack in compat.lacks():
            logger.warning("halo_vllm: this vLLM %s", lack)

    def use_clock(self, clock: Callable[[], float]) -> None:
        """Seconds that never go back; for virtual time."""
        self._clock = clock

    def add_request(self, request: Request) -> None:
        if self._programs is not None and request.request_id not in self.requests:
            self._ask(self._programs, request)
        super().add_request(request)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        programs = self._programs
        if programs is None:
            return super().schedule(*args, **kwargs)
        now_s = self._clock()
        if self._kept is not None:
            self._prepare(programs, self._kept, now_s)
        planned = super().schedule(*args, **kwargs)
        while not planned.num_scheduled_tokens and self._relieve(programs, now_s):
            planned = super().schedule(*args, **kwargs)
        if planned.num_scheduled_tokens:
            self._steps.append((now_s, planned))
            self._note_starts(programs, planned, now_s)
        return planned

    def update_from_output(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        if self._programs is not None and scheduler_output.num_scheduled_tokens:
            self._measure(self._programs, scheduler_output)
        return super().update_from_output(scheduler_output, *args, **kwargs)

    def halo_hint(self, hint: Mapping[str, Any]) -> bool:
        """What a client tells between calls: `program`, `event` (tool_called, tool_finished, last_step, let_go), the
        hints of `policy.hints`, and `cache_salt` where calls have one. False if the plugin is not at work."""
        if self._programs is None:
            return False
        told = dict(hint)
        name, event, tenant = (str(told.pop(field, "")) for field in ("program", "event", "cache_salt"))
        gone = self._programs.hinted(tenant, name, event, told, self._clock())
        if self._kept is not None:
            _let_go(self._kept, gone)
        return True

    def halo_stats(self) -> dict[str, float]:
        """The plugin's counters; empty if it is not at work."""
        if self._programs is None:
            return {}
        counters = self._programs.counters
        kept = self._kept.kept_blocks if self._kept is not None else 0
        counters.retained_share = kept / self.cache_config.num_gpu_blocks
        counters.held_calls = sum(queue.held for queue in self._queues)
        counters.break_even_s = self._programs.worth(1, 1).tstar_s
        return counters.values()

    def reset_prefix_cache(self, *args: Any, **kwargs: Any) -> bool:
        if isinstance(self._kept, PinnedBlocks):
            self._kept.let_all_go()
        done = bool(super().reset_prefix_cache(*args, **kwargs))
        if done and self._programs is not None and self._kept is not None:
            self._kept.let_all_go()
            self._programs.reset(self._clock())
        return done

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super()._preempt_request(request, *args, **kwargs)
        if self._programs is not None:
            self._programs.preempted(request.request_id, self._clock())
            if self._kept is not None:
                self._give_back(self._programs, self._kept)

    def _free_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Where a KV connector still sends the request's blocks, they are freed later; its call is over now."""
        answer = super()._free_request(request, *args, **kwargs)
        if self._programs is not None and request.request_id in self.requests:
            self._finish(self._programs, request)
        return answer

    def _free_blocks(self, request: Request) -> None:
        if self._programs is not None:
            self._finish(self._programs, request)
        super()._free_blocks(request)
        if self._programs is not None and self._kept is not None:
            self._give_back(self._programs, self._kept)

    def _ask(self, programs: Programs, request: Request) -> None:
        now_s = self._clock()
        if programs.asleep:
            said, session = compat.said_of(request), compat.session_of(request)
            if programs.stands_alone(request.request_id, request.block_hashes, said, session, now_s):
                return
            programs.catch_up(self._asked(other) for other in self.requests.values())
        programs.asked(self._asked(request), now_s)
        if programs.awake and self._kept is None:
            self._wake(programs)

    def _asked(self, request: Request) -> Asked:
        chain, tokens = compat.prompt_of(request, self._block_tokens)
        return Asked(
            id=request.request_id,
            chain=chain,
            tokens=tokens,
            tenant=request.cache_salt or "",
            session=compat.session_of(request),
            said=compat.said_of(request),
        )

    def _wake(self, programs: Programs) -> None:
        """The first program is here: from now on queues are in program order."""

        self._kept = self._keeping(programs)
        for name, queue in list(compat.waiting_queues(self)):
            ordered = ProgramQueue(
                self._key, lambda request: not programs.is_held(request.request_id), partial(self._may_start, programs)
            )
            ordered.prepend_requests(queue)
            setattr(self, name, ordered)
            self._queues.append(ordered)
        self.running.sort(key=self._key)

    def _keeping(self, programs: Programs) -> RankedFreeQueue | PinnedBlocks:
        pool = self.kv_cache_manager.block_pool
        if programs.settings.keep == "pin":
            return PinnedBlocks(pool)

        def rank() -> Iterator[str]:
            return programs.order(self._clock())

        def taken(branch: str, number: int) -> None:
            programs.lost(branch, number, self._clock(), all_gone=not queue.kept_of(branch))

        blocks = self.cache_config.num_gpu_blocks
        queue = pool.free_block_queue = RankedFreeQueue(pool.free_block_queue, blocks, rank, taken)
        return queue

    def _relieve(self, programs: Programs, now_s: float) -> bool:
        """Pins hold what the only calls there are need: the first in the order gives way."""
        if not isinstance(self._kept, PinnedBlocks) or self.running or not any(queue.ready for queue in self._queues):
            return False
        for branch in programs.order(now_s):
            if self._kept.let_go(branch):
                programs.relieved(branch, now_s)
                return True
        return False

    def _key(self, request: Request) -> tuple[int, ...]:
        assert self._programs is not None
        priority = request.priority if self.policy == SchedulingPolicy.PRIORITY else 0
        return (priority, *self._programs.place(request.request_id))

    def _prepare(self, programs: Programs, kept: RankedFreeQueue | PinnedBlocks, now_s: float) -> None:
        _let_go(kept, programs.expired(now_s))
        idle = not self.running and not any(queue.ready for queue in self._queues)
        for request_id in programs.admitted(now_s, idle=idle):
            for queue in self._queues:
                queue.release(request_id)
        aged = programs.aged(now_s)
        if aged is not None:
            for queue in self._queues:
                queue.replace(aged)

    def _note_starts(self, programs: Programs, planned: Any, now_s: float) -> None:
        for request_id, cached_tokens in compat.starts(planned):
            resumed = programs.started(request_id, cached_tokens, now_s)
            if resumed and self._kept is not None:
                self._resume(programs, self._kept, resumed)
        if self._kept is not None and (started := compat.started(planned)):
            self._order_running(started)

    def _resume(self, programs: Programs, kept: RankedFreeQueue | PinnedBlocks, resumed: Iterable[Resumed]) -> None:
        for one in resumed:
            if one.left:
                programs.counters.demotions += kept.leave(one.branch)
            else:
                kept.let_go(one.branch)

    def _may_start(self, programs: Programs, request: Request) -> bool:
        """While others run, a call does not at once take what is kept: whoever it is kept for may soon be back. What
        runs already takes it."""
        kept = self._kept
        if not self.running or not isinstance(kept, RankedFreeQueue) or not kept.kept_blocks:
            return True
        nobodys = kept.num_free_blocks - kept.kept_blocks
        if request.num_tokens <= nobodys * self.block_size:
            return True
        taken = compat.missing_blocks(self, request) - nobodys
        return taken <= 0 or programs.may_take(request.request_id, taken, self._clock())

    def _order_running(self, started: int) -> None:
        """vLLM puts what starts at the end. The last in program order are preempted first, so the end has to be in that
        order; all before it is already."""
        for at in range(len(self.running) - started, len(self.running)):
            insort(self.running, self.running.pop(at), hi=at, key=self._key)

    def _measure(self, programs: Programs, planned: Any) -> None:
        """A step lasts from when it is scheduled, or from when the one before it ended if that is later: the next one
        may be scheduled while it runs."""
        now_s = self._clock()
        while self._steps:
            since_s, step = self._steps.popleft()
            if step is planned:
                prefill_tokens = planned.total_num_scheduled_tokens - len(planned.num_scheduled_tokens)
                programs.measured.prefill.step(prefill_tokens, now_s - max(since_s, self._ended_s))
                break
        self._ended_s = now_s

    def _finish(self, programs: Programs, request: Request) -> None:
        """Told twice of a request whose blocks were freed late, it does nothing the second time."""
        now_s = self._clock()
        if programs.asleep:
            self._end_alone(programs, request, now_s)
            return
        chain, tokens = compat.chain_of(request), compat.tokens_of(request)
        outcome = programs.finished(request.request_id, chain, tokens, now_s, aborted=compat.is_aborted(request))
        if outcome is None or self._kept is None:
            return
        _let_go(self._kept, outcome.gone)
        if outcome.keep:
            self._kept.keep(outcome.branch, compat.hashed_blocks(self, request))
        else:
            self._kept.let_go(outcome.branch)

    def _end_alone(self, programs: Programs, request: Request, now_s: float) -> None:
        prompt, whole = compat.endings_of(request, self._block_tokens)
        tenant, blocks = request.cache_salt or "", len(request.block_hashes)
        aborted = compat.is_aborted(request)
        programs.ended_alone(request.request_id, prompt, whole, tenant, blocks, now_s, aborted=aborted)

    def _give_back(self, programs: Programs, kept: RankedFreeQueue | PinnedBlocks) -> None:
        """What is over the caps, now that the blocks are nobody's. One given by its branch may be kept for another,
        which gives it next."""
        while gives := programs.over(self._clock(), kept, self.cache_config.num_gpu_blocks):
            for branch, blocks in gives:
                kept.give(branch, blocks)


def _let_go(kept: RankedFreeQueue | PinnedBlocks, branches: Iterable[str]) -> None:
    for branch in branches:
        kept.let_go(branch)


def _settings_of(additional: object) -> Mapping[str, object]:
    given = additional.get("halo", {}) if isinstance(additional, Mapping) else {}
    return given if isinstance(given, Mapping) else {"halo": given}
