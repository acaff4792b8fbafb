"""The names of vLLM's scheduler that our half touches, and nothing else of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from autellix.core.records import WaitReason
from autellix.core.snapshot import TierUse

if TYPE_CHECKING:
    from autellix.core.call import Call

REQUIRED: Final = (
    "add_request",
    "finish_requests",
    "schedule",
    "update_from_output",
    "_preempt_request",
)
"""Methods of vLLM's scheduler class that the mixin needs."""

REQUIRED_STATE: Final = (
    "kv_cache_manager.block_pool.get_num_free_blocks",
    "kv_cache_manager.block_pool.num_gpu_blocks",
    "max_num_running_reqs",
    "max_num_scheduled_tokens",
    "policy",
    "requests",
    "running",
    "waiting.add_request",
    "waiting.remove_requests",
)
"""What an instance of it must have."""

_INNER_BITS: Final = 64


def missing_in(scheduler: Any, names: Iterable[str]) -> list[str]:
    """Return which of these (dotted) names a scheduler, or its class, lacks."""
    return [name for name in names if not _has(scheduler, name)]


def _has(thing: Any, dotted: str) -> bool:
    for name in dotted.split("."):
        if not hasattr(thing, name):
            return False
        thing = getattr(thing, name)
    return True


def use_of(scheduler: Any) -> TierUse:
    """Return the use of vLLM's blocks; those that hold cached prefixes are free."""
    pool = scheduler.kv_cache_manager.block_pool
    total = pool.num_gpu_blocks - 1  # one stands for no block
    free = pool.get_num_free_blocks()
    return TierUse(total=total, free=free, cached=0, referenced=total - free, moving=0)


def shared_blocks(scheduler: Any, request: Any) -> int:
    """Return how many blocks of a waiting request others hold, to be shared with it.

    A look into the prefix cache and no more: nothing is counted as a hit, or touched.
    Where layers differ in what they keep, or this vLLM has no such look, none.
    """
    coordinator = getattr(scheduler.kv_cache_manager, "coordinator", None)
    look = getattr(coordinator, "find_longest_cache_hit", None)
    if look is None or getattr(request, "skip_reading_prefix_cache", False):
        return 0
    found = look(request.block_hashes, request.num_tokens - 1)[0]
    if len(found) != 1:
        return 0
    return sum(block.ref_cnt > 0 and not block.is_null for block in found[0])


def short_of(scheduler: Any, slots: int, output: Any) -> WaitReason:
    """Return what calls that are not in a step of vLLM's wait for."""
    if len(scheduler.running) >= slots:
        return WaitReason.SLOTS
    if output.total_num_scheduled_tokens >= scheduler.max_num_scheduled_tokens:
        return WaitReason.TOKEN_BUDGET
    return WaitReason.BLOCKS


def place_of(call: Call) -> int:
    """Return a call's place in the order as one number, lower is sooner."""
    place = call.level
    for number in call.inner:
        place = (place << _INNER_BITS) | number
    return place
