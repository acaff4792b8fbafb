"""How many steps are certain to repeat the last decision (rule S10).

When every call of a step decodes, nothing was admitted or preempted and nothing moves,
the next decisions are known: blocks only get scarcer, so who did not fit will not, and
the cost rule only turns against preempting. Until a call ends, an age expires, a
program or a skipped call comes due, or blocks run out, each step is the last one with
one token more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from autellix.core.records import Charge

if TYPE_CHECKING:
    from autellix.core.books import Books
    from autellix.core.call import Call
    from autellix.core.cost_model import CostModel
    from autellix.core.plan import Plan


@attrs.frozen(kw_only=True)
class Window:
    """Bounds of a run of equal steps; whichever comes first ends it.

    Attributes:
        steps: Most steps.
        service_ns: The step in which so much time has passed is the last; None: any.
        until_ns: The step that ends at or after this instant is the last; None: any.
    """

    steps: int
    service_ns: int | None
    until_ns: int | None


def window_of(
    books: Books, costs: CostModel, plan: Plan, *, until_ns: int | None
) -> Window | None:
    """Return the window that begins with ``plan``, None if it is a single step."""
    calls = [call for call, _ in plan.calls]
    if not calls or len(calls) != len(books.running):
        return None
    for call in calls:
        is_decoder = len(call.tokens) - call.computed == 1 and call.produced > 0
        if not is_decoder or call.is_recomputing or call.ending is not None:
            return None
    steps = min(call.remaining for call in calls)
    by_work = books.policy.charge is Charge.WORK
    if by_work:
        steps = min(steps, *(_steps_to_expiry(books, costs, c, steps) for c in calls))
    steps = _steps_with_blocks(books, calls, steps)
    if books.line and books.line.all[0] < max(call.order for call in calls):
        steps = min(steps, _steps_to_full_block(books, calls))
    if steps < 2:
        return None
    left = [
        c.expires_at_ns - books.age(c) for c in calls if c.expires_at_ns is not None
    ]
    service_ns = min(left) if left and not by_work else None
    return Window(steps=steps, service_ns=service_ns, until_ns=until_ns)


def _steps_with_blocks(books: Books, calls: list[Call], most: int) -> int:
    """Return for how many steps, at most ``most``, the blocks there are suffice."""
    blocks = books.blocks
    low, high = 1, most
    while low < high:
        steps = (low + high + 1) // 2
        needed = sum(
            max(0, blocks.blocks_for(c.computed + steps) - len(c.lease.blocks))
            for c in calls
        )
        if needed <= blocks.device.available:
            low = steps
        else:
            high = steps - 1
    return low


def _steps_to_full_block(books: Books, calls: list[Call]) -> int:
    """Return the first step in which a call fills a block.

    The block may equal one that is there, or be found by a waiting call. Waiting calls
    are tried after those that run have grown, which takes as much again; but one that
    goes before a running call is tried before that.
    """
    size = books.blocks.block_tokens
    return min(size - call.computed % size for call in calls)


def _steps_to_expiry(books: Books, costs: CostModel, call: Call, most: int) -> int:
    """Return the step, at most ``most``, in which the call's work expires."""
    if call.expires_at_ns is None:
        return most
    left = call.expires_at_ns - books.age(call)
    low, high = 1, most
    while low < high:
        steps = (low + high) // 2
        if costs.decode_works_ns(call.computed, steps) >= left:
            high = steps
        else:
            low = steps + 1
    return low
