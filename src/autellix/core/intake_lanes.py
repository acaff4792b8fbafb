"""Calls in the runtime's own queue by the engines they may go to (rule B4).

The engine that has room finds its first call at the head of a few heaps: what waits for
other engines costs it nothing.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from autellix.core.records import CallSpec


@attrs.frozen
class Lane:
    """What calls have in common that may go to the same engines.

    Attributes:
        engines: Those a call may run on.
        bound: The only one of them it waits for so far; None: any.
    """

    engines: frozenset[str]
    bound: str | None

    def leads_to(self, engine: str) -> bool:
        """Say whether an engine may take the calls of this lane."""
        return engine in self.engines and self.bound in {None, engine}


@attrs.define(eq=False)
class Waiting:
    """A call that waits, since ``since_ns``; the smallest ``order`` goes first."""

    spec: CallSpec
    lane: Lane
    since_ns: int
    level: int = 0
    order: tuple[int, ...] = ()
    is_promoted: bool = False
    has_left: bool = False


_Entry: TypeAlias = tuple[tuple[int, ...], Waiting]  # orders differ, so calls never tie


class Lanes:
    """A heap a lane; an entry whose call has moved stays in it until it surfaces."""

    def __init__(self) -> None:
        self._heaps: dict[Lane, list[_Entry]] = {}

    def put(self, call: Waiting) -> None:
        """File a call under its lane and order, which may both have changed."""
        heap = self._heaps.setdefault(call.lane, [])
        heapq.heappush(heap, (call.order, call))

    def clean(self, calls: Iterable[Waiting]) -> None:
        """Keep an entry for each of these, which are all that wait, and no other."""
        self._heaps.clear()
        for call in calls:
            self.put(call)

    def first(self, engine: str) -> Waiting | None:
        """Return the first call that an engine may take, None if there is none."""
        lanes = [lane for lane in self._heaps if lane.leads_to(engine)]
        heads = [head for lane in lanes if (head := self._head(lane)) is not None]
        return min(heads, key=lambda call: call.order, default=None)

    def holds(self, call: Waiting) -> bool:
        """Say whether a call can be found; O(calls of its lane)."""
        heap = self._heaps.get(call.lane, ())
        return any(entry is call and order == call.order for order, entry in heap)

    def _head(self, lane: Lane) -> Waiting | None:
        heap = self._heaps[lane]
        while heap:
            order, call = heap[0]
            is_current = call.order == order and call.lane == lane
            if is_current and not call.has_left:
                return call
            heapq.heappop(heap)
        del self._heaps[lane]
        return None
