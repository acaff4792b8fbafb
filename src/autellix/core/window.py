"""How many steps are certain to repeat the last decision (rule S10).

When every call of a step decodes, nothing was admitted or preempted and nothing moves,
the next decisions are known: blocks only get scarcer, so who did not fit will not, and
with host room for all the cost rule only turns against preempting. Until a call ends,
an age expires, a program, a skipped call or a newcomer comes due, a block fills that a
waiting call may begin with, or blocks run out that nobody retains, each step is the
last one with one token more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from autellix.core.records import Charge

if TYPE_CHECKING:
    from autellix.core.books import Books
    from autellix.core.call import Call
    from autellix.core.cost_model import CostModel
    from autellix.core.kv_blocks import KVBlocks
    from autellix.core.limits import StepLimits
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
    books: Books,
    limits: StepLimits,
    costs: CostModel,
    plan: Plan,
    *,
    until_ns: int | None,
    least_room: int | None,
) -> Window | None:
    """Return the window that begins with ``plan``, None if it is a single step.

    Args:
        books: The engine's calls, after the plan.
        limits: Sizes of the batch and how rounds decide.
        costs: What steps cost here.
        plan: Whose steps are to be repeated.
        until_ns: When somebody comes due.
        least_room: With less room than this a newcomer that was tried would be turned
            away (rule K7), so that others are tried instead.
    """
    calls = [call for call, _ in plan.calls]
    if not calls or len(calls) != len(books.running):
        return None
    steps = calls[0].remaining
    for call in calls:
        known = len(call.tokens)
        is_decoder = known - call.computed == 1 and known > call.prompt_tokens
        if not is_decoder or call.is_recomputing or call.ending is not None:
            return None
        steps = min(steps, call.limit_tokens - known)
    if steps < 2:
        return None
    by_work = books.policy.charge is Charge.WORK
    if by_work:
        steps = min(steps, *(_steps_to_expiry(books, costs, c, steps) for c in calls))
    spare = _spare_blocks(books, least_room)
    steps = min(steps, _steps_with_blocks(books.blocks, calls, spare))
    is_ahead = books.line and books.line.all[0] < max(call.order for call in calls)
    if is_ahead and not _can_swap_all(books):
        return None
    if is_ahead or books.retention.turned_away or least_room is not None:
        steps = min(steps, _steps_to_news(books, limits, calls, steps))
    if steps < 2:
        return None
    left = [
        c.expires_at_ns - books.places.age(c)
        for c in calls
        if c.expires_at_ns is not None
    ]
    service_ns = min(left) if left and not by_work else None
    return Window(steps=steps, service_ns=service_ns, until_ns=until_ns)


def _spare_blocks(books: Books, least_room: int | None) -> int:
    """Return how many blocks may be taken before others are decided on; -1: too many.

    Who loses what it retains may be decided on anew, so retained blocks do not count.
    """
    device = books.blocks.device
    spare = device.free + len(device.cached)
    if least_room is None:
        return spare
    # What is taken may be a block that the newcomer found, and so cost it two.
    return max(-1, min(spare, (books.retention.room() - least_room) // 2))


def _steps_with_blocks(blocks: KVBlocks, calls: list[Call], spare: int) -> int:
    """Return for how many steps ``spare`` blocks suffice, at least 1.

    In as many steps as a block has tokens every call takes one block; what is then left
    goes to those whose last block is full first.
    """
    size = blocks.block_tokens
    if spare < 0:
        return 1
    rounds, left = divmod(spare, len(calls))
    room = sorted(min(size, len(c.lease.blocks) * size - c.computed) for c in calls)
    return rounds * size + room[left]


def _steps_to_news(
    books: Books, limits: StepLimits, calls: list[Call], most: int
) -> int:
    """Return the first step, at most ``most``, whose full blocks may be news.

    A block that fills may equal one that is there, which gives one back, or be found by
    a waiting call. Waiting calls are tried after those that run have grown, which takes
    as much again; but one that goes before a running call is tried before that. A block
    is no news where nothing follows the call's last full block, no other call holds
    that one too, and none that may be tried was found to begin with just so much.
    """
    blocks = books.blocks
    if not blocks.caches_prefixes:
        return most
    line, size, steps = books.line, blocks.block_tokens, most
    most_tried = limits.lookahead + len(books.retention.turned_away)  # are no misses
    places = {*line.all[:most_tried], *line.returning[: limits.lookahead]}
    tried = (line[place].lease.found for place in places)
    awaited = {id(found[-1]) for found in tried if found}
    for call in calls:
        chain = call.lease.chain
        if not chain or not chain[-1].is_end_of_one or id(chain[-1]) in awaited:
            steps = min(steps, size - call.computed % size)
    return steps


def _can_swap_all(books: Books) -> bool:
    """Say whether nobody's swapping can take the host room of another.

    Where it can, a call that no longer pays leaves its room to the next, which then may
    be swapped, pay, and be enough for a waiting call.
    """
    host, line = books.blocks.host, books.line
    residents = [*books.running, *(line[place] for place in line.paused)]
    held = sum(len(call.lease.blocks) for call in residents)
    return not host.total or held + books.blocks.device.available <= host.available


def _steps_to_expiry(books: Books, costs: CostModel, call: Call, most: int) -> int:
    """Return the step, at most ``most``, in which the call's work expires."""
    if call.expires_at_ns is None:
        return most
    left = call.expires_at_ns - books.places.age(call)
    low, high = 1, most
    while low < high:
        steps = (low + high) // 2
        if costs.decode_works_ns(call.computed, steps) >= left:
            high = steps
        else:
            low = steps + 1
    return low
