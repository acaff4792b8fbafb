"""Which calls an engine computes next: plan a round, commit what happened.

The same object decides in every engine that schedules its own steps. It is synchronous
and knows no clock: instants come in as arguments, integer nanoseconds that never go
backwards. Semantics: docs/scheduler.md; rules: DESIGN sections 4 to 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autellix.core.booking import Booking
from autellix.core.books import Books
from autellix.core.call import CallState
from autellix.core.invariants import check_scheduler
from autellix.core.passed_over import PassedOver
from autellix.core.plan import Plan
from autellix.core.preemption import Preemption
from autellix.core.records import Outcome
from autellix.core.round import Round
from autellix.core.snapshot import EngineStatistics, snapshot
from autellix.core.starvation import most_promoted
from autellix.core.window import Window, window_of
from autellix.errors import InvariantError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autellix.core.call import Call
    from autellix.core.cost_model import CostModel
    from autellix.core.facts import Fact
    from autellix.core.kv_blocks import KVBlocks
    from autellix.core.limits import StepLimits
    from autellix.core.plan import Sampled
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallSpec
    from autellix.core.waiting import Order


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
        pool_tokens = blocks.pool.total * blocks.block_tokens
        retained_ns = costs.prefill_ns * pool_tokens
        self.books = Books(blocks, policy, ranking, retained_ns)
        self.ranking_version = 0
        self._in_flight: Plan | None = None
        self._is_quiet = False
        self._least_room: int | None = None
        self._steps_left_in_round = 0
        self._preemption = Preemption(blocks, costs)
        self._reserve: Sequence[Call] = ()
        self._booking = Booking(self.books, costs)
        self._passed_over = PassedOver(self.books, limits.reserve_after_ns)

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
        self.books.retention.expire(now_ns)
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
        self.books.retention.expire(now_ns)
        if call.is_in_step:
            call.ending = Outcome.CANCELLED
            return True
        if call in self.books.running:
            self.books.running.remove(call)
        self.books.end(call, Outcome.CANCELLED, now_ns)
        return True

    def forget(self, program_id: int, now_ns: int) -> None:
        """Take note that a program has ended: it retains nothing any more (K7)."""
        self._is_quiet = False
        self.books.retention.expire(now_ns)
        self.books.retention.forget(program_id)

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

    def update_ranking(self, version: int, ranking: Ranking, now_ns: int) -> list[Call]:
        """Use ``ranking`` for every placement from now on (Q4).

        Returns:
            Waiting calls that stand on another level at once: see ``Ranking.review``.

        Raises:
            ValueError: It has another number of levels, or an older version.
        """
        if ranking.levels != self.books.places.ranking.levels:
            raise ValueError(
                f"a ranking of {ranking.levels} levels cannot replace one of "
                f"{self.books.places.ranking.levels}"
            )
        if version <= self.ranking_version:
            raise ValueError(
                f"ranking version {version} is not newer than {self.ranking_version}"
            )
        was_ns = self.books.places.ranking.first_quantum_ns
        self._is_quiet = False
        self.books.retention.expire(now_ns)
        moved = self.books.places.use(ranking, now_ns)
        self.ranking_version = version
        if ranking.first_quantum_ns < was_ns:
            self.books.fairness.lower_quantum(ranking.first_quantum_ns)
        return moved

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
        books.retention.expire(now_ns)
        is_round = self._steps_left_in_round <= 0 or not books.running
        if is_round:
            self._steps_left_in_round = self.limits.round_steps
            self._promote(now_ns)
            self._passed_over.reserve(now_ns)
        decision = Round(
            books=books,
            limits=self.limits,
            preemption=self._preemption,
            now_ns=now_ns,
            is_decision=is_round,
        )
        losses = books.retention.losses
        decision.run(books.line.all if is_round else self._reserved_places())
        if is_round:
            books.waits.end_round(decision.short_of(), now_ns)
            books.retention.turned_away = decision.turned_away
            self._passed_over.turn_away(decision.turned_away, now_ns)
        self._passed_over.watch(decision.skipped)
        books.rejoin_preempted()
        if is_round and self.limits.round_steps > 1:
            self._reserve = [books.line[place] for place in books.line.paused]
        has_lost = books.retention.losses > losses  # which the next round may use
        self._is_quiet = not decision.has_changed and not has_lost
        self._least_room = decision.least_room
        return self._dispatch(decision, now_ns)

    def _reserved_places(self) -> Sequence[Order]:
        """Return where the calls stand that may have a slot between rounds."""
        paused = (c for c in self._reserve if c.state is CallState.PAUSED)
        return sorted(call.order for call in paused if call.order in self.books.line)

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
        floor_ns = books.places.ranking.first_quantum_ns
        books.fairness.look(floor_ns, now_ns)
        while self.may_promote():
            clock = books.fairness.take_starving(floor_ns, now_ns)
            if clock is None:
                return
            for call in sorted(clock.calls.values(), key=lambda call: call.order):
                if self.may_promote() and call.level > 0 and call.order in books.line:
                    books.places.promote(call, now_ns)

    def may_promote(self) -> bool:
        """Say whether one more call of a program that starves has room (Q3)."""
        beta, running = self.books.policy.beta, len(self.books.running)
        return beta is not None and self.books.places.promoted < most_promoted(
            running, beta
        )

    def next_promotion_ns(self) -> int | None:
        """Return when a program may be promoted at the earliest; None: not by waiting.

        Where as many are as may be, another has to end first.
        """
        return self.books.fairness.next_due_ns() if self.may_promote() else None

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
        self._land(plan, ended_ns)
        self._booking.book(plan, samples, forward_at_ns, ended_ns)

    def _land(self, plan: Plan, ended_ns: int) -> None:
        if plan is not self._in_flight:
            raise InvariantError("this plan is not in flight")
        self._in_flight = None
        self._steps_left_in_round -= 1
        self.books.retention.expire(ended_ns)

    # -- steps taken together (S10) ----------------------------------------------

    def window(self, plan: Plan) -> Window | None:
        """Return how far ``plan`` may be repeated without another decision (S10).

        None where only the one step is certain.
        """
        if not self._is_quiet or self.limits.round_steps > 1 or plan.has_copies:
            return None
        instants = (self.next_promotion_ns(), self._passed_over.next_due_ns())
        until_ns = min((ns for ns in instants if ns is not None), default=None)
        return window_of(
            self.books,
            self.limits,
            self.costs,
            plan,
            until_ns=until_ns,
            least_room=self._least_room,
        )

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
        self._land(plan, ended_ns)
        self._booking.book_window(plan, tokens, ended_ns)

    def check_invariants(self) -> None:
        """Check all books between any two operations; see ``check_scheduler``."""
        check_scheduler(self)

    # -- to be seen --------------------------------------------------------------

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot; cost is O(live calls)."""
        return snapshot(self.books, self._booking.steps, self.ranking_version)
