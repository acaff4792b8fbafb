"""Rankings that look the age up: what oracles know and what can be learned (rule Q1).

Unlike on a ladder, a level may get better as a call gets older.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cached_property
from typing import TYPE_CHECKING

import attrs

from autellix.core.ranking import Placement
from autellix.policies.seconds import all_to_ns, is_rising, to_ns, to_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from autellix.core.records import Job

_positive = attrs.validators.gt(0.0)


def _to_levels(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class AgeRow:
    """Level as a step function of age.

    Attributes:
        starts_s: Ages at which a level begins to hold, seconds, rising from 0. The last
            holds for ever.
        levels: The level from each of them on, 0 first; it may fall or rise. Where
            two neighbours are equal a call only goes to the back of its level.
    """

    starts_s: tuple[float, ...] = attrs.field(converter=to_seconds)
    levels: tuple[int, ...] = attrs.field(converter=_to_levels)

    @starts_s.validator
    def _check_starts(self, _: object, value: tuple[float, ...]) -> None:
        if value[:1] != (0.0,) or not is_rising(all_to_ns(value)):
            raise ValueError(f"starts_s must begin with 0 and rise, by 1 ns: {value!r}")

    @levels.validator
    def _check_levels(self, _: object, value: tuple[int, ...]) -> None:
        if len(value) != len(self.starts_s):
            raise ValueError(
                f"levels must be one for each of starts_s: got {value!r} "
                f"for starts_s {self.starts_s!r}"
            )
        if min(value) < 0:
            raise ValueError(f"levels must not be negative: {value!r}")

    @cached_property
    def starts_ns(self) -> tuple[int, ...]:
        """Ages at which a level begins to hold, nanoseconds."""
        return all_to_ns(self.starts_s)

    def place(self, age_ns: int) -> Placement:
        """Return the level that holds at an age, and the age at which the next does."""
        after = bisect_right(self.starts_ns, age_ns)
        expires = self.starts_ns[after] if after < len(self.starts_ns) else None
        return Placement(self.levels[after - 1], expires)


def _to_rows(rows: Mapping[str, AgeRow]) -> dict[str, AgeRow]:
    return dict(rows)


@attrs.frozen(kw_only=True)
class Table:
    """A row of levels by age for each class of program.

    Attributes:
        rows: By class of program, the name given to ``runtime.program(name)``.
        default: For every other class.
        first_quantum_s: Floor of T in the starvation rule (Q3), seconds.
    """

    rows: Mapping[str, AgeRow] = attrs.field(
        factory=dict, converter=_to_rows, hash=False
    )
    default: AgeRow
    first_quantum_s: float = attrs.field(default=1.0, validator=_positive)

    @cached_property
    def levels(self) -> int:
        """Number of levels K: one more than the last level of any row."""
        return 1 + max(
            level for row in (self.default, *self.rows.values()) for level in row.levels
        )

    @cached_property
    def first_quantum_ns(self) -> int:
        """Floor of T in the starvation rule, nanoseconds."""
        return to_ns(self.first_quantum_s)

    def enter(self, job: Job, age_ns: int) -> Placement:
        """Look the age up in the row of the program's class."""
        return self.rows.get(job.program_class, self.default).place(age_ns)

    def expire(self, job: Job, age_ns: int, level: int) -> Placement:
        """Look the age up, whatever the level was."""
        return self.enter(job, age_ns)

    def review(self, job: Job, age_ns: int, level: int) -> Placement:
        """Place a waiting call as if it came now."""
        return self.enter(job, age_ns)

    def promote(self, job: Job, age_ns: int) -> Placement:
        """Place on level 0 until the call ends."""
        return Placement(0, None)


@attrs.frozen(kw_only=True)
class RemainingTable:
    """Levels by what is left of a program, for oracles that know its size.

    A call's level gets better as it runs: less is left.

    Attributes:
        bounds_s: Most that may be left on levels 0 to K-2, seconds, rising.
        first_quantum_s: As in ``Table``.
    """

    bounds_s: tuple[float, ...] = attrs.field(converter=to_seconds)
    first_quantum_s: float = attrs.field(default=1.0, validator=_positive)

    @bounds_s.validator
    def _check_bounds(self, _: object, value: tuple[float, ...]) -> None:
        if not is_rising((0, *all_to_ns(value))):
            raise ValueError(
                f"bounds_s must rise from above 0, by 1 ns each: {value!r}"
            )

    @cached_property
    def bounds_ns(self) -> tuple[int, ...]:
        """Most that may be left on levels 0 to K-2, nanoseconds."""
        return all_to_ns(self.bounds_s)

    @property
    def levels(self) -> int:
        """Number of levels K."""
        return len(self.bounds_s) + 1

    @cached_property
    def first_quantum_ns(self) -> int:
        """Floor of T in the starvation rule, nanoseconds."""
        return to_ns(self.first_quantum_s)

    def enter(self, job: Job, age_ns: int) -> Placement:
        """Place by size less age, until so little is left that a better level holds.

        A job without size is a ``ValueError``.
        """
        size_ns = known_size_ns(job.program_class, job.size_ns)
        level = bisect_left(self.bounds_ns, size_ns - age_ns)
        return Placement(level, size_ns - self.bounds_ns[level - 1] if level else None)

    def expire(self, job: Job, age_ns: int, level: int) -> Placement:
        """Place by size less age, whatever the level was."""
        return self.enter(job, age_ns)

    def review(self, job: Job, age_ns: int, level: int) -> Placement:
        """Place a waiting call as if it came now."""
        return self.enter(job, age_ns)

    def promote(self, job: Job, age_ns: int) -> Placement:
        """Place on level 0 until the call ends."""
        return Placement(0, None)


def known_size_ns(program_class: str, size_ns: int | None) -> int:
    """Return the size of a program.

    Raises:
        ValueError: It is not known.
    """
    if size_ns is None:
        raise ValueError(
            f"a program of class {program_class!r} has no size: this policy ranks by "
            "what is left, so programs must be opened with their total charge"
        )
    return size_ns
