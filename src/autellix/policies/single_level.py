"""The ranking of FCFS: one level without end, on which nothing expires."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from autellix.core.ranking import Placement

if TYPE_CHECKING:
    from autellix.core.records import Job

FOREVER_NS = 2**62
"""146 years: stands for a quantum without end where a number is asked for."""

_PLACED = Placement(0, None)


@attrs.frozen
class SingleLevel:
    """All calls on level 0, for ever; who goes first is left to the inner order."""

    @property
    def levels(self) -> int:
        """One."""
        return 1

    @property
    def first_quantum_ns(self) -> int:
        """Without end: nobody starves by rule Q3 where there is no level above."""
        return FOREVER_NS

    def enter(self, job: Job, age_ns: int) -> Placement:
        """Place on the level."""
        return _PLACED

    def expire(self, job: Job, age_ns: int, level: int) -> Placement:
        """Place on the level; never asked, as no placement expires."""
        return _PLACED

    def review(self, job: Job, age_ns: int, level: int) -> None:
        """Leave a waiting call where it is."""

    def promote(self, job: Job, age_ns: int) -> Placement:
        """Place on the level."""
        return _PLACED
