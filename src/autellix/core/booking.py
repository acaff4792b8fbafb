"""Books a step that ran: charges, tokens, ends, new placements (rules A1 to A5, Q1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autellix.core.records import Outcome, WaitReason
from autellix.errors import InvariantError

if TYPE_CHECKING:
    from autellix.core.books import Books
    from autellix.core.call import Call
    from autellix.core.cost_model import CostModel
    from autellix.core.plan import Plan, Sampled


class Booking:
    """Writes what happened in a step into the books.

    Attributes:
        steps: Steps booked so far.
    """

    def __init__(self, books: Books, costs: CostModel) -> None:
        self.steps = 0
        self._books = books
        self._costs = costs

    def book(
        self,
        plan: Plan,
        samples: Mapping[int, Sampled],
        forward_at_ns: int,
        ended_ns: int,
    ) -> None:
        """Book one step; see ``StepScheduler.commit``."""
        self._charge_service(plan, forward_at_ns, ended_ns)
        costs, decode_ns = self._costs, self._costs.decode_work_ns(0)
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

    def book_window(
        self, plan: Plan, tokens: Mapping[int, Sequence[int]], ended_ns: int
    ) -> None:
        """Book equal steps at once; see ``StepScheduler.commit_window``."""
        steps = len(next(iter(tokens.values())))
        self._charge_service(plan, plan.at_ns, ended_ns)
        self.steps += steps - 1
        for call, _ in plan.calls:
            call.work_ns += self._costs.decode_works_ns(call.computed, steps)
            call.model_tokens += steps
            call.tokens.extend(tokens[call.call_id])
        self._compute_in_order(plan, steps)
        for call, _ in plan.calls:
            if call.ending is None and call.remaining == 0:
                call.ending = Outcome.FINISHED
        self._close(plan, ended_ns)

    def _charge_service(self, plan: Plan, forward_at_ns: int, ended_ns: int) -> None:
        if not plan.at_ns <= forward_at_ns <= ended_ns:
            raise InvariantError(
                f"a step went backwards: {plan.at_ns}, {forward_at_ns}, {ended_ns}"
            )
        self.steps += 1
        self._books.blocks.settle()
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
        call.is_recomputing = False
        if call.first_token_ns is None:
            self._books.first_token(call, ended_ns)
        if sampled.is_last or len(call.tokens) == call.limit_tokens:
            call.ending = call.ending or Outcome.FINISHED

    def _compute_in_order(self, plan: Plan, steps: int) -> None:
        """Publish full blocks and take new ones in the order of single steps.

        The order shows where two calls fill equal blocks, and in what is evicted.
        """
        blocks = self._books.blocks
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

    def _close(self, plan: Plan, ended_ns: int) -> None:
        """End, publish or place anew the calls of a step."""
        books, block_tokens = self._books, self._books.blocks.block_tokens
        live = len(books.calls)
        for call, _ in plan.calls:
            if call.ending is not None:
                books.end(call, call.ending, ended_ns)
                continue
            if call.computed // block_tokens > len(call.lease.chain):
                books.blocks.publish(call)
            if (
                call.expires_at_ns is not None
                and books.places.age(call) >= call.expires_at_ns
            ):
                books.places.expire(call, ended_ns)
        if len(books.calls) < live:
            books.running = [c for c in books.running if c.call_id in books.calls]
