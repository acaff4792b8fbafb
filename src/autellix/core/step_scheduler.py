"""Which calls an engine computes next: plan a round, commit what happened.

The same object decides in every engine that schedules its own steps. It is synchronous
and knows no clock: instants come in as arguments, integer nanoseconds that never go
backwards. Semantics: docs/scheduler.md; rules: DESIGN sections 4 to 7.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

from autellix.core.books import Books
from autellix.core.invariants import check_scheduler
from autellix.core.plan import Plan
from autellix.core.records import Outcome, WaitReason
from autellix.core.round import Round, StepLimits
from autellix.core.snapshot import EngineStatistics, device_use, host_use
from autellix.core.window import Window, window_of
from autellix.errors import InvariantError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autellix.core.call import Call
    from autellix.core.cost_model import CostModel
    from autellix.core.facts import Fact
    from autellix.core.kv_blocks import KVBlocks
    from autellix.core.plan import Sampled
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallSpec
    from autellix.core.waiting import Order

__all__ = ["StepLimits", "StepScheduler"]


class StepScheduler:
    """Scheduler of one engine.

    Between a ``plan`` and its ``commit`` calls may be submitted and cancelled; nothing
    that the plan refers to changes.

    Args:
        limits: Sizes of the batch and how rounds decide.
        blocks: The engine's KV blocks, empty.
        policy: Decides the order of calls.
        ranking: The policy's ranking for this engine.
        costs: What steps and transfers cost here.
    """

    def __init__(
        self,
        *,
        limits: StepLimits,
        blocks: KVBlocks,
        policy: Policy,
        ranking: Ranking,
        costs: CostModel,
    ) -> None:
        self.limits = limits
        self.costs = costs
        self.books = Books(blocks, policy, ranking)
        self.ranking_version = 0
        self._in_flight: Plan | None = None
        self._is_quiet = False
        self._steps = 0
        self._steps_left_in_round = 0
        self._reserve: Sequence[Order] = ()
        self._skipped: list[tuple[int, int]] = []

    @property
    def has_live(self) -> bool:
        """Whether any call has not ended."""
        return bool(self.books.calls)

    @property
    def has_work(self) -> bool:
        """Whether a plan would not be empty: calls to compute or blocks to move."""
        return self.has_live or self.books.blocks.has_copies

    # -- what comes in -----------------------------------------------------------

    def submit(self, spec: CallSpec, now_ns: int) -> Call:
        """Take a call in; it takes part from the next round on.

        Raises:
            ValueError: It can never fit (rule S9), or its id is live already.
        """
        blocks = self.books.blocks
        limit = blocks.device.total * blocks.block_tokens
        needed = len(spec.prompt) + spec.max_tokens
        if needed > limit:
            raise ValueError(f"call needs {needed} tokens, the pool holds {limit}")
        if spec.call_id in self.books.calls:
            raise ValueError(f"call id {spec.call_id} is in use")
        self._is_quiet = False
        return self.books.enter(spec, now_ns)

    def cancel(self, call_id: int, now_ns: int) -> bool:
        """End a call at once, or when the step it is in commits (rule A4).

        Returns:
            False if it has ended already.
        """
        call = self.books.calls.get(call_id)
        if call is None:
            return False
        self._is_quiet = False
        if call.is_in_step:
            call.ending = Outcome.CANCELLED
            return True
        if call in self.books.running:
            self.books.running.remove(call)
        self.books.end(call, Outcome.CANCELLED, now_ns)
        return True

    def end_all(self, outcome: Outcome, now_ns: int) -> None:
        """End every call: the engine failed or is shut down; no step is under way."""
        self._in_flight = None
        self.books.blocks.take_copies()
        self.books.blocks.settle()
        for call in list(self.books.calls.values()):
            call.is_in_step = False
            self.books.end(call, outcome, now_ns)
        self.books.running = []
        self.books.blocks.take_copies()
        self.books.blocks.settle()

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use ``ranking`` for every placement from now on; nothing is re-sorted (Q4).

        Raises:
            ValueError: It has another number of levels, or an older version.
        """
        if ranking.levels != self.books.ranking.levels:
            raise ValueError(
                f"a ranking of {ranking.levels} levels cannot replace one of "
                f"{self.books.ranking.levels}"
            )
        if version <= self.ranking_version:
            raise ValueError(
                f"ranking version {version} is not newer than {self.ranking_version}"
            )
        if ranking.first_quantum_ns < self.books.ranking.first_quantum_ns:
            self.books.fairness.lower_quantum(ranking.first_quantum_ns)
        self.ranking_version = version
        self.books.ranking = ranking

    def take_facts(self) -> list[Fact]:
        """Return what happened since this was last asked, in order."""
        facts, self.books.facts = self.books.facts, []
        return facts

    # -- rounds ------------------------------------------------------------------

    def plan(self, now_ns: int) -> Plan:
        """Decide the next step; commit it before the next plan.

        Raises:
            InvariantError: The last plan was not committed.
        """
        if self._in_flight is not None:
            raise InvariantError("a plan is in flight")
        books = self.books
        is_round = self._steps_left_in_round <= 0 or not books.running
        if is_round:
            self._steps_left_in_round = self.limits.round_steps
            self._promote(now_ns)
            self._reserve_skipped(now_ns)
        decision = Round(
            books=books,
            limits=self.limits,
            costs=self.costs,
            now_ns=now_ns,
            is_decision=is_round,
        )
        decision.run(books.line.all if is_round else self._reserve)
        if is_round:
            books.waits.end_round(decision.short_of(), now_ns)
        self._watch(decision.skipped)
        books.rejoin_preempted(now_ns)
        if is_round and self.limits.round_steps > 1:
            self._reserve = list(books.line.paused)
        self._is_quiet = not decision.has_changed
        return self._dispatch(decision, now_ns)

    def _dispatch(self, decision: Round, now_ns: int) -> Plan:
        books = self.books
        copies = books.blocks.take_copies()
        for call, _ in decision.step:
            call.is_in_step = call.clock.is_in_step = True
        plan = Plan(
            at_ns=now_ns,
            calls=decision.step,
            to_host=copies.to_host,
            to_device=copies.to_device,
            within_device=copies.within_device,
            released=books.released,
        )
        books.released = []
        self._in_flight = plan
        return plan

    def _promote(self, now_ns: int) -> None:
        books = self.books
        floor = books.ranking.first_quantum_ns
        for clock in books.fairness.take_starving(floor, now_ns):
            starving = [
                call
                for call in clock.calls.values()
                if call.level > 0 and call.order in books.line
            ]
            for call in sorted(starving, key=lambda call: call.order):
                books.promote(call, now_ns)

    def _watch(self, skipped: Sequence[Call]) -> None:
        for call in skipped:
            if call.skipped_since_ns is not None:
                due = call.skipped_since_ns + self.limits.reserve_after_ns
                heapq.heappush(self._skipped, (due, call.call_id))

    def _reserve_skipped(self, now_ns: int) -> None:
        while self._skipped and self._skipped[0][0] <= now_ns:
            due, call_id = heapq.heappop(self._skipped)
            call = self.books.calls.get(call_id)
            if call is None or call.is_reserved or call.skipped_since_ns is None:
                continue
            if call.is_resident:
                continue  # looked at again if it loses its blocks
            if due == call.skipped_since_ns + self.limits.reserve_after_ns:
                self.books.reserve(call, now_ns)

    # -- what happened -----------------------------------------------------------

    def commit(
        self,
        plan: Plan,
        samples: Mapping[int, Sampled],
        *,
        forward_at_ns: int,
        ended_ns: int,
    ) -> None:
        """Book a step that ran: copies until ``forward_at_ns``, then the forward pass.

        Args:
            plan: The plan in flight.
            samples: The output of each call whose tokens are all computed, by id.
            forward_at_ns: When the forward pass began; all copies were done.
            ended_ns: When it ended.
        """
        self._settle(plan, forward_at_ns, ended_ns)
        costs, decode_ns = self.costs, self.costs.decode_work_ns(0)
        for call, tokens in plan.calls:
            was = call.computed
            computed = call.computed = was + tokens
            call.model_tokens += tokens
            known = len(call.tokens)
            if tokens == 1 and was and computed == known:
                call.work_ns += decode_ns + was * costs.context_ns
            else:
                call.work_ns += costs.prefill_work_ns(was, tokens)
            if computed == known:
                self._append(call, samples, ended_ns)
        self._close(plan, ended_ns)

    def _settle(self, plan: Plan, forward_at_ns: int, ended_ns: int) -> None:
        if plan is not self._in_flight:
            raise InvariantError("this plan is not in flight")
        if not plan.at_ns <= forward_at_ns <= ended_ns:
            raise InvariantError(
                f"a step went backwards: {plan.at_ns}, {forward_at_ns}, {ended_ns}"
            )
        self._in_flight = None
        self._steps += 1
        self._steps_left_in_round -= 1
        self.books.blocks.settle()
        before = WaitReason.SWAP if plan.has_copies else WaitReason.ROUND
        service_ns = ended_ns - forward_at_ns
        for call, _ in plan.calls:
            clock = call.clock
            if clock.is_in_step:  # a program's first call in the step books it for all
                clock.ran(forward_at_ns, ended_ns)
            call.is_in_step = False
            if forward_at_ns > call.accounted_ns:
                call.book_wait(plan.at_ns)
                call.wait_reason = before
                call.book_wait(forward_at_ns)
            call.wait_reason = WaitReason.ROUND
            call.service_ns += service_ns
            call.accounted_ns = ended_ns

    def _append(
        self, call: Call, samples: Mapping[int, Sampled], ended_ns: int
    ) -> None:
        sampled = samples.get(call.call_id)
        if sampled is None:
            raise InvariantError(f"no sample for call {call.call_id}")
        call.tokens.append(sampled.token)
        if call.first_token_ns is None:
            self.books.first_token(call, ended_ns)
        if sampled.is_last or len(call.tokens) == call.limit_tokens:
            call.ending = call.ending or Outcome.FINISHED

    def _close(self, plan: Plan, ended_ns: int) -> None:
        """End, publish or place anew the calls of a step that was booked."""
        books, block_tokens = self.books, self.books.blocks.block_tokens
        live = len(books.calls)
        for call, _ in plan.calls:
            if call.ending is not None:
                books.end(call, call.ending, ended_ns)
                continue
            if call.computed // block_tokens > len(call.lease.chain):
                books.blocks.publish(call)
            if call.expires_at_ns is not None and books.age(call) >= call.expires_at_ns:
                books.expire(call, ended_ns)
        if len(books.calls) < live:
            books.running = [c for c in books.running if c.call_id in books.calls]

    # -- steps taken together (S10) ----------------------------------------------

    def window(self, plan: Plan) -> Window | None:
        """Return how far ``plan`` may be repeated without another decision (S10).

        None where only the one step is certain.
        """
        if not self._is_quiet or self.limits.round_steps > 1 or plan.has_copies:
            return None
        due = self.books.fairness.next_due_ns()
        if self._skipped:
            due = min(self._skipped[0][0], due if due is not None else 1 << 62)
        return window_of(self.books, self.costs, plan, until_ns=due)

    def commit_window(
        self,
        plan: Plan,
        tokens: Mapping[int, Sequence[int]],
        *,
        ended_ns: int,
    ) -> None:
        """Book several equal steps at once, which ran from ``plan.at_ns`` without gap.

        Args:
            plan: The plan in flight; each of its calls decoded in every step.
            tokens: What each call produced, by id, one a step.
            ended_ns: When the last step ended.
        """
        steps = len(next(iter(tokens.values())))
        self._settle(plan, plan.at_ns, ended_ns)
        self._steps += steps - 1
        for call, _ in plan.calls:
            call.work_ns += self.costs.decode_works_ns(call.computed, steps)
            call.model_tokens += steps
            call.tokens.extend(tokens[call.call_id])
        self._compute_in_order(plan, steps)
        for call, _ in plan.calls:
            if call.ending is None and call.remaining == 0:
                call.ending = Outcome.FINISHED
        self._close(plan, ended_ns)

    def _compute_in_order(self, plan: Plan, steps: int) -> None:
        """Publish full blocks and take new ones in the order of single steps.

        The order shows where two calls fill equal blocks, and in what is evicted.
        """
        blocks = self.books.blocks
        size = blocks.block_tokens
        ends = {call.call_id: call.computed + steps for call, _ in plan.calls}
        full: dict[int, list[Call]] = {}
        for call, _ in plan.calls:
            for step in range(size - call.computed % size, steps, size):
                full.setdefault(step, []).append(call)
        for step in sorted(full):
            for call in full[step]:
                call.computed = ends[call.call_id] - steps + step
                blocks.publish(call)
            for call in full[step]:
                blocks.grow(call.lease, call.computed + 1)
        for call, _ in plan.calls:
            call.computed = ends[call.call_id]

    def check_invariants(self) -> None:
        """Check all books between any two operations; see ``check_scheduler``."""
        check_scheduler(self)

    # -- to be seen --------------------------------------------------------------

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot; cost is O(live calls)."""
        books = self.books
        occupancy = Counter(call.level for call in books.calls.values())
        states = Counter(call.state.value for call in books.calls.values())
        totals = books.totals
        return EngineStatistics(
            steps=self._steps,
            running=states["running"],
            paused=states["paused"],
            swapped=states["swapped"],
            waiting=states["waiting"],
            worst_running_level=max((c.level for c in books.running), default=None),
            level_occupancy=[occupancy[n] for n in range(books.ranking.levels)],
            demotions=totals["demotions"],
            promotions=totals["promotions"],
            reservations=totals["reservations"],
            preemptions=dict(books.preemptions),
            cached_device_tokens=totals["cached_device_tokens"],
            cached_host_tokens=totals["cached_host_tokens"],
            prompt_tokens=totals["prompt_tokens"],
            output_tokens=totals["output_tokens"],
            model_tokens=totals["model_tokens"],
            wait_ns=dict(books.ended_wait_ns),
            service_ns=totals["service_ns"],
            device=device_use(books.blocks),
            host=host_use(books.blocks),
            ranking_version=self.ranking_version,
        )
