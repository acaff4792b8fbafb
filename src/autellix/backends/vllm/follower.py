"""The core's step scheduler where another scheduler decides who is in a step.

vLLM takes the steps; levels, the line, starvation, charges, waits and reports are the
core's, here as in every engine. So ``plan`` is replaced by following what vLLM did, and
nothing else is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from autellix.backends.vllm.admission import Admitted, OutsideBlocks
from autellix.backends.vllm.repeats import Repeats, repeats_of
from autellix.core.call import CallState
from autellix.core.facts import Promoted
from autellix.core.found import Found
from autellix.core.limits import StepLimits
from autellix.core.plan import Plan
from autellix.core.records import Outcome, PreemptionKind, WaitReason
from autellix.core.step_scheduler import StepScheduler
from autellix.errors import InvariantError

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.cost_model import CostModel
    from autellix.core.plan import Sampled
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallSpec
    from autellix.core.snapshot import EngineStatistics, TierUse


class Follower(StepScheduler):
    """Books what another scheduler decides.

    Args:
        slots: Most calls in a step.
        policy: Decides the order of calls.
        ranking: The policy's ranking for this engine.
        costs: What steps cost here.
    """

    def __init__(
        self,
        *,
        slots: int,
        policy: Policy,
        ranking: Ranking,
        costs: CostModel,
    ) -> None:
        super().__init__(
            limits=StepLimits(slots=slots, token_budget=slots),
            blocks=OutsideBlocks(),
            policy=policy,
            ranking=ranking,
            costs=costs,
        )
        self._flying: deque[tuple[Plan, list[tuple[Call, int]]]] = deque()
        self._latest_ns = 0
        self._last: list[tuple[Call, int]] = []  # of the last step that came back
        self._repeats: Repeats | None = None
        self._again_at_ns: int | None = None  # such a step is under way since

    # -- what comes in -----------------------------------------------------------

    def take_in(self, spec: CallSpec, submitted_ns: int, now_ns: int) -> Call:
        """Take a call in that was submitted a little earlier, at the front.

        Raises:
            ValueError: Its id is live already.
        """
        if spec.call_id in self.books.calls:
            raise ValueError(f"call id {spec.call_id} is in use")
        self.settle()
        call = self.books.enter(spec, now_ns)
        if submitted_ns < now_ns:
            call.submitted_ns = submitted_ns
            call.wait_ns[WaitReason.ROUND] = now_ns - submitted_ns
        return call

    def end(self, call: Call, outcome: Outcome, now_ns: int) -> None:
        """End a call now, or when the step it is in commits (rule A4)."""
        self.single_out()
        if call.is_in_step:
            call.ending = call.ending or outcome
            return
        if call in self.books.running:
            self.books.running.remove(call)
        self.books.end(call, outcome, now_ns)

    def end_all(self, outcome: Outcome, now_ns: int) -> None:
        """End every call; steps under way are forgotten."""
        self.single_out()
        self._flying.clear()
        super().end_all(outcome, now_ns)

    # -- what the other scheduler did --------------------------------------------

    def promote(self, now_ns: int) -> list[Call]:
        """Promote the calls of programs that starve; return them (rule Q3)."""
        due_ns = self.next_promotion_ns()
        if due_ns is None or due_ns > now_ns:
            return []
        self.settle()
        before = len(self.books.facts)
        self._promote(now_ns)
        promoted = [f for f in self.books.facts[before:] if isinstance(f, Promoted)]
        return [self.books.calls[fact.call_id] for fact in promoted]

    def preempted(self, call: Call, by: Call, reason: WaitReason, now_ns: int) -> None:
        """Book that a running call lost its slot and its blocks.

        Where steps overlap it may be in one that has not come back. Its part of that
        ends here: what is still computed for it is somebody else's gain or nobody's.
        """
        self.single_out()
        for plan, calls in self._flying:
            self._take_out(plan, calls, call, now_ns)
        books = self.books
        books.running.remove(call)
        books.evict(call, by, PreemptionKind.DROP, now_ns)
        call.wait_reason = reason
        books.rejoin_preempted()

    def follow(
        self,
        calls: list[tuple[Call, int]],
        admitted: Iterable[Admitted],
        short_of: WaitReason,
        now_ns: int,
    ) -> Plan:
        """Book the step that is about to be taken; return it as a plan.

        Args:
            calls: Of the step, with how many of their tokens are computed.
            admitted: Those of them that come in.
            short_of: What calls that did not come in wait for.
            now_ns: When it was decided.
        """
        self.single_out()
        books = self.books
        for entry in admitted:
            tokens = entry.device_tokens + entry.host_tokens
            found = Found((), entry.device_tokens, 0, (), tokens)
            books.admit(entry.call, found, tokens, now_ns)
            books.running.append(entry.call)
        plan = self._take_off(calls, now_ns)
        if len(calls) < len(books.running):
            self._hold_back(now_ns)
        books.waits.end_round(short_of, now_ns)
        books.released.clear()
        return plan

    def _take_off(self, calls: list[tuple[Call, int]], at_ns: int) -> Plan:
        for call, _ in calls:
            call.is_in_step = call.clock.is_in_step = True
        plan = Plan(at_ns=at_ns, calls=calls)
        self._flying.append((plan, calls))
        return plan

    def commit(
        self,
        plan: Plan,
        samples: Mapping[int, Sampled],
        *,
        forward_at_ns: int,
        ended_ns: int,
    ) -> None:
        """Book a step that came back; steps come back in the order they were taken.

        A step that overlaps the one before it counts from where that one ended.

        Raises:
            InvariantError: This one is another.
        """
        if not self._flying or self._flying.popleft()[0] is not plan:
            raise InvariantError("steps came back in another order than taken")
        self._in_flight = plan
        forward_at_ns = min(max(forward_at_ns, self._latest_ns), ended_ns)
        self._latest_ns = ended_ns
        super().commit(plan, samples, forward_at_ns=forward_at_ns, ended_ns=ended_ns)
        self._last = list(plan.calls)
        for _, later in self._flying:  # what they compute for the ended is nobody's
            later[:] = [e for e in later if e[0].state is not CallState.ENDED]
            for call, _ in later:
                call.is_in_step = call.clock.is_in_step = True

    # -- the last step again -----------------------------------------------------

    def follow_again(self, short_of: WaitReason, now_ns: int) -> bool:
        """Book that the last step is taken again, a token each, by all that run.

        Returns:
            False if that has to be followed like any other step.
        """
        if self._flying or self._again_at_ns is not None:
            return False
        if self._repeats is None:
            calls = [call for call, _ in self._last]
            if len(calls) != len(self.books.running):
                return False
            found = repeats_of(calls, self.books, self.costs, self._latest_ns)
            if found is None:
                return False
            self._repeats = found
        self.books.waits.end_round(short_of, now_ns)
        self._again_at_ns = now_ns
        return True

    def land_again(self, ended_ns: int, *, has_ended: bool) -> Plan | None:
        """Book that the step came back.

        Args:
            ended_ns: When.
            has_ended: Whether a call has ended in it.

        Returns:
            What has to be committed instead, like any other step; None: nothing.
        """
        if self._repeats is not None and self._again_at_ns is not None:
            forward_at_ns = max(self._again_at_ns, self._latest_ns)
            if not has_ended and self._repeats.add(forward_at_ns, ended_ns):
                self._again_at_ns = None
                self._latest_ns = ended_ns
                self._booking.steps += 1
                return None
        self.single_out()
        return self._flying[0][0]

    def settle(self) -> None:
        """Bring the books up to the last step that came back."""
        if self._repeats is not None:
            self._repeats.book(self.costs)

    def single_out(self) -> None:
        """Bring the books up to date; a repeated step under way becomes any other."""
        self.settle()
        self._repeats = None
        at_ns, self._again_at_ns = self._again_at_ns, None
        if at_ns is not None:
            self._take_off([(call, 1) for call, _ in self._last], at_ns)

    def statistics_with(self, device: TierUse) -> EngineStatistics:
        """Return a frozen snapshot, with the use of vLLM's own blocks."""
        self.settle()
        return attrs.evolve(self.statistics(), device=device)

    def update_ranking(self, version: int, ranking: Ranking, now_ns: int) -> list[Call]:
        """Use another ranking for every placement from now on (rule Q4)."""
        self.settle()
        return super().update_ranking(version, ranking, now_ns)

    def _hold_back(self, now_ns: int) -> None:
        """Note that running calls which are not in the step got no tokens."""
        for call in self.books.running:
            if not call.is_in_step:
                call.book_wait(now_ns)
                call.wait_reason = WaitReason.TOKEN_BUDGET

    def _take_out(
        self, plan: Plan, calls: list[tuple[Call, int]], call: Call, now_ns: int
    ) -> None:
        """End a call's part of a step that has not come back."""
        others = [entry for entry in calls if entry[0] is not call]
        if len(others) == len(calls):
            return
        calls[:] = others
        call.is_in_step = False
        started_ns = max(plan.at_ns, self._latest_ns, call.accounted_ns)
        if started_ns < now_ns:
            call.book_wait(started_ns)
            call.service_ns += now_ns - started_ns
            call.accounted_ns = now_ns
        clock = call.clock
        if clock.is_in_step and not any(other.clock is clock for other, _ in others):
            clock.ran(min(max(started_ns, clock.settled_ns), now_ns), now_ns)
