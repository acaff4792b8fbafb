"""The calls without a slot: their order, and why each of them waits (rules S1, A9)."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from autellix.core.call import CallState
from autellix.core.records import WaitReason

if TYPE_CHECKING:
    from autellix.core.call import Call

Order = tuple[int, ...]


class WaitingLine:
    """Live calls without a slot, best first.

    ``paused`` has those again that are resident, ``returning`` those for which KV is
    here (rule K7), the resident ones among them. Sorted lists: adding and removing is a
    binary search and a move of pointers, so that 10,000 waiting calls cost a round
    hardly more than 100.
    """

    def __init__(self) -> None:
        self.all: list[Order] = []
        self.paused: list[Order] = []
        self.returning: list[Order] = []
        self._calls: dict[Order, Call] = {}

    def __len__(self) -> int:
        """Return how many calls wait."""
        return len(self.all)

    def __getitem__(self, order: Order) -> Call:
        """Return the call at that place."""
        return self._calls[order]

    def __contains__(self, order: Order) -> bool:
        """Say whether a call is at that place."""
        return order in self._calls

    def add(self, call: Call, *, is_returning: bool) -> None:
        """Put a call in its place; its ``order`` must not change while it is here."""
        insort(self.all, call.order)
        if call.state is CallState.PAUSED:
            insort(self.paused, call.order)
        if is_returning:
            self.join_returning(call.order)
        self._calls[call.order] = call

    def remove(self, call: Call) -> None:
        """Take a call out."""
        del self.all[bisect_left(self.all, call.order)]
        if call.state is CallState.PAUSED:
            del self.paused[bisect_left(self.paused, call.order)]
        self.leave_returning(call.order)
        del self._calls[call.order]

    def join_returning(self, order: Order) -> None:
        """Take note that KV for the call that stands there is here."""
        insort(self.returning, order)

    def leave_returning(self, order: Order) -> None:
        """Take note that what was here for a call is lost, if one stands there."""
        at = bisect_left(self.returning, order)
        if at < len(self.returning) and self.returning[at] == order:
            del self.returning[at]


class WaitLedger:
    """Books waits by reason without touching every waiting call every round.

    A call that a round tried waits for what it missed. All others *follow*: they wait
    for what the last round ran short of, and one running sum by reason serves them all.
    """

    def __init__(self) -> None:
        self._sums: dict[WaitReason, int] = {}
        self._since_ns = 0
        self._reason = WaitReason.ROUND
        self._followers: dict[int, dict[WaitReason, int]] = {}
        self._tried: dict[int, Call] = {}
        self._tried_before: dict[int, Call] = {}

    def follow(self, call: Call, now_ns: int) -> None:
        """Let ``call`` wait for whatever rounds run short of, from now on."""
        call.book_wait(now_ns)
        self._advance(now_ns)
        self._followers[call.call_id] = dict(self._sums)

    def missed(self, call: Call, reason: WaitReason, now_ns: int) -> None:
        """Note what the round of ``now_ns`` could not give to ``call``."""
        self._stop_following(call, now_ns)
        call.book_wait(now_ns)
        call.wait_reason = reason
        self._tried_before.pop(call.call_id, None)
        self._tried[call.call_id] = call

    def leave(self, call: Call, now_ns: int) -> None:
        """Book all of ``call``'s wait; it is admitted or ends."""
        self._stop_following(call, now_ns)
        call.book_wait(now_ns)
        call.wait_reason = WaitReason.ROUND
        self._tried_before.pop(call.call_id, None)
        self._tried.pop(call.call_id, None)

    def end_round(self, short_of: WaitReason, now_ns: int) -> None:
        """Say what all calls that were not tried wait for until the next round."""
        self._advance(now_ns)
        self._reason = short_of
        for call in self._tried_before.values():
            self.follow(call, now_ns)
        self._tried_before, self._tried = self._tried, {}

    def _advance(self, now_ns: int) -> None:
        waited = now_ns - self._since_ns
        if waited:
            self._sums[self._reason] = self._sums.get(self._reason, 0) + waited
        self._since_ns = now_ns

    def _stop_following(self, call: Call, now_ns: int) -> None:
        before = self._followers.pop(call.call_id, None)
        if before is None:
            return
        self._advance(now_ns)
        for reason, total in self._sums.items():
            waited = total - before.get(reason, 0)
            if waited:
                call.wait_ns[reason] = call.wait_ns.get(reason, 0) + waited
        call.accounted_ns = now_ns
