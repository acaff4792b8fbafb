"""Laws of one plan: the picture before it is compared with the plan and its facts.

Everything is worked out anew from what was there before, the plain way; rules are those
of DESIGN section 6 and docs/scheduler.md.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import attrs

from autellix.core.call import Call, CallState
from autellix.core.facts import Fact, Preempted, Promoted, Reserved, Resumed, Scheduled
from autellix.core.kv_blocks import KVBlocks
from autellix.core.plan import Plan
from autellix.core.prefix_tree import Node
from autellix.core.records import PreemptionKind
from autellix.core.step_scheduler import StepScheduler

RESIDENT = (CallState.RUNNING, CallState.PAUSED)


class Start(NamedTuple):
    """What a call without device blocks could start from."""

    tokens: int
    hits: tuple[Node, ...]


@attrs.frozen(kw_only=True)
class Seen:
    """A call before a plan."""

    state: CallState
    level: int
    inner: tuple[int, ...]
    is_reserved: bool
    computed: int
    new: int
    remaining: int
    blocks: int
    start: Start

    @property
    def is_resident(self) -> bool:
        return self.state in RESIDENT

    @property
    def decodes(self) -> bool:
        """Whether it is a running decoder."""
        return self.state is CallState.RUNNING and self.computed > 0 and self.new == 1


class PlanLaws:
    """Taken before a plan, checked after it.

    Args:
        scheduler: About to plan.
        is_round: Whether this plan is a round (S6).
    """

    def __init__(self, scheduler: StepScheduler, *, is_round: bool) -> None:
        self.scheduler = scheduler
        self.limits = scheduler.limits
        self.costs = scheduler.costs
        self.blocks = scheduler.books.blocks
        self.is_round = is_round
        self.calls = dict(scheduler.books.calls)
        self.seen = {i: self._look(call) for i, call in self.calls.items()}
        self.seen_kinds: Counter[str] = Counter()

    def check(self, plan: Plan, facts: Sequence[Fact]) -> None:
        """Check the plan that was made."""
        self.facts = facts
        self.step = {call.call_id: tokens for call, tokens in plan.calls}
        self.preempted = [fact for fact in facts if isinstance(fact, Preempted)]
        self.promoted = {f.call_id for f in facts if isinstance(f, Promoted)}
        self.reserved = {f.call_id for f in facts if isinstance(f, Reserved)}
        self.order = {i: self._order(i) for i in self.calls}
        self.ranked = sorted(self.calls, key=self.order.__getitem__)
        self.running = [
            i for i, c in self.calls.items() if c.state is CallState.RUNNING
        ]
        self.admitted = [
            i for i in self.running if self.seen[i].state is not CallState.RUNNING
        ]
        self.growing = [f for f in self.preempted if f.by not in self.admitted]
        self.is_forced = self._may_be_forced()
        if self.is_forced and not self._could_enter(*self.step):
            self.seen_kinds["forced progress"] += 1
        self._check_places()
        self._check_step()
        self._check_growth()
        self._check_preemptions()
        if not self.is_forced:
            assert set(self.admitted) <= set(self._reached()), "admitted out of turn"
        if not self.is_round:
            self._check_between_rounds()
        elif not (self.growing or self.is_forced):
            for call_id in self._reached():
                assert not self._fits(call_id), f"call {call_id} fits, it was passed by"

    # -- the picture -------------------------------------------------------------

    def _look(self, call: Call) -> Seen:
        return Seen(
            state=call.state,
            level=call.level,
            inner=call.inner,
            is_reserved=call.is_reserved,
            computed=call.computed,
            new=len(call.tokens) - call.computed,
            remaining=call.remaining,
            blocks=len(call.lease.blocks),
            start=self._start(call),
        )

    def _start(self, call: Call) -> Start:
        if call.is_resident:
            return Start(call.computed, ())
        if call.state is CallState.SWAPPED:
            nodes = call.lease.host_chain
            hits = tuple(_while_on_device(nodes))
            return Start(call.computed, hits)
        if not self.blocks.caches_prefixes:
            return Start(0, ())
        return longest_prefix(self.blocks, call.tokens[:-1])

    def _order(self, call_id: int) -> tuple[int, ...]:
        """Return the place in the total order of the pass, promotions included."""
        before, call = self.seen[call_id], self.calls[call_id]
        is_reserved = before.is_reserved or call_id in self.reserved
        return (call.level, not is_reserved, not before.is_resident, *call.inner)

    def _may_be_forced(self) -> bool:
        """Say whether the one call in the step may have been put there by S5."""
        return len(self.step) == 1 and self.running == self.admitted == list(self.step)

    def _could_enter(self, call_id: int) -> bool:
        """Say whether the pass came to a call, and there was a slot it could have."""
        running = [i for i, c in self.seen.items() if c.state is CallState.RUNNING]
        least = self.calls[call_id].level + self.limits.hysteresis_levels
        has_slot = len(running) < self.limits.slots or any(
            self.calls[i].level >= least for i in running
        )
        return has_slot and call_id in self._reached()

    def _reached(self) -> list[int]:
        """Return the candidates that the pass came to, admitted or missed, in order.

        Without those that were preempted: they are not tried again.
        """
        touched = {fact.call_id for fact in self.preempted}
        reached: list[int] = []
        misses, is_behind = 0, not self.is_round  # then only paused calls are tried
        for call_id in self.ranked:
            before, call = self.seen[call_id], self.calls[call_id]
            if before.state is CallState.RUNNING or call_id in touched:
                continue
            if is_behind and not before.is_resident:
                continue
            if misses == self.limits.lookahead:
                break
            reached.append(call_id)
            if call_id not in self.admitted:
                misses += 1
                is_behind |= call.is_reserved
        return reached

    # -- laws of every plan ------------------------------------------------------

    def _check_places(self) -> None:
        """Only a promotion changes level or place; a preempted call keeps both (Q2)."""
        for call_id, call in self.calls.items():
            before = self.seen[call_id]
            if call_id in self.promoted:
                assert self.is_round
                assert call.level == 0 < before.level
                assert before.state is not CallState.RUNNING
            else:
                assert (call.level, call.inner) == (before.level, before.inner)
        assert self.is_round or not self.reserved
        for call_id in self.reserved:
            assert not self.seen[call_id].is_resident

    def _check_step(self) -> None:
        """Decoders have their token, tokens are what is new, somebody advances (S5)."""
        assert self.step or not self.calls, "calls live and nothing is computed"
        assert list(self.step) == [i for i in self.ranked if i in self.step]
        assert set(self.step) <= set(self.running)
        for call_id in self.running:
            before = self.seen[call_id]
            if before.decodes:
                assert self.step.get(call_id) == 1, f"decoder {call_id} has no token"
            if call_id in self.admitted:
                assert call_id in self.step, f"call {call_id} was admitted for nothing"
            tokens, call = self.step.get(call_id, 0), self.calls[call_id]
            assert tokens <= len(call.tokens) - call.computed
        first = next((i for i in self.ranked if i in self.running), None)
        assert first is None or first in self.step, f"{first}, the first, has no token"

    def _check_growth(self) -> None:
        """Who cannot grow makes the last resident yield, or yields itself (S3)."""
        stay = [i for i, c in self.calls.items() if c.is_resident]
        for fact in self.growing:
            assert self.seen[fact.by].state is CallState.RUNNING
            assert fact.kind is not PreemptionKind.PAUSE
            self.seen_kinds["self-yield" if self._is_own(fact) else "growth yield"] += 1
            for call_id in stay:
                was_there = self.seen[call_id].is_resident
                is_later = self.order[call_id] > self.order[fact.call_id]
                assert not (was_there and is_later), f"{call_id} is behind {fact}"
            if not self._is_own(fact):
                assert self.order[fact.call_id] > self.order[fact.by]
                assert fact.by in self.step or self._yielded(fact.by)

    def _check_preemptions(self) -> None:
        """No preemption inside a level, nor one that does not pay (S2, S3)."""
        for fact in self.preempted:
            victim = self.seen[fact.call_id]
            if fact.kind is PreemptionKind.SWAP:
                assert victim.computed
                assert self.costs.is_swap_cheaper(victim.blocks, victim.computed)
            if fact in self.growing:
                continue
            better = self.calls[fact.by].level + self.limits.hysteresis_levels
            is_by_rule = self.calls[fact.call_id].level >= better and (
                fact.kind is PreemptionKind.PAUSE or self._pays(victim, fact.kind)
            )
            assert self.is_forced or is_by_rule, (
                f"{fact} although it is not much better, or does not pay"
            )
            assert self.is_forced or self.order[fact.call_id] > self.order[fact.by]
            if fact.kind is PreemptionKind.PAUSE:
                assert victim.state is CallState.RUNNING
                assert self._slots_taken_at(fact.by) == self.limits.slots

    def _slots_taken_at(self, call_id: int) -> int:
        """Return how many calls held slots when a call was tried."""
        running = {i for i, c in self.seen.items() if c.state is CallState.RUNNING}
        for fact in self.facts:
            if isinstance(fact, Preempted):
                if fact.by == call_id:
                    break
                running.discard(fact.call_id)
            elif isinstance(fact, Scheduled | Resumed):
                running.add(fact.call_id)
        return len(running)

    def _check_between_rounds(self) -> None:
        """Nobody is preempted for a candidate; only paused calls go on (S6)."""
        if self.is_forced:
            return
        assert self.preempted == self.growing
        for call_id in self.admitted:
            assert self.seen[call_id].state is CallState.PAUSED
            self.seen_kinds["reserve"] += 1

    def _is_own(self, fact: Preempted) -> bool:
        return fact.by == fact.call_id

    def _yielded(self, call_id: int) -> bool:
        return any(f.call_id == call_id and self._is_own(f) for f in self.growing)

    def _pays(self, call: Seen, kind: PreemptionKind) -> bool:
        if kind is PreemptionKind.SWAP:
            cost = 2 * self.costs.transfer_time_ns(call.blocks)
        else:
            cost = self.costs.recompute_ns(call.computed)
        return cost < call.remaining * (self.costs.step_ns + self.costs.decode_ns)

    # -- work conservation (S2, S4) ----------------------------------------------

    def _fits(self, call_id: int) -> bool:
        """Say whether a call could be admitted with what the plan left."""
        before, call = self.seen[call_id], self.calls[call_id]
        if call_id in self.admitted or self._start(call) != before.start:
            return False  # what it can start from, and so what it needs, has changed
        giver = None
        if len(self.running) >= self.limits.slots:
            behind = [i for i in self.running if self._may_take(call_id, i)]
            giver = max(behind, key=self.order.__getitem__, default=None)
            if giver is None:
                return False
        spare = int(giver is not None and self.seen[giver].decodes)
        new = len(call.tokens) - before.start.tokens
        tokens = min(new, self._budget_at(call_id) + spare)
        if tokens < 1:
            return False
        ahead = tokens
        if before.start.tokens and new == 1:
            ahead = min(self.limits.round_steps, before.remaining)
        need = self.blocks.blocks_for(before.start.tokens + ahead) - before.blocks
        return self._has_blocks(call_id, need, giver)

    def _budget_at(self, call_id: int) -> int:
        """Return the tokens that were left when the pass came to a call."""
        decoders = [i for i, before in self.seen.items() if before.decodes]
        gone = {f.call_id for f in self.preempted if self._is_ahead(f.by, call_id)}
        used = sum(
            tokens
            for i, tokens in self.step.items()
            if i not in decoders and self._is_ahead(i, call_id)
        )
        kept = sum(i not in gone for i in decoders)
        return self.limits.token_budget - kept - used

    def _has_blocks(self, call_id: int, need: int, giver: int | None) -> bool:
        """Say whether blocks are there, or come free from calls it may preempt."""
        shares = self.blocks.shares_blocks
        wanted = self.seen[call_id].start.hits if shares else ()
        cached = self.blocks.device.cached
        free = self.blocks.device.available - sum(node in cached for node in wanted)
        need -= len(wanted)
        room, gone = self.blocks.host.available, list[Call]()
        victims = [i for i in self.ranked[::-1] if self._may_take(call_id, i)]
        victims.sort(key=lambda i: i != giver)
        for i in victims:
            victim = self.calls[i]
            hosted = self.blocks.host_blocks_needed(victim)
            swaps = hosted <= room and self.costs.is_swap_cheaper(
                self.seen[i].blocks, victim.computed
            )
            kind = PreemptionKind.SWAP if swaps else PreemptionKind.DROP
            if free + _freed(gone, wanted, shares=shares) >= need:
                return True
            if self._pays(self.seen[i], kind):
                gone.append(victim)
                room -= hosted if swaps else 0
        return free + _freed(gone, wanted, shares=shares) >= need

    def _may_take(self, call_id: int, other_id: int) -> bool:
        """Say whether a call may preempt another that was there and still is."""
        other = self.calls[other_id]
        return (
            other_id not in self.admitted
            and other.is_resident
            and self._is_ahead(call_id, other_id)
            and other.level - self.calls[call_id].level >= self.limits.hysteresis_levels
        )

    def _is_ahead(self, call_id: int, other_id: int) -> bool:
        return self.order[call_id] < self.order[other_id]


def _freed(victims: Sequence[Call], wanted: Sequence[Node], *, shares: bool) -> int:
    """Return how many blocks come free when all of these calls lose theirs."""
    holders: Counter[Node] = Counter()
    private = 0
    for victim in victims:
        lease = victim.lease
        if shares:
            holders.update(lease.chain)
            private += len(lease.blocks) - len(lease.chain)
        else:
            private += len(lease.blocks)
    return private + sum(
        node.device is not None and node.device.references == count
        for node, count in holders.items()
        if node not in wanted
    )


def _while_on_device(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        if node.device is None or node.device.is_moving:
            return
        yield node


def indexed_prefixes(blocks: KVBlocks) -> Mapping[tuple[int, ...], Node]:
    """Return every node of the index by all the tokens up to its end."""
    found: dict[tuple[int, ...], Node] = {}
    pending: list[tuple[tuple[int, ...], Node]] = [((), blocks.tree.root)]
    while pending:
        tokens, node = pending.pop()
        for child in node.children.values():
            found[tokens + child.key] = child
            pending.append((tokens + child.key, child))
    return found


def longest_prefix(blocks: KVBlocks, tokens: Sequence[int]) -> Start:
    """Return the longest start of ``tokens`` that can be had: device, then host."""
    index, size = indexed_prefixes(blocks), blocks.block_tokens
    hits: list[Node] = []
    loads = 0
    for end in range(size, len(tokens) + 1, size):
        node = index.get(tuple(tokens[:end]))
        if node is None:
            break
        if node.device is not None and not node.device.is_moving and not loads:
            hits.append(node)
        elif node.host is not None and not node.host.is_moving:
            loads += 1
        else:
            break
    return Start((len(hits) + loads) * size, tuple(hits))
