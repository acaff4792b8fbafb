"""Books steps equal to the one before together, as soon as somebody looks at the books.

At a full batch most steps are the last one again: the same calls, a token each, nobody
comes, goes or moves. Booking each of them call by call took as long as all else that we
add to a step of vLLM's. The rule is that of S10, with the time between steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from autellix.core.records import Charge, WaitReason

if TYPE_CHECKING:
    from autellix.core.books import Books
    from autellix.core.call import Call
    from autellix.core.cost_model import CostModel

_HORIZON_STEPS: Final = 64
"""Work grows with the context; within so many steps the dearest one bounds it."""


@attrs.define(eq=False, kw_only=True)
class Repeats:
    """A run of equal steps that has come back and is not in the books yet.

    Attributes:
        calls: Of each step; all of them decode.
        left_ns: Service until the first of them expires; None: not by service.
        left_steps: Steps in which none of them expires; None: not by work.
        ended_ns: When the last one ended.
    """

    calls: list[Call]
    left_ns: int | None
    left_steps: int | None
    ended_ns: int
    _steps: int = attrs.field(default=0, init=False)
    _served_ns: int = attrs.field(default=0, init=False)

    def add(self, forward_at_ns: int, ended_ns: int) -> bool:
        """Take one more step in; False if a call may expire by it."""
        served_ns = ended_ns - forward_at_ns
        if self.left_ns is not None:
            if served_ns >= self.left_ns:
                return False
            self.left_ns -= served_ns
        if self.left_steps is not None:
            if not self.left_steps:
                return False
            self.left_steps -= 1
        self._steps += 1
        self._served_ns += served_ns
        self.ended_ns = ended_ns
        return True

    def book(self, costs: CostModel) -> None:
        """Write what was taken in into the calls, and begin anew."""
        if not self._steps:
            return
        steps, served_ns, ended_ns = self._steps, self._served_ns, self.ended_ns
        self._steps = self._served_ns = 0
        tokens = [0] * steps  # the tokens themselves are vLLM's
        for call in self.calls:
            waited_ns = ended_ns - call.accounted_ns - served_ns
            if waited_ns:
                before_ns = call.wait_ns.get(WaitReason.ROUND, 0)
                call.wait_ns[WaitReason.ROUND] = before_ns + waited_ns
            call.service_ns += served_ns
            call.accounted_ns = ended_ns
            call.work_ns += costs.decode_works_ns(call.computed, steps)
            call.computed += steps
            call.model_tokens += steps
            call.tokens += tokens
            clock = call.clock
            if clock.settled_ns != ended_ns:  # a program's first call, for all of them
                clock.ran(ended_ns - served_ns, ended_ns)


def repeats_of(
    calls: list[Call], books: Books, costs: CostModel, ended_ns: int
) -> Repeats | None:
    """Return the run that begins after a step of these calls, None if it is no run."""
    left_ns = left_steps = None
    by_work = books.policy.charge is Charge.WORK
    for call in calls:
        is_decoder = len(call.tokens) == call.computed + 1
        if not is_decoder or call.ending is not None or call.accounted_ns != ended_ns:
            return None
        if call.expires_at_ns is None:
            continue
        left = call.expires_at_ns - books.places.age(call)
        if by_work:
            dearest_ns = costs.decode_work_ns(call.computed + _HORIZON_STEPS)
            steps = min(_HORIZON_STEPS, max(0, left - 1) // max(1, dearest_ns))
            left_steps = steps if left_steps is None else min(left_steps, steps)
        else:
            left_ns = left if left_ns is None else min(left_ns, left)
    return Repeats(
        calls=calls, left_ns=left_ns, left_steps=left_steps, ended_ns=ended_ns
    )
