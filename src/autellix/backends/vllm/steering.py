"""Steers vLLM's own scheduler by program: what our mixin does around each of its steps.

vLLM admits, grows and batches. We set the order (its ``priority``, from the core's
levels), take slots and blocks from worse calls where that pays, and book what happened.
Only a few names of vLLM's scheduler are touched: ``surface.py`` lists them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs

from autellix.backends.vllm.admission import Admitted
from autellix.backends.vllm.follower import Follower
from autellix.backends.vllm.ordering import Ordering
from autellix.backends.vllm.preemption import Pace, PreemptionRule
from autellix.backends.vllm.surface import place_of, short_of, use_of
from autellix.core.call import CallState
from autellix.core.plan import Sampled
from autellix.core.ranking import InnerOrder
from autellix.core.records import Outcome, WaitReason

if TYPE_CHECKING:
    from autellix.backends.vllm.steer import Steer
    from autellix.core.call import Call
    from autellix.core.facts import Fact
    from autellix.core.plan import Plan
    from autellix.core.ranking import Ranking
    from autellix.core.records import CallSpec
    from autellix.core.snapshot import EngineStatistics

_OUTCOMES: Final = {
    "FINISHED_ABORTED": Outcome.CANCELLED,
    "FINISHED_ERROR": Outcome.FAILED,
}
_GOES_ON: Final = Sampled(0)
_IS_LAST: Final = Sampled(0, is_last=True)


@attrs.define(eq=False)
class _Flight:
    """A step that vLLM has taken and not brought back; no plan: the last one again."""

    plan: Plan | None
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
        self._calls: dict[str, Call] = {}  # by vLLM's request id
        self._requests: dict[int, Any] = {}  # vLLM's requests by call id
        self._order = Ordering(
            scheduler,
            self.follower,
            self._requests,
            PreemptionRule(
                costs=steer.costs, hysteresis_levels=steer.hysteresis_levels
            ),
            self.slots,
        )
        self._moved: list[Call] = []  # by another ranking; not yet in vLLM's queue
        self._entered: dict[int, int] = {}  # level at entry, by call id
        self._flights: dict[int, _Flight] = {}  # by identity of vLLM's step
        inner = steer.policy.inner_order
        one_level = steer.ranking.levels == 1
        self.keeps_order = one_level and inner is InnerOrder.LEVEL_ARRIVAL
        """Whether first come is first served: then all is left as vLLM does it."""
        self._preempts = steer.preempts and not one_level
        self._last: dict[str, int] | None = None  # step, if all of it decoded
        self._running: Any = None  # vLLM's word for it, once a request was seen

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
            request.priority = place_of(call)
            if self._running is None:
                self._running = type(request.status)["RUNNING"]

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
            moved = [*self._moved, *self.follower.promote(now_ns)]
            self._moved = []
            if self.keeps_order:
                return
            if moved:
                self._order.requeue(moved)
            self._order.sort_running()
            if self._preempts:
                self._order.preempt(self.pace, now_ns)

    def after_schedule(self, output: Any) -> None:
        """Book the step that vLLM is about to take."""
        with self.lock:
            now_ns = self.now_ns()
            running = len(self._scheduler.running)
            is_full = running >= self.slots
            scheduled = output.num_scheduled_tokens
            short = short_of(self._scheduler, self.slots, output)
            is_same = len(scheduled) == running and scheduled == self._last
            if is_same and self.follower.follow_again(short, now_ns):
                self._flights[id(output)] = _Flight(None, now_ns, is_full)
                return
            is_decode = output.total_num_scheduled_tokens == len(scheduled)
            self._last = scheduled if is_decode else None
            known = self._calls
            calls = [
                (known[request_id], tokens)
                for request_id, tokens in scheduled.items()
                if request_id in known
            ]
            came_in = [(c, n) for c, n in calls if c.state is not CallState.RUNNING]
            if len(self.follower.books.running) + len(came_in) != running:
                self._note_preempted(now_ns)
            admitted = [
                Admitted.of(call, self._requests[call.call_id], tokens)
                for call, tokens in came_in
            ]
            plan = self.follower.follow(calls, admitted, short, now_ns)
            self._flights[id(output)] = _Flight(plan, now_ns, is_full)

    def _note_preempted(self, now_ns: int) -> None:
        """Book the calls that vLLM preempted itself, because one could not grow."""
        for call in list(self.follower.books.running):
            if self._requests[call.call_id].status.name == "PREEMPTED":
                self.follower.preempted(call, call, WaitReason.BLOCKS, now_ns)

    def after_step(self, output: Any) -> None:
        """Book a step that came back, and the calls it ended."""
        with self.lock:
            now_ns = self.now_ns()
            flight = self._flights.pop(id(output), None)
            if flight is None:
                return  # taken before all calls were ended, or before this steering
            plan = flight.plan
            if plan is None:
                running = len(self._scheduler.running)
                has_ended = running < len(output.num_scheduled_tokens)
                plan = self.follower.land_again(now_ns, has_ended=has_ended)
                if plan is None:
                    return
            books = self.follower.books
            calls = [(call, call.order) for call, _ in plan.calls]
            facts = len(books.facts)
            self.follower.commit(
                plan,
                self._samples(plan),
                forward_at_ns=flight.forward_at_ns,
                ended_ns=now_ns,
            )
            if len(books.facts) > facts:  # else nobody ended, nobody moved
                self._settle(calls, now_ns, was_full=flight.is_full)
            if len(calls) < len(output.num_scheduled_tokens):
                self._take_late(output, now_ns)

    def _samples(self, plan: Plan) -> dict[int, Sampled]:
        """Return what came of each call of a step; the tokens themselves are vLLM's."""
        samples = dict.fromkeys((call.call_id for call, _ in plan.calls), _GOES_ON)
        for call, _ in plan.calls:
            request = self._requests[call.call_id]
            if request.status is not self._running and request.is_finished():
                samples[call.call_id] = _IS_LAST
                outcome = _OUTCOMES.get(request.status.name, Outcome.FINISHED)
                call.ending = call.ending or outcome
        return samples

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
                self._requests[call.call_id].priority = place_of(call)

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
            now_ns = self.now_ns()
            self._moved += self.follower.update_ranking(version, ranking, now_ns)

    def end_all(self, outcome: Outcome) -> None:
        """End every call in the books; vLLM is told by whoever calls this."""
        with self.lock:
            self.follower.end_all(outcome, self.now_ns())
            self._flights.clear()
            self._calls.clear()
            self._moved.clear()
            self._requests.clear()
            self._entered.clear()

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot."""
        with self.lock:
            return self.follower.statistics_with(use_of(self._scheduler))
