"""Whom to preempt in vLLM for a better waiting call (rule S2), and when it pays.

Losing a slot in vLLM is losing the blocks as well. What of them is still in the prefix
cache when the call comes back is found again, the rest is computed again, and while
that happens everybody in the batch waits. So here a slot too is given only if it pays.
Nothing is changed here: this only decides, on what it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from autellix.core.cost_model import CostModel

if TYPE_CHECKING:
    from autellix.core.call import Call

DEFAULT_COSTS: Final = CostModel(
    step_ns=20_000_000, prefill_ns=100_000, decode_ns=100_000
)
"""Of an engine that nobody has measured: a small model on a small machine."""


@attrs.frozen(kw_only=True)
class Room:
    """What vLLM has left before a step, for calls that do not run yet.

    Attributes:
        slots: Free slots.
        tokens: Of the token budget, once running calls have got theirs.
        blocks: Free blocks, those included that hold cached prefixes, once running
            calls have grown.
        block_tokens: Tokens a block holds.
        caches_prefixes: Whether blocks that were given back can be found again.
        shared: Returns how many blocks of a waiting call's prefix running calls hold
            already. Asked only of calls that would not fit otherwise.
    """

    slots: int
    tokens: int
    blocks: int
    block_tokens: int
    caches_prefixes: bool
    shared: Callable[[Call], int]

    def blocks_for(self, tokens: int) -> int:
        """Return how many blocks hold ``tokens``."""
        return -(-tokens // self.block_tokens)

    def beside_shared(self, call: Call, blocks: int) -> int | None:
        """Return what a call takes as a whole beside the blocks that it shares.

        That is enough too if it takes the slot of whoever holds those: then they are
        free.

        Args:
            call: One that waits.
            blocks: How many are left for it.

        Returns:
            Blocks; None if it shares none, or does not fit so.
        """
        shared = self.shared(call)
        whole = self.blocks_for(len(call.tokens)) - shared
        return whole if shared and whole <= blocks else None


@attrs.frozen(kw_only=True)
class Preemption:
    """Calls that lose their slots and blocks to another."""

    by: Call
    victims: Sequence[Call]


@attrs.define(eq=False)
class Pace:
    """How long calls run and how often a slot becomes free, learned as they end.

    Attributes:
        run_ns: Mean service of a call that entered on a level, by level.
        gap_ns: Mean time between two calls leaving a full batch.
    """

    run_ns: dict[int, float] = attrs.field(factory=dict)
    gap_ns: float | None = None
    _left_ns: int | None = None

    def ended(self, entered_level: int, service_ns: int) -> None:
        """Learn from a call that ended by itself."""
        was = self.run_ns.get(entered_level)
        self.run_ns[entered_level] = _moved(was, service_ns)

    def left(self, now_ns: int, *, was_full: bool) -> None:
        """Learn from a slot that a call left by itself."""
        if was_full and self._left_ns is not None:
            self.gap_ns = _moved(self.gap_ns, now_ns - self._left_ns)
        self._left_ns = now_ns if was_full else None


_WEIGHT = 0.1
"""Of one more observation: the last two dozen make nine tenths of a mean."""


def _moved(mean: float | None, value: float) -> float:
    return value if mean is None else mean + _WEIGHT * (value - mean)


@attrs.frozen(kw_only=True)
class PreemptionRule:
    """Decides who yields.

    Attributes:
        costs: What steps cost on this engine.
        hysteresis_levels: How much worse a call must be to be preempted.
        lookahead: Most waiting calls a round looks at.
    """

    costs: CostModel
    hysteresis_levels: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    lookahead: int = attrs.field(default=16, validator=attrs.validators.ge(1))

    def decide(
        self,
        waiting: Iterable[Call],
        running: Sequence[Call],
        room: Room,
        pace: Pace,
    ) -> list[Preemption]:
        """Return who is to be preempted, for whom; nobody for a call that won't fit.

        Args:
            waiting: Calls that could come in now, best first.
            running: Calls that hold slots, best first.
            room: What is left for those that wait.
            pace: What was learned of this engine's load.
        """
        decided: list[Preemption] = []
        slots, tokens, blocks = room.slots, room.tokens, room.blocks
        left = list(running)
        for tried, call in enumerate(waiting):
            if tried >= self.lookahead or tokens <= 0 or not left:
                break
            needed = room.blocks_for(min(len(call.tokens), tokens))
            whole: int | None = None
            if needed > blocks and not decided:
                whole = room.beside_shared(call, blocks)
            lacking = needed - blocks if whole is None else 0
            victims = self._victims(call, left, max(0, 1 - slots), lacking, room, pace)
            if victims is None:
                break  # vLLM admits in order: who comes after it does not pass it
            if victims:
                decided.append(Preemption(by=call, victims=victims))
                left = [other for other in left if other not in victims]
            slots += len(victims) - 1
            if whole is None:
                freed = sum(room.blocks_for(victim.computed) for victim in victims)
                blocks += freed - needed
            else:  # whoever yielded to it may be who held what it shares
                blocks -= whole
            tokens -= min(len(call.tokens), tokens)
        return decided

    def _victims(
        self,
        call: Call,
        running: Sequence[Call],
        lacking_slots: int,
        lacking_blocks: int,
        room: Room,
        pace: Pace,
    ) -> list[Call] | None:
        """Return whom to preempt, worst first; None if that would not do."""
        victims: list[Call] = []
        if lacking_slots <= 0 and lacking_blocks <= 0:
            return victims
        for victim in reversed(running):
            if victim.level - call.level < self.hysteresis_levels:
                break
            if not self.pays(victim, call, room, pace):
                continue
            victims.append(victim)
            lacking_slots -= 1
            lacking_blocks -= room.blocks_for(victim.computed)
            if lacking_slots <= 0 and lacking_blocks <= 0:
                return victims
        return None

    def pays(self, victim: Call, by: Call, room: Room, pace: Pace) -> bool:
        """Say whether preempting costs less than letting the victim end.

        Two calls change places on one slot. That is a gain if the better one is done,
        and what the victim lost is computed again, before a slot would have become
        free anyway; where that is known, it decides. Else the bound is what is left
        of the victim, as on every engine.
        """
        again_ns = self.again_ns(victim, by, room)
        step_ns = self.costs.single_step_ns()
        if again_ns >= victim.remaining * step_ns:
            return False
        run_ns = pace.run_ns.get(by.level)
        if run_ns is None or pace.gap_ns is None:
            return True
        return min(run_ns, by.remaining * step_ns) + again_ns < pace.gap_ns

    def again_ns(self, victim: Call, by: Call, room: Room) -> int:
        """Return the time to compute again what a victim is likely to lose.

        Blocks given back are overwritten last of all free ones. As long as there are
        more of those than ``by`` can use up, only the last, partial block is lost.
        """
        computed = victim.computed
        lost = computed
        if room.caches_prefixes and room.blocks >= room.blocks_for(by.limit_tokens):
            lost = min(computed, computed % room.block_tokens + 1)
        return self.costs.prefill_work_ns(computed - lost, lost)
