"""What must hold of a step scheduler's books between any two operations.

For tests and for the hunt after a bug: looks at everything, changes nothing, and says
in words what is wrong. Holds also while a plan is in flight.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from autellix.core.call import CallState
from autellix.core.kv_invariants import broken_in_blocks
from autellix.errors import InvariantError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autellix.core.books import Books
    from autellix.core.call import Call
    from autellix.core.step_scheduler import StepScheduler


def check_scheduler(scheduler: StepScheduler) -> None:
    """Check all books of one engine; O(calls + blocks).

    Raises:
        InvariantError: Something does not hold; the first thing found.
    """
    for problem in _broken(scheduler):
        raise InvariantError(problem)


def _broken(scheduler: StepScheduler) -> Iterator[str]:
    books = scheduler.books
    yield from _in_calls(books)
    yield from _in_steps(scheduler)
    yield from _in_line(books)
    yield from _in_order(books)
    yield from _in_recomputation(books)
    yield from _in_waits(books)
    yield from _in_fairness(books)
    yield from _in_reservations(scheduler)
    yield from _in_retention(books)
    yield from broken_in_blocks(books.blocks, books.calls.values())


def _in_calls(books: Books) -> Iterator[str]:
    for call_id, call in books.calls.items():
        name = f"call {call_id}, {call.state.value},"
        if call.call_id != call_id or call.state is CallState.ENDED:
            yield f"{name} stands among the live calls as {call_id}"
        if not 0 <= call.level < books.places.ranking.levels:
            yield f"{name} is on level {call.level} of {books.places.ranking.levels}"
        if call.remaining < 1 or not 0 <= call.computed < len(call.tokens):
            yield f"{name} computed {call.computed}, has {call.remaining} tokens left"
        if call.state is CallState.WAITING and call.computed:
            yield f"{name} computed {call.computed} tokens and has no blocks"


def _in_steps(scheduler: StepScheduler) -> Iterator[str]:
    books, limits = scheduler.books, scheduler.limits
    running = [c.call_id for c in books.running]
    wanted = [i for i, c in books.calls.items() if c.state is CallState.RUNNING]
    if sorted(running) != sorted(wanted):
        yield f"calls {wanted} run, {running} hold slots"
    if len(running) > limits.slots:
        yield f"{len(running)} calls hold {limits.slots} slots"
    plan = scheduler._in_flight
    step = {call.call_id: tokens for call, tokens in plan.calls} if plan else {}
    in_step = {i for i, call in books.calls.items() if call.is_in_step}
    if in_step != set(step) or not in_step <= set(running):
        yield f"calls {in_step} think they are in the step of {set(step)}"
    if sum(step.values()) > limits.token_budget or min(step.values(), default=1) < 1:
        yield f"a step of {step} tokens, the budget is {limits.token_budget}"


def _in_line(books: Books) -> Iterator[str]:
    line = books.line
    if books.preempted:
        yield "preempted calls were left out of the line"
    idle = [c for c in books.calls.values() if c.state is not CallState.RUNNING]
    if line.all != sorted(c.order for c in idle):
        yield f"the line {line.all} is not that of {[c.call_id for c in idle]}"
    if any(c.order not in line or line[c.order] is not c for c in idle):
        yield "the line holds calls at places that are not theirs"
    if line.paused != sorted(c.order for c in idle if c.is_resident):
        yield f"paused calls are not those at {line.paused}"


def _in_order(books: Books) -> Iterator[str]:
    entries = set()
    for call in books.calls.values():
        entries.add(call.inner[-1])
        is_first, is_second = call.is_reserved, call.is_resident
        order = (call.level, 1 - is_first, 1 - is_second, *call.inner)
        if call.order != order:
            yield f"call {call.call_id} stands at {call.order}, belongs to {order}"
        if books.places._by_program and call.inner[0] != call.spec.job.program_arrival:
            yield f"call {call.call_id} is not placed by program: {call.inner}"
    if len(entries) != len(books.calls):
        yield "two calls entered their levels as one"


def _in_recomputation(books: Books) -> Iterator[str]:
    for call_id, call in books.calls.items():
        held = len(call.lease.blocks) * books.blocks.block_tokens
        if call.is_recomputing and call.is_resident and held < len(call.tokens):
            yield f"call {call_id} came back with blocks for {held} tokens only"


def _in_waits(books: Books) -> Iterator[str]:
    waits = books.waits
    sets = [set(waits._followers), set(waits._tried), set(waits._tried_before)]
    in_line = {books.line[order].call_id for order in books.line.all}
    if sum(map(len, sets)) != len(set.union(*sets)) or not set.union(*sets) <= in_line:
        yield f"waits of calls {sets} are booked, {in_line} wait"
    for call in books.calls.values():
        lived = call.accounted_ns - call.submitted_ns
        if call.service_ns + sum(call.wait_ns.values()) != lived:
            yield (
                f"call {call.call_id} lived {lived} ns, was served {call.service_ns}, "
                f"waited {call.wait_ns}"
            )


def _in_fairness(books: Books) -> Iterator[str]:
    fairness = books.fairness
    programs: dict[int, list[Call]] = {}
    for call in books.calls.values():
        programs.setdefault(call.spec.program_id, []).append(call)
    if set(programs) != set(fairness._clocks):
        yield f"programs {set(programs)} live, {set(fairness._clocks)} have clocks"
    promoted = sum(call.is_promoted for call in books.calls.values())
    if books.places.promoted != promoted:
        yield f"{promoted} calls are promoted, {books.places.promoted} are counted"
    due = [i for i, clock in fairness._clocks.items() if clock.is_due]
    if fairness._due != sorted(due):
        yield f"programs {fairness._due} are said to be due, {due} are"
    watched = {entry: due for due, _, entry in fairness._watched}
    for program_id, clock in fairness._clocks.items():
        calls = programs.get(program_id, [])
        if list(clock.calls.values()) != calls:
            yield f"the clock of program {program_id} knows calls {list(clock.calls)}"
        starvable = sum(c.level > 0 and c.order in books.line for c in calls)
        if clock.starvable != starvable:
            yield f"program {program_id} counts {clock.starvable} starvable calls"
        if clock.is_in_step != any(c.is_in_step for c in calls):
            yield f"program {program_id} is in the step: {clock.is_in_step}, not so"
        is_watched = clock.watch in watched or clock.is_due
        if starvable and books.policy.beta is not None and not is_watched:
            yield f"nobody watches program {program_id}, which may starve"


def _in_reservations(scheduler: StepScheduler) -> Iterator[str]:
    for call_id, call in scheduler.books.calls.items():
        if call.is_resident or call.skipped_since_ns is None:
            if call.is_reserved:
                yield f"call {call_id} is reserved and was not passed over"
            continue
        if not call.is_reserved and call not in scheduler._passed_over:
            yield f"nobody watches call {call_id}, for which room may have to be kept"


def _in_retention(books: Books) -> Iterator[str]:
    retention, line = books.retention, books.line
    absent = {absence.order for absence in retention._absent.values()}
    waiting = set(retention.held) - absent
    if retention._orders != sorted(retention.held):
        yield f"{retention._orders} retain, {list(retention.held)} have something"
    resident = {o for o in line.all if line[o].state is not CallState.WAITING}
    if line.returning != sorted(waiting | resident) or waiting & resident:
        yield f"{line.returning} return, {waiting} retain and {resident} have blocks"
    counts = Counter(node for nodes in retention.held.values() for node in nodes)
    for node in [*counts, *books.blocks.tree.nodes()]:
        if node.retained != counts[node]:
            yield f"node {node.key} is retained {node.retained} times, {counts[node]}"
    if not books.blocks.retains_prefixes and retention.held:
        yield "something is retained where nothing is to be"
