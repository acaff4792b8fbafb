"""Where the calls of one engine stand: level, place in the order, the line.

``Books`` says who arrives, runs, is preempted and leaves; a call's level and its place
among the others change here (rules S1, S4, K7, Q1 to Q4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autellix.core.facts import Demoted, Promoted, Raised, Reserved, about
from autellix.core.ranking import InnerOrder
from autellix.core.records import Charge
from autellix.core.retention import Retention
from autellix.core.waiting import WaitingLine

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from autellix.core.call import Call
    from autellix.core.facts import Fact
    from autellix.core.fairness import Fairness
    from autellix.core.kv_blocks import KVBlocks
    from autellix.core.ranking import Placement, Policy, Ranking


class Places:
    """The order of one engine's calls.

    Args:
        blocks: The engine's.
        policy: Its inner order and its charge count here.
        ranking: Gives the levels.
        fairness: Is told who may starve.
        retained_ns: How long a program between two calls retains (rule K7).
        tell: Takes what happened.
        totals: Counters for statistics.

    Attributes:
        ranking: In force.
        line: Calls without a slot.
        retention: What of the cache is retained for them, and for their programs.
        promoted: Number of live calls that are promoted.
    """

    def __init__(
        self,
        blocks: KVBlocks,
        policy: Policy,
        ranking: Ranking,
        fairness: Fairness,
        *,
        retained_ns: int,
        tell: Callable[[Fact], None],
        totals: Counter[str],
    ) -> None:
        self.ranking = ranking
        self.line = WaitingLine()
        self.retention = Retention(blocks, self.line, retained_ns)
        self.promoted = 0
        self._fairness = fairness
        self._tell = tell
        self._totals = totals
        self._by_program = policy.inner_order is InnerOrder.PROGRAM_ARRIVAL
        self._by_work = policy.charge is Charge.WORK
        self._entries = 0

    # -- the line ----------------------------------------------------------------

    def join(self, call: Call) -> None:
        """Put a call without a slot in its place."""
        self.line.add(call, is_returning=self.retention.wait(call))
        if call.level > 0:
            self._fairness.add_starvable(call, self.ranking.first_quantum_ns)

    def leave(self, call: Call) -> None:
        """Take a call out of the line; its wait is for ``Books`` to book."""
        self._leave_place(call)
        if call.level > 0:
            self._fairness.remove_starvable(call)

    def _leave_place(self, call: Call) -> None:
        self.line.remove(call)
        self.retention.leave(call)

    # -- levels ------------------------------------------------------------------

    def age(self, call: Call) -> int:
        """Return inherited + own charge, nanoseconds."""
        own = call.work_ns if self._by_work else call.service_ns
        return call.inherited_ns + own

    def place(self, call: Call, placement: Placement) -> None:
        """Give a call that is not in the line a level, as the last to come to it."""
        self._entries += 1
        self.promoted -= call.is_promoted
        call.is_promoted = False
        call.level = placement.level
        call.expires_at_ns = placement.expires_at_ns
        arrival = call.spec.job.program_arrival
        call.inner = (arrival, self._entries) if self._by_program else (self._entries,)
        self.reorder(call)

    def reorder(self, call: Call) -> None:
        """Say where a call stands whose state changed; not while it is in the line."""
        call.order = (
            call.level,
            0 if call.is_reserved else 1,
            0 if call.is_resident else 1,
            *call.inner,
        )

    def end(self, call: Call) -> None:
        """Count a call out that ends, and is not in the line any more."""
        self.promoted -= call.is_promoted

    def expire(self, call: Call, now_ns: int) -> None:
        """Place a running call anew: its age reached its expiry."""
        was = call.level
        job, age = call.spec.job, self.age(call)
        self.place(call, self.ranking.expire(job, age, was))
        self._tell_level(call, was, now_ns)

    def use(self, ranking: Ranking, now_ns: int) -> list[Call]:
        """Use another ranking, for waiting calls at once where it says so (rule Q4).

        Returns:
            Those that have another level now, in the order that was.
        """
        waiting = [self.line[place] for place in self.line.all]
        reviewed = [
            (call, ranking.review(call.spec.job, self.age(call), call.level))
            for call in waiting
            if not call.is_promoted
        ]
        self.ranking = ranking  # what it says is known: nothing is left half done
        moved = []
        for call, placement in reviewed:
            if placement is None:
                continue
            if placement.level == call.level:
                call.expires_at_ns = placement.expires_at_ns
                continue
            was = call.level
            self._move(call, placement)
            self._tell_level(call, was, now_ns)
            moved.append(call)
        return moved

    def promote(self, call: Call, now_ns: int) -> None:
        """Put a waiting call of a starving program to level 0 (rule Q3)."""
        was = call.level
        self._move(call, self.ranking.promote(call.spec.job, self.age(call)))
        call.is_promoted = True
        self.promoted += 1
        self._totals["promotions"] += 1
        self._tell(Promoted(was=was, **about(call, now_ns)))

    def reserve(self, call: Call, now_ns: int) -> None:
        """Keep room for a call that was passed over for long (rule S4)."""
        self._leave_place(call)
        call.is_reserved = True
        self.reorder(call)
        self.line.add(call, is_returning=self.retention.wait(call))
        self._totals["reservations"] += 1
        self._tell(Reserved(**about(call, now_ns)))

    def _move(self, call: Call, placement: Placement) -> None:
        """Give a call of the line another place in it; its wait goes on."""
        self.leave(call)
        self.place(call, placement)
        self.join(call)

    def _tell_level(self, call: Call, was: int, now_ns: int) -> None:
        if call.level > was:
            self._totals["demotions"] += 1
            self._tell(Demoted(level=call.level, was=was, **about(call, now_ns)))
        elif call.level < was:
            self._tell(Raised(level=call.level, was=was, **about(call, now_ns)))
