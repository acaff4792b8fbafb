"""The paper's ranking: levels with bounds and quanta, only ever downwards (rule Q1)."""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, Self

import attrs

from autellix.core.ranking import Placement
from autellix.policies.seconds import all_to_ns, is_rising, to_ns, to_seconds
from autellix.policies.single_level import FOREVER_NS

if TYPE_CHECKING:
    from autellix.core.records import Job


@attrs.frozen(kw_only=True)
class Ladder:
    """K levels; level i is for ages from its bound up to, not including, the next.

    A call enters on the level that holds what it inherited, and may use that level's
    full quantum there; then it goes one level down, from the last to the last again.

    Attributes:
        bounds_s: Where levels 1 to K-1 begin, seconds, rising; level 0 begins at 0.
        quanta_s: Charge that a call may use on each of the K levels, seconds. The last
            may be ``math.inf``: then calls on it are not sent to the back.

    Source:
        arXiv 2502.13965, section 4.2.2 and algorithm 1. Where the algorithm is open we
        take half-open ranges and a fresh quantum on the last level. A promotion lasts
        until the call ends, there for a quantum (``core/starvation.py`` says why).
    """

    bounds_s: tuple[float, ...] = attrs.field(converter=to_seconds)
    quanta_s: tuple[float, ...] = attrs.field(converter=to_seconds)

    @bounds_s.validator
    def _check_bounds(self, _: object, value: tuple[float, ...]) -> None:
        if not all(map(math.isfinite, value)):
            raise ValueError(f"bounds_s must be finite: {value!r}")
        if not is_rising((0, *all_to_ns(value))):
            raise ValueError(
                f"bounds_s must rise from above 0, by 1 ns each: {value!r}"
            )

    @quanta_s.validator
    def _check_quanta(self, _: object, value: tuple[float, ...]) -> None:
        if len(value) != len(self.bounds_s) + 1:
            raise ValueError(
                f"quanta_s must be one a level, one more than bounds_s: got {value!r} "
                f"for bounds_s {self.bounds_s!r}"
            )
        if not all(map(math.isfinite, value[:-1])) or math.isnan(value[-1]):
            raise ValueError(f"quanta_s must be finite, but for the last: {value!r}")
        if min(value) <= 0 or 0 in all_to_ns(filter(math.isfinite, value)):
            raise ValueError(f"quanta_s must be at least 1 ns each: {value!r}")

    @classmethod
    def geometric(cls, first_s: float, ratio: float, levels: int) -> Self:
        """Return a ladder whose bounds grow by a ratio and whose quanta are its ranges.

        A call that enters at the start of a level then leaves it at its end; the last
        level's quantum is what the next range would be.

        Args:
            first_s: Where level 1 begins, seconds.
            ratio: Of each bound to the one before; more than 1.
            levels: Number of levels, at least one.

        Raises:
            ValueError: An argument is out of range.
        """
        if levels < 1:
            raise ValueError(f"levels must be at least 1: {levels!r}")
        if not 1.0 < ratio < math.inf:
            raise ValueError(f"ratio must be more than 1 and finite: {ratio!r}")
        if not 0.0 < first_s < math.inf:
            raise ValueError(f"first_s must be positive and finite: {first_s!r}")
        ends = [first_s * ratio**level for level in range(levels)]
        ranges = [end - start for start, end in zip([0.0, *ends], ends, strict=False)]
        return cls(bounds_s=ends[:-1], quanta_s=ranges)

    @cached_property
    def bounds_ns(self) -> tuple[int, ...]:
        """Where levels 1 to K-1 begin, nanoseconds."""
        return all_to_ns(self.bounds_s)

    @cached_property
    def quanta_ns(self) -> tuple[int | None, ...]:
        """Quantum of each level, nanoseconds; None: without end."""
        return tuple(to_ns(q) if math.isfinite(q) else None for q in self.quanta_s)

    @property
    def levels(self) -> int:
        """Number of levels K."""
        return len(self.quanta_s)

    @property
    def first_quantum_ns(self) -> int:
        """Quantum of level 0, nanoseconds."""
        first = self.quanta_ns[0]
        return FOREVER_NS if first is None else first

    def enter(self, job: Job, age_ns: int) -> Placement:
        """Place on the level whose range holds ``age_ns``, for its full quantum."""
        return self._place(bisect_right(self.bounds_ns, age_ns), age_ns)

    def expire(self, job: Job, age_ns: int, level: int) -> Placement:
        """Place on the next level down, from the last on the last again."""
        return self._place(min(level + 1, self.levels - 1), age_ns)

    def review(self, job: Job, age_ns: int, level: int) -> Placement | None:
        """Leave a waiting call where it is: its quantum was given by the other ladder.

        Level 0 is for those that never ran on every ladder, so few would move.
        """
        return None

    def promote(self, job: Job, age_ns: int) -> Placement:
        """Place on level 0 until the call ends."""
        return Placement(0, None)

    def _place(self, level: int, age_ns: int) -> Placement:
        quantum_ns = self.quanta_ns[level]
        return Placement(level, None if quantum_ns is None else age_ns + quantum_ns)


optional_ladder = attrs.validators.optional(attrs.validators.instance_of(Ladder))
