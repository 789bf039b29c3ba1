"""All that differs between versions of vLLM, 0.24 to 0.33, and the check whether this one can be worked with."""

import inspect
from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import FreeKVCacheBlockQueue, KVCacheBlock
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request, RequestStatus
from vllm.version import __version__

from halo_vllm.policy.identity import Ending, ending_of

OLDEST, NEWEST = (0, 24), (0, 33)

#: What is called or overridden, and the arguments it is called with by vLLM or by us.
SIGNATURES: tuple[tuple[type, str, tuple[str, ...]], ...] = (
    (AsyncScheduler, "schedule", ("self",)),
    (AsyncScheduler, "update_from_output", ("self", "scheduler_output")),
    (AsyncScheduler, "add_request", ("self", "request")),
    (AsyncScheduler, "_free_request", ("self", "request")),
    (AsyncScheduler, "_free_blocks", ("self", "request")),
    (AsyncScheduler, "_preempt_request", ("self", "request", "timestamp")),
    (AsyncScheduler, "reset_prefix_cache", ("self",)),
    (BlockPool, "free_blocks", ("self", "ordered_blocks")),
    (BlockPool, "touch", ("self", "blocks")),
    (BlockPool, "get_cached_block", ("self", "block_hash", "kv_cache_group_ids")),
    (FreeKVCacheBlockQueue, "popleft", ("self",)),
    (FreeKVCacheBlockQueue, "popleft_n", ("self", "n")),
    (FreeKVCacheBlockQueue, "remove", ("self", "block")),
    (FreeKVCacheBlockQueue, "append", ("self", "block")),
    (FreeKVCacheBlockQueue, "append_n", ("self", "blocks")),
    (FreeKVCacheBlockQueue, "get_all_free_blocks", ("self",)),
)
QUEUE_METHODS = frozenset(
    {
        "add_request",
        "pop_request",
        "peek_request",
        "prepend_request",
        "prepend_requests",
        "remove_request",
        "remove_requests",
        "__bool__",
        "__len__",
        "__iter__",
    }
)


def problems(scheduler: AsyncScheduler, version: str = __version__) -> list[str]:
    """Why this scheduler's vLLM cannot be worked with; empty if it can."""
    return [*_of_version(version), *_of_signatures(), *_of_objects(scheduler)]


def lacks() -> list[str]:
    """What this vLLM does not offer; all else works without it."""
    found = []
    if "session_id" not in inspect.signature(Request.__init__).parameters:
        found.append("passes on no session (X-Session-ID, `session_id`): name programs in `vllm_xargs`")
    if find_spec("vllm.plugins.endpoint_plugins") is None:
        found.append("loads no endpoints: no /halo/hint, no /halo/stats, no counters on /metrics")
    return found


def waiting_queues(scheduler: AsyncScheduler) -> Iterator[tuple[str, RequestQueue]]:
    """The queues of calls that hold no KV, by attribute. 0.24 keeps those it passed over in a second one."""
    for name in ("waiting", "skipped_waiting"):
        queue = getattr(scheduler, name, None)
        if isinstance(queue, RequestQueue):
            yield name, queue


def hashed_blocks(scheduler: AsyncScheduler, request: Request) -> list[KVCacheBlock]:
    """The blocks of the request that can be found again, from its beginning, group after group."""
    pool = scheduler.kv_cache_manager.block_pool
    groups = scheduler.kv_cache_manager.get_blocks(request.request_id).blocks
    return [
        block
        for group in groups
        for block in group
        if block.block_hash is not None and not block.is_null and getattr(block, "pool", None) in (None, pool)
    ]


def missing_blocks(scheduler: AsyncScheduler, request: Request) -> int:
    """Blocks of the request's tokens that are not to be found: what it takes to start. 0 where layers have blocks of
    several kinds: how many of each they take is not known here."""
    if len(scheduler.kv_cache_config.kv_cache_groups) != 1 or hash_block_tokens(scheduler) != scheduler.block_size:
        return 0
    pool, chain = scheduler.kv_cache_manager.block_pool, request.block_hashes
    found = bisect_left(chain, True, key=lambda block: pool.get_cached_block(block, [0]) is None)
    return -(-request.num_tokens // scheduler.block_size) - found


def hash_block_tokens(scheduler: AsyncScheduler) -> int:
    """Tokens that one hash of `chain_of` stands for. 0.24 tells it to the block pool alone."""
    return int(scheduler.kv_cache_manager.block_pool.hash_block_size)


def prompt_of(request: Request, block_tokens: int) -> tuple[Sequence[Hashable], Sequence[int]]:
    """The chained hashes of the prompt's full blocks, and its tokens."""
    tokens = request.num_prompt_tokens
    return request.block_hashes[: tokens // block_tokens], request._all_token_ids[:tokens]


def endings_of(request: Request, block_tokens: int) -> tuple[Ending, Ending]:
    """What the prompt ends with, and what the answer."""
    chain, tokens = request.block_hashes, request._all_token_ids
    ends = request.num_prompt_tokens
    full = ends // block_tokens
    prompt = Ending(chain[full - 1] if full else None, tuple(tokens[full * block_tokens : ends]))
    return prompt, ending_of(chain, tokens[len(chain) * block_tokens :])


def chain_of(request: Request) -> Sequence[Hashable]:
    """The chained hashes of the request's full blocks."""
    return list(request.block_hashes)


def tokens_of(request: Request) -> Sequence[int]:
    return request._all_token_ids


def session_of(request: Request) -> str | None:
    """From 0.27 on, the header `X-Session-ID` or the body's `session_id`."""
    return getattr(request, "session_id", None)


def said_of(request: Request) -> dict[str, object]:
    """What the client added to the request: `vllm_xargs`."""
    sampling = request.sampling_params
    return (sampling.extra_args if sampling is not None else None) or {}


def is_aborted(request: Request) -> bool:
    return bool(request.status == RequestStatus.FINISHED_ABORTED)


def starts(planned: Any) -> Iterator[tuple[str, int]]:
    """(request, tokens found in the cache) of the requests that this step starts, or starts again after they had been
    preempted: those are told among the new ones or by their ids alone."""
    for new in planned.scheduled_new_reqs:
        yield new.req_id, new.num_computed_tokens
    for request_id in planned.scheduled_cached_reqs.resumed_req_ids:
        yield request_id, 0


def started(planned: Any) -> int:
    """How many requests the step started, or started again after they had been preempted."""
    return len(planned.scheduled_new_reqs) + len(planned.scheduled_cached_reqs.resumed_req_ids)


def _of_version(version: str) -> list[str]:
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return []  # built from source: judged by what it has
    if OLDEST <= (int(parts[0]), int(parts[1])) <= NEWEST:
        return []
    return [f"vLLM {version} is not between {'.'.join(map(str, OLDEST))} and {'.'.join(map(str, NEWEST))}"]


def _of_signatures() -> list[str]:
    found = []
    for owner, name, needed in SIGNATURES:
        method = getattr(owner, name, None)
        if method is None:
            found.append(f"{owner.__name__}.{name} is gone")
            continue
        has = inspect.signature(method).parameters
        if tuple(has)[: len(needed)] != needed:
            found.append(f"{owner.__name__}.{name} takes ({', '.join(has)})")
    found += [f"RequestQueue.{name} is new" for name in sorted(RequestQueue.__abstractmethods__ - QUEUE_METHODS)]
    return found


def _of_objects(scheduler: AsyncScheduler) -> list[str]:
    found = []
    pool = getattr(scheduler.kv_cache_manager, "block_pool", None)
    queue = getattr(pool, "free_block_queue", None)
    if type(queue) is not FreeKVCacheBlockQueue:
        found.append(f"the block pool's free queue is a {type(queue).__name__}")
    elif not hasattr(queue, "fake_free_list_head"):
        found.append("the block pool's free queue is no linked list")
    if not hasattr(pool, "hash_block_size"):
        found.append("the block pool does not say how many tokens a hash stands for")
    if not isinstance(getattr(scheduler, "waiting", None), RequestQueue) or not hasattr(scheduler, "running"):
        found.append("the scheduler has no queues `waiting` and `running`")
    if not scheduler.cache_config.enable_prefix_caching:
        found.append("prefix caching is off")
    return found
