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
    from autellix.core.found import Found
    from autellix.core.kv_blocks import KVBlocks
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
        turned_away: The newcomers that the last round left no room for.
        losses: How often somebody lost what it retained.
    """

    def __init__(self, blocks: KVBlocks, line: WaitingLine, most_ns: int) -> None:
        self.most_ns = most_ns
        self.held: dict[Order, Sequence[Node]] = {}
        self.turned_away: Sequence[Call] = ()
        self.losses = 0
        self._blocks = blocks
        self._line = line
        self._orders: list[Order] = []
        self._absent: dict[int, _Absence] = {}
        self._absences: deque[tuple[int, _Absence]] = deque()
        blocks.pool.make_way = self._lose_last

    def __contains__(self, program_id: int) -> bool:
        """Say whether a program is between two calls and retains something."""
        return program_id in self._absent

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
        if _is_returning(call, found):
            self._retain(call.order, found.nodes)
        return call.order in self.held

    def leave(self, call: Call) -> None:
        """Take note that a call leaves the line, or its place in it."""
        self._release(call.order)

    def end(self, call: Call, chain: Sequence[Node], now_ns: int) -> None:
        """Let the program of a call that ends retain ``chain``, its full blocks."""
        if not self._blocks.retains_prefixes or not chain:
            return
        program_id = call.spec.program_id
        self.forget(program_id)
        absence = _Absence(now_ns + self.most_ns, (call.level, 1, 1, *call.inner))
        self._absent[program_id] = absence
        self._absences.append((program_id, absence))
        self._retain(absence.order, chain)

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

    def is_newcomer(self, call: Call, found: Found) -> bool:
        """Say whether nothing is here for a call that is tried.

        One that others have computed enough for by now is returning from here on.
        """
        if not self._blocks.retains_prefixes or call.state is not CallState.WAITING:
            return False
        if call.order not in self.held and _is_returning(call, found):
            self._retain(call.order, found.nodes)
            self._line.join_returning(call.order)
        return call.order not in self.held

    def lacks(self, call: Call, found: Found, least_level: int) -> int:
        """Return how many blocks a newcomer lacks to begin; 0 or less: none.

        Beside the room there is, it may take what only those retain who stand from
        ``least_level`` on.
        """
        blocks, cached = self._blocks, self._blocks.pool.cached
        there = sum(node in cached for node in found.nodes)  # which it is to keep
        needed = blocks.blocks_for(len(call.tokens)) - len(found.nodes) + there
        lacking = needed - self.room()
        for order in reversed(self._orders):
            if lacking <= 0 or order[0] < least_level:
                break
            lacking -= sum(map(self._frees, self.held[order]))
        return lacking

    def room(self) -> int:
        """Return how many blocks of the pool are free or cached for nobody.

        Less what resident calls are going to leave there.
        """
        blocks, pool = self._blocks, self._blocks.pool
        room = pool.free + len(pool.cached)
        if pool is not blocks.device:
            room -= blocks.device.total - blocks.device.available
        return room

    def next_expiry_ns(self) -> int | None:
        """Return when time alone may make room for a newcomer; None: none waits."""
        if not (self.turned_away and self._absences):
            return None
        return self._absences[0][1].until_ns

    # -- the books ---------------------------------------------------------------

    def _retain(self, order: Order, nodes: Sequence[Node]) -> None:
        nodes = list(takewhile(attrgetter("is_indexed"), nodes))
        if not nodes:
            return
        self.held[order] = nodes
        insort(self._orders, order)
        self._blocks.retain(nodes)

    def _release(self, order: Order) -> None:
        nodes = self.held.pop(order, None)
        if nodes is None:
            return
        del self._orders[bisect_left(self._orders, order)]
        self._blocks.let_go(nodes)

    def _frees(self, node: Node) -> bool:
        """Say whether letting go of a node once makes room in the pool."""
        return _is_of_one(node) and node in self._blocks.pool.retained

    def _lose_last(self) -> None:
        """Let the last in the order lose what they retain, until something can go.

        Whose blocks all are retained by others too, or in use, loses nothing by that.
        """
        for order in reversed(self._orders):
            # Along a chain ever fewer retain its nodes, so its own are at the end.
            own = takewhile(_is_of_one, reversed(self.held[order]))
            if any(map(self._frees, own)):
                self._lose(order)
                return
        while self._orders and not self._blocks.pool.cached:
            self._lose(self._orders[-1])

    def _lose(self, order: Order) -> None:
        self.losses += 1
        self._release(order)
        self._line.leave_returning(order)


def _is_of_one(node: Node) -> bool:
    return node.retained == 1


def _is_returning(call: Call, found: Found) -> bool:
    return 2 * found.tokens >= len(call.tokens)
