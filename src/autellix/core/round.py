"""One scheduling decision: the pass of docs/scheduler.md, rules S1 to S7."""

from __future__ import annotations

from bisect import bisect_left
from itertools import takewhile
from operator import attrgetter
from typing import TYPE_CHECKING

import attrs

from autellix.core.ahead import Ahead
from autellix.core.call import Call, CallState
from autellix.core.needs import Needs
from autellix.core.records import WaitReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autellix.core.books import Books
    from autellix.core.found import Found
    from autellix.core.limits import StepLimits
    from autellix.core.preemption import Preemption
    from autellix.core.waiting import Order


@attrs.define(eq=False)
class Round:
    """One pass over running and waiting calls, in order; used once.

    Attributes:
        step: The calls of the step with their tokens, best first.
        has_changed: Somebody was admitted or preempted.
        skipped: Calls to be looked at again when room may have to be kept for them.
        turned_away: Calls that what programs retain left no room for (rule K7).
        least_room: With less room than this a newcomer that was tried before the last
            of them, and lacked blocks, would be turned away too; None: no such.
    """

    books: Books
    limits: StepLimits
    preemption: Preemption
    now_ns: int
    is_decision: bool
    """False between rounds of several steps: nobody is preempted for a candidate."""
    step: list[tuple[Call, int]] = attrs.field(factory=list)
    has_changed: bool = False
    skipped: list[Call] = attrs.field(factory=list)
    turned_away: list[Call] = attrs.field(factory=list)
    least_room: int | None = None
    _kept: list[Call] = attrs.field(factory=list)
    _ahead: Ahead = attrs.field(init=False)
    _needs: Needs = attrs.field(init=False)
    _budget: int = 0
    _misses: int = 0
    _short_of: WaitReason | None = None
    _is_closed: bool = False
    _is_full: bool = False
    _is_behind_reservation: bool = False

    def run(self, candidates: Sequence[Order]) -> None:
        """Decide; ``candidates`` are places in the line, best first, or the line."""
        books = self.books
        horizon = self.limits.round_steps if self.is_decision else 1
        self._needs = Needs(books.blocks, horizon)
        self._ahead = Ahead(books)
        decoders = [
            1 for c in books.running if len(c.tokens) == c.computed + 1 and c.computed
        ]
        self._budget = self.limits.token_budget - len(decoders)
        self._pass(candidates)
        books.running = self._kept
        if not self.step and books.line:
            self._force()

    def short_of(self) -> WaitReason:
        """Return what calls that were not tried wait for."""
        if self._is_behind_reservation and not self._is_closed:
            return WaitReason.RESERVATION
        return self._short_of or WaitReason.ROUND

    def _pass(self, places: Sequence[Order]) -> None:
        line = self.books.line
        scope = places
        at = 0
        while True:
            running = self._ahead.first
            place = None if self._is_closed or at >= len(places) else places[at]
            if running is not None and (place is None or running.order < place):
                self._continue_before(place)
            elif place is not None and self._has_lost(place):
                at += 1  # preempted again, in this pass, or no longer returning
            elif place is not None:
                admitted = self._try(line[place])
                if scope is not self._scope(scope):
                    scope = self._scope(scope)
                    places = list(scope)
                    at = bisect_left(places, place)
                elif not (admitted and places is line.all):
                    at += 1
            else:
                return

    def _has_lost(self, place: Order) -> bool:
        """Say whether a call has lost in this pass what it was to be tried for."""
        line = self.books.line
        if place not in line or not self._is_full:
            return place not in line
        is_waiting = line[place].state is CallState.WAITING
        return is_waiting and place not in self.books.retention.held

    def _scope(self, scope: Sequence[Order]) -> Sequence[Order]:
        """Return which calls of the line are still tried; ``scope`` were so far."""
        line = self.books.line
        if scope is line.all and self._is_full:
            scope = line.returning
        is_open = scope is line.all or scope is line.returning
        return line.paused if is_open and self._is_behind_reservation else scope

    # -- calls that run ----------------------------------------------------------

    def _continue_before(self, place: Order | None) -> None:
        """Let running calls go on, down to ``place`` in the order."""
        ahead, at = self._ahead.running, self._ahead.next
        kept, step = self._kept, self.step
        block_tokens = self.books.blocks.block_tokens
        may_be_plain = self._needs.horizon == 1
        while at < len(ahead):
            call = ahead[at]
            if place is not None and place < call.order:
                break
            at += 1
            known = len(call.tokens)
            if (  # a decoder with room: what most calls are in most rounds
                may_be_plain
                and known == call.computed + 1
                and 1 < known <= len(call.lease.blocks) * block_tokens
            ):
                kept.append(call)
                step.append((call, 1))
            else:
                self._ahead.next = at
                self._continue(call)
        self._ahead.next = at

    def _continue(self, call: Call) -> None:
        """Give a running call its tokens and blocks."""
        decodes = call.is_decoder
        if decodes:
            tokens = 1
            upto = self._needs.decode_upto(call, call.computed)
        else:
            tokens = min(len(call.tokens) - call.computed, self._budget)
            upto = call.computed + tokens
            if not tokens:
                if call.wait_reason is not WaitReason.TOKEN_BUDGET:
                    call.book_wait(self.now_ns)
                    call.wait_reason = WaitReason.TOKEN_BUDGET
                self._kept.append(call)
                return
        blocks = self.books.blocks
        if upto > len(call.lease.blocks) * blocks.block_tokens:
            while not blocks.grow(call.lease, upto):
                if not self._yield_for(call):
                    return
        if not decodes:
            self._budget -= tokens
        self._kept.append(call)
        self.step.append((call, tokens))

    def _yield_for(self, call: Call) -> bool:
        """Let the last resident go; False if that is ``call`` itself (rule S3).

        One that recomputes what it lost goes only where there is no other.
        """
        behind = takewhile(lambda c: c.order > call.order, self._ahead.residents())
        last = min(behind, key=attrgetter("is_recomputing"), default=call)
        self._evict(last, call)
        return last is not call

    # -- calls that wait ---------------------------------------------------------

    def _try(self, call: Call) -> bool:
        """Admit ``call`` if all it needs can be had, else note what it misses."""
        giver = None
        if self._free_slots() <= 0:
            giver = self._slot_giver(call)
            if giver is None:
                self._is_closed = True
                return self._miss(call, WaitReason.SLOTS)
        spare = 1 if giver is not None and giver.is_decoder else 0
        budget = self._budget + spare
        if budget < 1:
            return self._miss(call, WaitReason.TOKEN_BUDGET)
        found = self._needs.found(call)
        slack = self._slack(call, found)
        if slack is not None and slack < 0:
            return self._turn_away(call)
        tokens = min(len(call.tokens) - found.tokens, budget)
        upto = self._needs.upto(call, found, tokens)
        lacking = self.books.blocks.lacking(call, found, upto)
        victims = self._victims(call, giver, found, lacking)
        if victims is None:
            self._watch_room(slack)
            return self._miss(call, WaitReason.BLOCKS)
        for victim in victims:
            self._evict(victim, call)
        if giver is not None and giver not in victims:
            self._pause(giver, call)
        upto = found.tokens + tokens
        if victims:  # that went to the host pool may have pushed out what was found
            found = self._needs.found(call)
        self._admit(call, found, upto)
        return True

    def _slack(self, call: Call, found: Found) -> int | None:
        """Return how many blocks more than it needs are left for a newcomer (rule K7).

        Less than 0: programs retain too much. None: that does not matter to ``call``.
        One that is promoted has no claim to what anybody retains.
        """
        if call.is_reserved or self._is_alone():
            return None
        least = self.books.places.ranking.levels
        if not call.is_promoted:
            least = call.level + self.limits.hysteresis_levels
        blocks, retention = self.books.blocks, self.books.retention
        if not retention.is_newcomer(call, found):
            return None
        lacking = retention.lacks(call, found, least)
        if lacking > 0 and blocks.pool is blocks.device:
            worse = (c for c in self._ahead.residents() if c.level >= least)
            lacking -= sum(len(c.lease.blocks) for c in worse)
        return -lacking

    def _turn_away(self, call: Call) -> bool:
        """Let a newcomer wait for room; only one that is promoted lets others pass."""
        self.turned_away.append(call)
        self._is_full |= not call.is_promoted
        self._short_of = WaitReason.BLOCKS
        self.books.waits.missed(call, WaitReason.BLOCKS, self.now_ns)
        return False

    def _watch_room(self, slack: int | None) -> None:
        """Note with how little room a newcomer that misses would be turned away."""
        if slack is None:
            return
        least_room = self.books.retention.room() - slack
        if self.least_room is None or least_room > self.least_room:
            self.least_room = least_room

    def _admit(self, call: Call, found: Found, upto: int) -> None:
        """Admit and compute up to token ``upto``, or as far as the budget goes."""
        tokens = min(upto - found.tokens, self._budget)
        upto = self._needs.upto(call, found, tokens)
        self.books.admit(call, found, upto, self.now_ns)
        self.has_changed = True
        self._budget -= tokens
        self._kept.append(call)
        self.step.append((call, tokens))

    def _miss(self, call: Call, reason: WaitReason) -> bool:
        self._misses += 1
        self._short_of = reason
        if self._misses >= self.limits.lookahead:
            self._is_closed = True
        if call.state is not CallState.PAUSED:
            self.books.waits.missed(call, reason, self.now_ns)
        if reason is WaitReason.SLOTS:
            return False
        if call.skipped_since_ns is None:
            call.skipped_since_ns = self.now_ns
            self.skipped.append(call)
        if call.is_reserved:
            self._is_behind_reservation = True
        return False

    def _free_slots(self) -> int:
        return self.limits.slots - len(self._kept) - len(self._ahead)

    def _is_alone(self) -> bool:
        return self._free_slots() == self.limits.slots

    def _slot_giver(self, call: Call) -> Call | None:
        last = self._ahead.last
        if not self.is_decision or last is None:
            return None
        worse = last.level - call.level >= self.limits.hysteresis_levels
        return last if worse else None

    def _victims(
        self, call: Call, giver: Call | None, found: Found, lacking: int
    ) -> list[Call] | None:
        """Return whom to preempt for blocks; None if all of them would not do."""
        if lacking <= 0:
            return []
        least = call.level + self.limits.hysteresis_levels
        if not self.is_decision or self._ahead.worst_level() < least:
            return None
        worse = takewhile(
            lambda other: other.level >= least and other.order > call.order,
            self._givers_first(giver),
        )
        return self.preemption.victims(worse, found, lacking)

    def _givers_first(self, giver: Call | None) -> Iterator[Call]:
        if giver is not None:
            yield giver
        yield from (call for call in self._ahead.residents() if call is not giver)

    # -- preempting --------------------------------------------------------------

    def _evict(self, call: Call, by: Call) -> None:
        self._lose_slot(call)
        kind = self.preemption.kind(call, self.books.blocks.host.available)
        self.books.evict(call, by, kind, self.now_ns)
        if call.skipped_since_ns is not None:
            self.skipped.append(call)

    def _pause(self, call: Call, by: Call) -> None:
        self._lose_slot(call)
        self.books.pause(call, by, self.now_ns)

    def _lose_slot(self, call: Call) -> None:
        """Take a call out of the pass; the token of a decoder returns to the budget."""
        self.has_changed = True
        if call.state is not CallState.RUNNING:
            return
        if call.is_decoder:
            self._budget += 1
        self._ahead.remove(call)

    def _force(self) -> None:
        """Let the first call go on, whatever it takes (rule S5)."""
        line = self.books.line
        paused = [line[place] for place in line.paused]
        whole = (call for call in paused if call.is_recomputing)
        call = next(whole, paused[0] if paused else line[line.all[0]])
        while True:
            found = self._needs.found(call)
            tokens = min(len(call.tokens) - found.tokens, self._budget)
            upto = self._needs.upto(call, found, tokens)
            if self.books.blocks.lacking(call, found, upto) <= 0:
                break
            self._evict(next(self._ahead.residents()), call)
        self._admit(call, found, found.tokens + tokens)
        self.books.running = self._kept
