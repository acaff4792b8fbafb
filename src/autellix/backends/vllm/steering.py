"""Steers vLLM's own scheduler by program: what our mixin does around each of its steps.

vLLM admits, grows and batches. We set the order (its ``priority``, from the core's
levels), take slots and blocks from worse calls where that pays, and book what happened.
Only a few names of vLLM's scheduler are touched; ``REQUIRED`` lists them, and where one
is missing the mixin is not used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs

from autellix.backends.vllm.follower import Admitted, Follower
from autellix.backends.vllm.preemption import DEFAULT_COSTS, Pace, PreemptionRule, Room
from autellix.core.plan import Sampled
from autellix.core.ranking import InnerOrder
from autellix.core.records import Outcome, WaitReason
from autellix.core.snapshot import TierUse
from autellix.core.starvation import is_starving
from autellix.policies import FCFS

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.cost_model import CostModel
    from autellix.core.facts import Fact
    from autellix.core.plan import Plan
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallSpec
    from autellix.core.snapshot import EngineStatistics

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

_OUTCOMES: Final = {
    "FINISHED_ABORTED": Outcome.CANCELLED,
    "FINISHED_ERROR": Outcome.FAILED,
}
_ADMISSIBLE: Final = frozenset({"WAITING", "PREEMPTED"})
_INNER_BITS: Final = 64


@attrs.frozen(kw_only=True)
class Steer:
    """How to steer: what an engine is told before it serves.

    Attributes:
        policy: Decides the order of calls.
        ranking: Its ranking for this engine.
        costs: What steps cost here.
        clock_offset_ns: The runtime's clock less this machine's monotonic clock.
        hysteresis_levels: How much worse a call must be to be preempted.
        preempts: Whether calls are preempted at all.
    """

    policy: Policy
    ranking: Ranking
    costs: CostModel
    clock_offset_ns: int = 0
    hysteresis_levels: int = 1
    preempts: bool = True

    @classmethod
    def unmeasured(cls) -> Steer:
        """Return first come, first served, for an engine before it is measured."""
        policy, step_ns = FCFS(), DEFAULT_COSTS.single_step_ns()
        return cls(policy=policy, ranking=policy.ranking(step_ns), costs=DEFAULT_COSTS)


@attrs.define(eq=False)
class _Flight:
    """A step that vLLM has taken and not brought back."""

    plan: Plan
    forward_at_ns: int
    is_full: bool


class Steering:
    """Our half of a vLLM scheduler; used from its thread but for what is said so.

    Args:
        scheduler: vLLM's, whose other half this is.
        steer: How to steer.

    Attributes:
        follower: The books.
        pace: What was learned of the load.
        lock: Held while the books change; take it to read them from elsewhere.
    """

    def __init__(self, scheduler: Any, steer: Steer) -> None:
        slots = getattr(scheduler, "max_num_active_reqs", None)
        self.slots: int = slots or scheduler.max_num_running_reqs
        self.follower = Follower(
            slots=self.slots,
            policy=steer.policy,
            ranking=steer.ranking,
            costs=steer.costs,
        )
        self.pace = Pace()
        self.lock = threading.Lock()
        self._scheduler = scheduler
        self._offset_ns = steer.clock_offset_ns
        self._latest_ns = 0
        self._rule = PreemptionRule(
            costs=steer.costs, hysteresis_levels=steer.hysteresis_levels
        )
        self._calls: dict[str, Call] = {}  # by vLLM's request id
        self._requests: dict[int, Any] = {}  # vLLM's requests by call id
        self._entered: dict[int, int] = {}  # level at entry, by call id
        self._flights: dict[int, _Flight] = {}  # by identity of vLLM's step
        inner = steer.policy.inner_order
        one_level = steer.ranking.levels == 1
        self.keeps_order = one_level and inner is InnerOrder.LEVEL_ARRIVAL
        """Whether first come is first served: then all is left as vLLM does it."""
        self._beta = steer.policy.beta
        self._preempts = steer.preempts and not one_level
        block_tokens = int(scheduler.cache_config.block_size)
        self._block_tokens = block_tokens
        self._caches = bool(scheduler.cache_config.enable_prefix_caching)

    # -- time --------------------------------------------------------------------

    def now_ns(self) -> int:
        """Return the instant on the runtime's clock; it never goes back."""
        clock_ns = time.monotonic_ns()
        self._latest_ns = max(self._latest_ns, clock_ns + self._offset_ns)
        return self._latest_ns

    # -- calls come and go -------------------------------------------------------

    def add(self, request: Any, spec: CallSpec, submitted_ns: int | None) -> None:
        """Take a request in, before vLLM queues it: its place is set here."""
        with self.lock:
            now_ns = self.now_ns()
            submitted_ns = now_ns if submitted_ns is None else submitted_ns
            call = self.follower.take_in(spec, submitted_ns, now_ns)
            self._calls[request.request_id] = call
            self._requests[call.call_id] = request
            self._entered[call.call_id] = call.level
            request.priority = _place_of(call)

    def ids(self, request_ids: str | Iterable[str] | None) -> list[str]:
        """Return those of our requests that are meant; None means all."""
        if request_ids is None:
            return list(self._calls)
        named = [request_ids] if isinstance(request_ids, str) else request_ids
        return [request_id for request_id in named if request_id in self._calls]

    def finished(self, request_ids: Iterable[str]) -> None:
        """Book requests that were finished from outside: aborted, or in error."""
        with self.lock:
            now_ns = self.now_ns()
            for request_id in request_ids:
                call = self._calls[request_id]
                request = self._requests[call.call_id]
                if request.is_finished():
                    outcome = _OUTCOMES.get(request.status.name, Outcome.FINISHED)
                    self.follower.end(call, outcome, now_ns)
                    self._forget_ended(call)

    def _forget_ended(self, call: Call) -> None:
        if call.call_id in self.follower.books.calls:
            return  # in a step: it ends when that comes back
        request = self._requests.pop(call.call_id)
        self._entered.pop(call.call_id)
        self._calls.pop(request.request_id)

    # -- before and after vLLM decides -------------------------------------------

    def before_schedule(self) -> None:
        """Promote, order and preempt, so that vLLM finds its queues as we want them."""
        with self.lock:
            now_ns = self.now_ns()
            promoted = self.follower.promote(now_ns)
            if self.keeps_order:
                return
            if promoted:
                self._requeue(promoted)
            self._scheduler.running.sort(key=_priority)
            if self._preempts:
                self._preempt(now_ns)

    def _requeue(self, promoted: Iterable[Call]) -> None:
        """Give promoted calls their new place in vLLM's queue."""
        waiting = self._scheduler.waiting
        in_queue = set(waiting)
        moved = [self._requests[call.call_id] for call in promoted]
        waiting.remove_requests([r for r in moved if r in in_queue])
        for request, call in zip(moved, promoted, strict=True):
            request.priority = _place_of(call)
            if request in in_queue:
                waiting.add_request(request)

    def _preempt(self, now_ns: int) -> None:
        books = self.follower.books
        if not books.line or not books.running:
            return
        best = books.line[books.line.all[0]]
        worst_level = max(call.level for call in books.running)
        if worst_level - best.level < self._rule.hysteresis_levels:
            return
        running = sorted(
            (call for call in books.running if self._may_yield(call)),
            key=_order,
        )
        waiting = (books.line[place] for place in list(books.line.all))
        admissible = (call for call in waiting if self._may_come_in(call))
        for found in self._rule.decide(admissible, running, self._room(), self.pace):
            for victim in found.victims:
                self._take_slot(victim, found.by, now_ns)

    def _may_yield(self, call: Call) -> bool:
        """Say whether a call can be preempted, and would not come back at once."""
        beta = self._beta
        quantum_ns = self.follower.books.ranking.first_quantum_ns
        if beta is not None and is_starving(call.clock.window, beta, quantum_ns):
            return False  # without a slot it would be promoted in the next round
        request = self._requests[call.call_id]
        can_free = getattr(self._scheduler, "_request_blocks_can_be_freed", None)
        return can_free is None or bool(can_free(request))

    def _may_come_in(self, call: Call) -> bool:
        return self._requests[call.call_id].status.name in _ADMISSIBLE

    def _room(self) -> Room:
        scheduler, size = self._scheduler, self._block_tokens
        tokens = growing = 0
        for request in scheduler.running:
            missing = request.num_tokens_with_spec - request.num_computed_tokens
            tokens += max(1, missing)
            if request.num_computed_tokens % size == 0:
                growing += 1
        return Room(
            slots=self.slots - len(scheduler.running),
            tokens=scheduler.max_num_scheduled_tokens - tokens,
            blocks=self._free_blocks() - growing,
            block_tokens=size,
            caches_prefixes=self._caches,
        )

    def _take_slot(self, victim: Call, by: Call, now_ns: int) -> None:
        scheduler, request = self._scheduler, self._requests[victim.call_id]
        scheduler.running.remove(request)
        seconds = time.monotonic()  # noqa: TID251 - vLLM's own clock for its events
        scheduler._preempt_request(request, seconds)  # noqa: SLF001 - no public way
        self.follower.preempted(victim, by, WaitReason.SLOTS, now_ns)

    def after_schedule(self, output: Any) -> None:
        """Book the step that vLLM is about to take."""
        with self.lock:
            now_ns = self.now_ns()
            known = self._calls
            calls = [
                (known[request_id], tokens)
                for request_id, tokens in output.num_scheduled_tokens.items()
                if request_id in known
            ]
            line = self.follower.books.line
            came_in = [(call, n) for call, n in calls if call.order in line]
            running = len(self._scheduler.running)
            if len(self.follower.books.running) + len(came_in) != running:
                self._note_preempted(now_ns)
            admitted = [self._admitted(call, tokens) for call, tokens in came_in]
            short_of = self._short_of(output)
            plan = self.follower.follow(calls, admitted, short_of, now_ns)
            is_full = running >= self.slots
            self._flights[id(output)] = _Flight(plan, now_ns, is_full)

    def _note_preempted(self, now_ns: int) -> None:
        """Book the calls that vLLM preempted itself, because one could not grow."""
        for call in list(self.follower.books.running):
            if self._requests[call.call_id].status.name == "PREEMPTED":
                self.follower.preempted(call, call, WaitReason.BLOCKS, now_ns)

    def _admitted(self, call: Call, tokens: int) -> Admitted:
        request = self._requests[call.call_id]
        cached = request.num_computed_tokens - tokens
        loaded = min(cached, getattr(request, "num_external_computed_tokens", 0))
        return Admitted(call=call, device_tokens=cached - loaded, host_tokens=loaded)

    def _short_of(self, output: Any) -> WaitReason:
        scheduler = self._scheduler
        if len(scheduler.running) >= self.slots:
            return WaitReason.SLOTS
        if output.total_num_scheduled_tokens >= scheduler.max_num_scheduled_tokens:
            return WaitReason.TOKEN_BUDGET
        return WaitReason.BLOCKS

    def after_step(self, output: Any) -> None:
        """Book a step that came back, and the calls it ended."""
        with self.lock:
            now_ns = self.now_ns()
            flight = self._flights.pop(id(output))
            calls = [(call, call.order) for call, _ in flight.plan.calls]
            samples = {call.call_id: self._sampled(call) for call, _ in calls}
            self.follower.commit(
                flight.plan,
                samples,
                forward_at_ns=flight.forward_at_ns,
                ended_ns=now_ns,
            )
            self._settle(calls, now_ns, was_full=flight.is_full)
            if len(calls) < len(output.num_scheduled_tokens):
                self._take_late(output, now_ns)

    def _sampled(self, call: Call) -> Sampled:
        """Return the newest token; the core takes it if it knows of none such."""
        request = self._requests[call.call_id]
        is_last = call.ending is None and request.is_finished()
        if is_last and request.status.name in _OUTCOMES:
            call.ending = _OUTCOMES[request.status.name]
        return Sampled(request.all_token_ids[-1], is_last)

    def _settle(
        self,
        calls: Iterable[tuple[Call, tuple[int, ...]]],
        now_ns: int,
        *,
        was_full: bool,
    ) -> None:
        """Forget the calls that ended, and set the new places of others."""
        live = self.follower.books.calls
        for call, was in calls:
            if call.call_id not in live:
                if call.ending is Outcome.FINISHED:
                    self.pace.ended(self._entered[call.call_id], call.service_ns)
                    self.pace.left(now_ns, was_full=was_full)
                self._forget_ended(call)
            elif call.order is not was:
                self._requests[call.call_id].priority = _place_of(call)

    def _take_late(self, output: Any, now_ns: int) -> None:
        """Take tokens of calls that were preempted while the step was under way."""
        for request_id in output.num_scheduled_tokens:
            call = self._calls.get(request_id)
            if call is None:
                continue
            request = self._requests[call.call_id]
            call.tokens.extend(request.all_token_ids[len(call.tokens) :])
            if request.is_finished():
                self.follower.end(call, Outcome.FINISHED, now_ns)
                self._forget_ended(call)

    # -- from outside; any thread ------------------------------------------------

    def take_facts(self) -> list[Fact]:
        """Return what happened since this was last asked, in order."""
        with self.lock:
            return self.follower.take_facts()

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""
        with self.lock:
            self.now_ns()
            self.follower.update_ranking(version, ranking)

    def end_all(self, outcome: Outcome) -> None:
        """End every call in the books; vLLM is told by whoever calls this."""
        with self.lock:
            self.follower.end_all(outcome, self.now_ns())
            self._flights.clear()
            self._calls.clear()
            self._requests.clear()
            self._entered.clear()

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot."""
        with self.lock:
            return self.follower.statistics_with(use_of(self._scheduler))

    def _free_blocks(self) -> int:
        return int(self._scheduler.kv_cache_manager.block_pool.get_num_free_blocks())


def use_of(scheduler: Any) -> TierUse:
    """Return the use of vLLM's blocks; those that hold cached prefixes are free."""
    pool = scheduler.kv_cache_manager.block_pool
    total = pool.num_gpu_blocks - 1  # one stands for no block
    free = pool.get_num_free_blocks()
    return TierUse(total=total, free=free, cached=0, referenced=total - free, moving=0)


def _place_of(call: Call) -> int:
    """Return a call's place in the order as one number, lower is sooner."""
    place = call.level
    for number in call.inner:
        place = (place << _INNER_BITS) | number
    return place


def _priority(request: Any) -> int:
    priority: int = request.priority
    return priority


def _order(call: Call) -> tuple[int, ...]:
    return call.order


def missing_in(scheduler: Any, names: Iterable[str]) -> list[str]:
    """Return which of these (dotted) names a scheduler, or its class, lacks."""
    return [name for name in names if not _has(scheduler, name)]


def _has(thing: Any, dotted: str) -> bool:
    for name in dotted.split("."):
        if not hasattr(thing, name):
            return False
        thing = getattr(thing, name)
    return True
