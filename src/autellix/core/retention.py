"""What unfinished programs retain of the cache until they need it again (rule K7).

Least recently used is the wrong order where more programs are under way than memory
holds: each call evicts what another program is about to ask for, and all of them
compute everything again. Here the order of the calls says who needs it first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from itertools import takewhile
from operator import attrgetter
from typing import TYPE_CHECKING

import attrs

from autellix.core.call import CallState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.core.call import Call
    from autellix.core.kv_blocks import Found, KVBlocks
    from autellix.core.prefix_tree import Node
    from autellix.core.waiting import Order, WaitingLine


@attrs.define(eq=False)
class _Absence:
    """A program between two calls: until when it retains, and as which place."""

    until_ns: int
    order: Order


class Retention:
    """Which cached blocks are retained, and for whom; used where the engine does so.

    A call that waits and finds at least half of its prompt is *returning*: it retains
    what it found. A program between two calls retains the blocks of the last, for at
    most as long as computing a whole pool takes: memory costs the others as much as it
    spares this one by then, whatever its size. All others are *newcomers*.

    Args:
        blocks: The engine's.
        line: Its calls without a slot.
        most_ns: How long a program between two calls retains.

    Attributes:
        held: What is retained, by the place in the order of the call that waits for it,
            or of the last one of a program between two calls.
    """

    def __init__(self, blocks: KVBlocks, line: WaitingLine, most_ns: int) -> None:
        self.most_ns = most_ns
        self.held: dict[Order, Sequence[Node]] = {}
        self._blocks = blocks
        self._line = line
        self._orders: list[Order] = []
        self._absent: dict[int, _Absence] = {}
        self._absences: deque[tuple[int, _Absence]] = deque()
        self._newcomer: tuple[int, int] | None = None
        blocks.pool.make_way = self._lose_last

    # -- who retains -------------------------------------------------------------

    def wait(self, call: Call) -> bool:
        """Let a call that joins the line retain what it finds.

        Returns:
            Whether it is returning: what it needs is here.
        """
        if call.state is not CallState.WAITING:
            return True
        if not self._blocks.retains_prefixes:
            return False
        found = self._blocks.find(call)
        is_returning = _is_returning(call, found)
        if is_returning:
            self._retain(call.order, found.nodes)
        self.forget(call.spec.program_id)
        return is_returning

    def leave(self, call: Call) -> None:
        """Take note that a call leaves the line, or its place in it."""
        self._release(call.order)

    def end(self, call: Call, chain: Sequence[Node], now_ns: int) -> None:
        """Let the program of a call that ended retain ``chain``, its full blocks."""
        if not self._blocks.retains_prefixes:
            return
        program_id = call.spec.program_id
        self.forget(program_id)
        absence = _Absence(now_ns + self.most_ns, call.order)
        self._absent[program_id] = absence
        self._absences.append((program_id, absence))
        self._retain(call.order, chain)

    def forget(self, program_id: int) -> None:
        """Take note that a program has ended, or has come back."""
        absence = self._absent.pop(program_id, None)
        if absence is not None:
            self._release(absence.order)

    def expire(self, now_ns: int) -> None:
        """Let go of what programs retain that have been away for too long."""
        while self._absences:
            program_id, absence = self._absences[0]
            is_current = self._absent.get(program_id) is absence
            if is_current and absence.until_ns > now_ns:
                return
            self._absences.popleft()
            if is_current:
                self.forget(program_id)

    # -- newcomers ---------------------------------------------------------------

    def lacking(self, call: Call, found: Found, least_level: int) -> int:
        """Return how many blocks a newcomer lacks to begin; 0 or less: none.

        It may take what is free or cached for nobody, less what resident calls are
        going to leave there, and what is retained from ``least_level`` on.
        """
        blocks = self._blocks
        if not blocks.retains_prefixes or call.state is not CallState.WAITING:
            return 0
        if call.order in self.held:
            return 0
        if _is_returning(call, found):  # others have computed it meanwhile
            self._retain(call.order, found.nodes)
            self._line.join_returning(call.order)
            return 0
        pool = blocks.pool
        room = pool.free + len(pool.cached)
        if pool is not blocks.device:
            room -= blocks.device.total - blocks.device.available
        lacking = blocks.blocks_for(len(call.tokens)) - len(found.nodes) - room
        for order in reversed(self._orders):
            if lacking <= 0 or order[0] < least_level:
                break
            lacking -= len(self.held[order])
        return lacking

    def end_round(self, newcomer: Call | None, now_ns: int) -> None:
        """Note the first newcomer that found no room in a round, if there was one."""
        if newcomer is None:
            self._newcomer = None
        elif self._newcomer is None or self._newcomer[0] != newcomer.call_id:
            self._newcomer = (newcomer.call_id, now_ns)

    @property
    def newcomer_id(self) -> int | None:
        """The call that the last round turned away as the first; None: none."""
        return None if self._newcomer is None else self._newcomer[0]

    def overdue(self, now_ns: int) -> int | None:
        """Return the newcomer that has been the first for too long, once."""
        if self._newcomer is None or self._newcomer[1] + self.most_ns > now_ns:
            return None
        call_id, self._newcomer = self._newcomer[0], None
        return call_id

    def next_due_ns(self) -> int | None:
        """Return when time alone may let a newcomer in; None where none waits so."""
        if self._newcomer is None:
            return None
        due_ns = self._newcomer[1] + self.most_ns
        return min(due_ns, self._absences[0][1].until_ns) if self._absences else due_ns

    # -- the books ---------------------------------------------------------------

    def _retain(self, order: Order, nodes: Sequence[Node]) -> None:
        self.held[order] = nodes = list(takewhile(attrgetter("is_indexed"), nodes))
        insort(self._orders, order)
        for node in reversed(nodes):
            self._blocks.retain(node)

    def _release(self, order: Order) -> None:
        nodes = self.held.pop(order, None)
        if nodes is None:
            return
        del self._orders[bisect_left(self._orders, order)]
        for node in reversed(nodes):
            self._blocks.let_go(node)

    def _lose_last(self) -> None:
        """Let go of what the last in the order retains, until something can go."""
        while self._orders and not self._blocks.pool.cached:
            order = self._orders[-1]
            self._release(order)
            self._line.leave_returning(order)


def _is_returning(call: Call, found: Found) -> bool:
    return 2 * found.tokens >= len(call.tokens)
