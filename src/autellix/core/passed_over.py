"""Calls that rounds pass over, and when room is kept for them (rules S4, K7)."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from autellix.core.call import CallState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from autellix.core.books import Books
    from autellix.core.call import Call


class PassedOver:
    """Reserves for calls without blocks that were first passed over long enough ago.

    A newcomer that finds no room because of what programs retain has to wait longer, by
    how long they may.

    Args:
        books: The engine's calls.
        reserve_after_ns: How long is long enough.
    """

    def __init__(self, books: Books, reserve_after_ns: int) -> None:
        self._books = books
        self._reserve_after_ns = reserve_after_ns
        self._due: list[tuple[int, int]] = []
        self._newcomers: list[tuple[int, int]] = []

    def __contains__(self, call: Call) -> bool:
        """Say whether ``call`` will be looked at when its time has come."""
        since = call.skipped_since_ns
        if since is None:
            return False
        return (since + self._reserve_after_ns, call.call_id) in self._due

    def watch(self, skipped: Iterable[Call]) -> None:
        """Look at these calls again when they have been passed over for long enough."""
        for call in skipped:
            if call.skipped_since_ns is not None:
                due = call.skipped_since_ns + self._reserve_after_ns
                heapq.heappush(self._due, (due, call.call_id))

    def turn_away(self, newcomers: Iterable[Call], now_ns: int) -> None:
        """Look at those that found no room when they have waited for long (K7)."""
        for call in newcomers:
            if call.let_in_by_ns is None:
                call.let_in_by_ns = now_ns + self._books.retention.most_ns
                heapq.heappush(self._newcomers, (call.let_in_by_ns, call.call_id))

    def next_due_ns(self) -> int | None:
        """Return when a call may next be reserved for, or let in by time alone."""
        dues = [due for due, _ in self._due[:1] + self._newcomers[:1]]
        expiry_ns = self._books.retention.next_expiry_ns()
        return min(dues if expiry_ns is None else [*dues, expiry_ns], default=None)

    def reserve(self, now_ns: int) -> None:
        """Keep room for every call whose time has come."""
        while self._due and self._due[0][0] <= now_ns:
            due, call_id = heapq.heappop(self._due)
            call = self._books.calls.get(call_id)
            if call is None or call.is_reserved or call.skipped_since_ns is None:
                continue
            if call.is_resident:
                continue  # watched again if it loses its blocks
            if due == call.skipped_since_ns + self._reserve_after_ns:
                self._books.places.reserve(call, now_ns)
        while self._newcomers and self._newcomers[0][0] <= now_ns:
            due, call_id = heapq.heappop(self._newcomers)
            self._reserve_for_newcomer(due, call_id, now_ns)

    def _reserve_for_newcomer(self, due_ns: int, call_id: int, now_ns: int) -> None:
        call, retention = self._books.calls.get(call_id), self._books.retention
        if call is None or call.is_reserved or call.let_in_by_ns != due_ns:
            return  # it was let in since, and may have been turned away again
        call.let_in_by_ns = None
        if call.state is not CallState.WAITING or call.order in retention.held:
            return
        if call.skipped_since_ns is None:
            call.skipped_since_ns = now_ns
        self._books.places.reserve(call, now_ns)
