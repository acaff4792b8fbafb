"""Puts vLLM's queues in our order before it decides, and takes slots (rules S1, S2)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from autellix.backends.vllm.preemption import Pace, PreemptionRule, Room
from autellix.backends.vllm.surface import place_of, shared_blocks
from autellix.core.records import WaitReason
from autellix.core.starvation import is_starving

if TYPE_CHECKING:
    from autellix.backends.vllm.follower import Follower
    from autellix.core.call import Call

_PRIORITY: Final = attrgetter("priority")
_ADMISSIBLE: Final = frozenset({"WAITING", "PREEMPTED"})


class Ordering:
    """Our order in vLLM's queues.

    Args:
        scheduler: vLLM's.
        follower: The books; its policy and ranking give the order.
        requests: vLLM's requests by call id, as they come and go.
        rule: Says who yields.
        slots: Most calls in a step.
    """

    def __init__(
        self,
        scheduler: Any,
        follower: Follower,
        requests: Mapping[int, Any],
        rule: PreemptionRule,
        slots: int,
    ) -> None:
        self._scheduler = scheduler
        self._follower = follower
        self._requests = requests
        self._rule = rule
        self._slots = slots
        self._block_tokens = int(scheduler.cache_config.block_size)
        self._caches = bool(scheduler.cache_config.enable_prefix_caching)

    def sort_running(self) -> None:
        """Let the best running calls get their tokens first."""
        self._scheduler.running.sort(key=_PRIORITY)

    def requeue(self, moved: Iterable[Call]) -> None:
        """Give calls that stand elsewhere now their new place in vLLM's queue.

        Those that have ended since are left out.
        """
        waiting = self._scheduler.waiting
        in_queue = set(waiting)
        live = {c.call_id: c for c in moved if c.call_id in self._requests}
        requests = [self._requests[call_id] for call_id in live]
        waiting.remove_requests([r for r in requests if r in in_queue])
        for request, call in zip(requests, live.values(), strict=True):
            request.priority = place_of(call)
            if request in in_queue:
                waiting.add_request(request)

    def preempt(self, pace: Pace, now_ns: int) -> None:
        """Take slots and blocks for better calls, where that pays."""
        books = self._follower.books
        if not books.line or not books.running:
            return
        best = books.line[books.line.all[0]]
        worst_level = max(call.level for call in books.running)
        if worst_level - best.level < self._rule.hysteresis_levels:
            return
        self._follower.settle()
        running = sorted(
            (call for call in books.running if self._may_yield(call)),
            key=_order,
        )
        waiting = (books.line[place] for place in list(books.line.all))
        admissible = (call for call in waiting if self._may_come_in(call))
        for found in self._rule.decide(admissible, running, self._room(), pace):
            for victim in found.victims:
                self._take_slot(victim, found.by, now_ns)

    def _may_yield(self, call: Call) -> bool:
        """Say whether a call can be preempted, and would not come back at once."""
        request = self._requests[call.call_id]
        if request.status.name != "RUNNING":
            return False  # aborted while a step is under way: vLLM has it no more
        if self._follower.may_promote() and self._starves(call):
            return False  # without a slot it might be promoted in the next round
        can_free = getattr(self._scheduler, "_request_blocks_can_be_freed", None)
        return can_free is None or bool(can_free(request))

    def _starves(self, call: Call) -> bool:
        beta = self._follower.books.policy.beta
        quantum_ns = self._follower.books.places.ranking.first_quantum_ns
        return beta is not None and is_starving(call.clock.window, beta, quantum_ns)

    def _may_come_in(self, call: Call) -> bool:
        return self._requests[call.call_id].status.name in _ADMISSIBLE

    def _room(self) -> Room:
        scheduler, size = self._scheduler, self._block_tokens
        pool = scheduler.kv_cache_manager.block_pool
        tokens = growing = 0
        for request in scheduler.running:
            missing = request.num_tokens_with_spec - request.num_computed_tokens
            tokens += max(1, missing)
            if request.num_computed_tokens % size == 0:
                growing += 1
        return Room(
            slots=self._slots - len(scheduler.running),
            tokens=scheduler.max_num_scheduled_tokens - tokens,
            blocks=pool.get_num_free_blocks() - growing,
            block_tokens=size,
            caches_prefixes=self._caches,
            shared=self._shared,
        )

    def _shared(self, call: Call) -> int:
        if not self._caches:
            return 0
        return shared_blocks(self._scheduler, self._requests[call.call_id])

    def _take_slot(self, victim: Call, by: Call, now_ns: int) -> None:
        scheduler, request = self._scheduler, self._requests[victim.call_id]
        scheduler.running.remove(request)
        seconds = time.monotonic()  # noqa: TID251 - vLLM's own clock for its events
        scheduler._preempt_request(request, seconds)  # noqa: SLF001 - no public way
        self._follower.preempted(victim, by, WaitReason.SLOTS, now_ns)


def _order(call: Call) -> tuple[int, ...]:
    return call.order
