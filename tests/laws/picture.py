"""A plan with all that was there before it, side by side."""

from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from autellix.core.call import Call, CallState
from autellix.core.facts import Fact, Preempted, Promoted, Reserved, Resumed, Scheduled
from autellix.core.kv_blocks import KVBlocks
from autellix.core.plan import Plan
from autellix.core.prefix_tree import Node
from autellix.core.step_scheduler import StepScheduler
from autellix.core.waiting import Order
from tests.laws.prefixes import Start, start_of


@attrs.frozen(kw_only=True)
class Seen:
    """A call before a plan."""

    state: CallState
    level: int
    inner: tuple[int, ...]
    is_resident: bool
    is_reserved: bool
    is_recomputing: bool
    is_returning: bool
    computed: int
    new: int
    remaining: int
    blocks: int
    start: Start

    @property
    def is_running(self) -> bool:
        return self.state is CallState.RUNNING

    @property
    def decodes(self) -> bool:
        """Whether it is a running decoder."""
        return self.is_running and self.computed > 0 and self.new == 1


def room_in(blocks: KVBlocks) -> int:
    """Return how many blocks of the pool nobody holds, will hold, or retains (K7)."""
    pool = blocks.pool
    room = pool.free + sum(not node.retained for node in [*pool.cached, *pool.retained])
    if pool is blocks.host:
        room -= blocks.device.total - blocks.device.available
    return room


def freed_by(
    blocks: KVBlocks, retained: Mapping[Order, Sequence[Node]]
) -> dict[Order, int]:
    """Return how many idle blocks of the pool each place alone retains."""
    holders = Counter(node for nodes in retained.values() for node in nodes)
    idle = {*blocks.pool.cached, *blocks.pool.retained}
    return {
        order: sum(holders[node] == 1 and node in idle for node in nodes)
        for order, nodes in retained.items()
    }


def in_pool(blocks: KVBlocks, node: Node) -> bool:
    """Say whether a node has a block in the pool."""
    slot = node.host if blocks.pool is blocks.host else node.device
    return slot is not None


class Picture:
    """Taken before a plan, completed after it.

    Attributes:
        seen: All calls as they were.
        calls: The same calls, live.
        order: Places in the total order of the pass, promotions included.
        ranked: Ids in that order.
        step: Tokens of each call of the step.
        running: Those that hold slots now.
        admitted: Of them, those that did not before.
        growing: Preemptions by calls that ran before: they could not grow.
        retained: What was retained before the plan, by place in the order.
        turned_away: The call for which that left no room, so that other newcomers were
            not tried (K7); None: no such.
        passed_over: Promoted ones for which it left no room; others were tried.
        kinds: What happened that no fact tells.
    """

    def __init__(self, scheduler: StepScheduler, *, is_round: bool) -> None:
        self.limits = scheduler.limits
        self.costs = scheduler.costs
        self.blocks = scheduler.books.blocks
        self.is_round = is_round
        self.retention = scheduler.books.retention
        self.line = scheduler.books.line
        self.retained = dict(self.retention.held)
        self.losses = self.retention.losses
        self.room = room_in(self.blocks)
        self.frees = freed_by(self.blocks, self.retained)
        nodes = [node for held in self.retained.values() for node in held]
        self.pooled = {node for node in nodes if in_pool(self.blocks, node)}
        self.calls = dict(scheduler.books.calls)
        self.seen = {i: self._look(call) for i, call in self.calls.items()}
        self.kinds: Counter[str] = Counter()

    def complete(self, plan: Plan, facts: Sequence[Fact]) -> None:
        """Add the plan that was made and what it did."""
        self.facts = facts
        self.step = {call.call_id: tokens for call, tokens in plan.calls}
        self.preempted = [fact for fact in facts if isinstance(fact, Preempted)]
        self.promoted = {f.call_id for f in facts if isinstance(f, Promoted)}
        self.reserved = {f.call_id for f in facts if isinstance(f, Reserved)}
        self.order = {i: self._order(i) for i in self.calls}
        self.ranked = sorted(self.calls, key=self.order.__getitem__)
        running = [i for i, c in self.calls.items() if c.state is CallState.RUNNING]
        self.running = running
        self.admitted = [i for i in running if not self.seen[i].is_running]
        self.growing = [f for f in self.preempted if f.by not in self.admitted]
        turned_away = self.retention.turned_away if self.is_round else []
        self.passed_over = {c.call_id for c in turned_away if c.is_promoted}
        closing = [c.call_id for c in turned_away if not c.is_promoted]
        assert len(closing) <= 1, "a newcomer was tried behind one turned away"
        self.turned_away = closing[0] if closing else None
        # A step of one call that was just admitted may be what S5 forces.
        self.may_be_forced = len(running) == 1 and running == self.admitted
        if self.may_be_forced and not self._could_enter(*running):
            self.kinds["forced progress"] += 1

    def is_ahead(self, call_id: int, other_id: int) -> bool:
        """Say whether one call comes before another in the pass."""
        return self.order[call_id] < self.order[other_id]

    def is_much_better(self, call_id: int, other_id: int) -> bool:
        """Say whether one call may preempt another, by their levels."""
        better_by = self.calls[other_id].level - self.calls[call_id].level
        return better_by >= self.limits.hysteresis_levels

    def reached(self) -> list[int]:
        """Return the candidates that the pass came to, admitted or missed, in order.

        Without those that were preempted: they are not tried again.
        """
        touched = {fact.call_id for fact in self.preempted}
        reached: list[int] = []
        misses, is_behind = 0, not self.is_round  # then only paused calls are tried
        is_full = False  # then only calls that return are
        for call_id in self.ranked:
            before = self.seen[call_id]
            if before.is_running or call_id in touched:
                continue
            if is_behind and not before.is_resident:
                continue
            if misses == self.limits.lookahead:
                break
            if call_id == self.turned_away:
                is_full = True
            if call_id in self.passed_over or (is_full and not self.returns(call_id)):
                continue
            reached.append(call_id)
            if call_id not in self.admitted:
                misses += 1
                is_behind |= self.calls[call_id].is_reserved
        return reached

    def returns(self, call_id: int) -> bool:
        """Say whether a call was returning, and still is, unless it was admitted.

        Who is promoted or reserved joins the line anew, by what it finds then.
        """
        call, before = self.calls[call_id], self.seen[call_id]
        joins = call_id in self.promoted | self.reserved
        finds = joins and 2 * before.start.tokens >= len(call.tokens)
        is_left = call.order in self.line.returning
        return (before.is_returning or finds) and (call_id in self.admitted or is_left)

    def slots_taken_at(self, call_id: int) -> int:
        """Return how many calls held slots when a call was tried."""
        running = {i for i, before in self.seen.items() if before.is_running}
        for fact in self.facts:
            if isinstance(fact, Preempted):
                if fact.by == call_id:
                    break
                running.discard(fact.call_id)
            elif isinstance(fact, Scheduled | Resumed):
                running.add(fact.call_id)
        return len(running)

    def _look(self, call: Call) -> Seen:
        return Seen(
            state=call.state,
            level=call.level,
            inner=call.inner,
            is_resident=call.is_resident,
            is_reserved=call.is_reserved,
            is_recomputing=call.is_recomputing,
            is_returning=call.order in self.line.returning,
            computed=call.computed,
            new=len(call.tokens) - call.computed,
            remaining=call.remaining,
            blocks=len(call.lease.blocks),
            start=start_of(self.blocks, call),
        )

    def _order(self, call_id: int) -> tuple[int, ...]:
        before, call = self.seen[call_id], self.calls[call_id]
        is_reserved = before.is_reserved or call_id in self.reserved
        return (call.level, not is_reserved, not before.is_resident, *call.inner)

    def _could_enter(self, call_id: int) -> bool:
        """Say whether the pass came to a call, and there was a slot it could have."""
        yielded = {fact.call_id for fact in self.growing}
        running = [
            i
            for i, before in self.seen.items()
            if before.is_running and i not in yielded
        ]
        has_slot = len(running) < self.limits.slots or any(
            self.is_much_better(call_id, i) for i in running
        )
        return has_slot and call_id in self.reached()
