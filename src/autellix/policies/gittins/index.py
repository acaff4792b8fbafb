"""The Gittins index over age: the best return on further work that an age promises.

For a program of age a it is the largest quotient, over all further ages b, of what is
gained by an end in (a, b] to the work that until then is to be expected. Gained is 1
for each program (mean latency), or 1/size (mean latency per token, where short programs
weigh more). Serving the highest index first is optimal on one server for sizes that are
known in distribution only (Gittins 1989; Aalto, Ayesta and Righter 2009, for mean
latency with preemption).

Over ages, expected work and gain draw a curve; the index of an age is the steepest
slope from its point to any later one, so it is the first edge of the upper hull of the
rest of the curve.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Objective(StrEnum):
    """What is to be small."""

    LATENCY = "latency"
    """Mean time from a program's start to its end."""
    LATENCY_PER_TOKEN = "s/token"  # noqa: S105 - not a password
    """Mean of that divided by the program's size: short programs weigh more."""

    def gain(self, size_s: float) -> float:
        """Return what the end of a program of that size is worth."""
        return 1.0 if self is Objective.LATENCY else 1.0 / size_s

    def rank_s(self, index: float) -> float:
        """Return an index as the size for certain that a new program of it would have.

        So ranks of both objectives are in seconds, and grow in proportion to sizes.
        """
        if index <= 0.0:
            return math.inf
        return 1.0 / index if self is Objective.LATENCY else 1.0 / math.sqrt(index)


def steepest_slopes(work: Sequence[float], gain: Sequence[float]) -> list[float]:
    """Return the steepest slope from each point of a curve to any later point.

    Exact, and linear in the number of points.

    Args:
        work: Expected work until each age, rising strictly.
        gain: Expected gain until each age, not falling; as many.

    Returns:
        One slope for each point but the last.
    """
    hull: list[int] = []  # of the points to the right; the nearest is on top
    slopes = []
    for here in range(len(work) - 1, -1, -1):

        def slope(there: int, here: int = here) -> float:
            return (gain[there] - gain[here]) / (work[there] - work[here])

        while len(hull) > 1 and slope(hull[-1]) <= slope(hull[-2]):
            hull.pop()
        if hull:
            slopes.append(slope(hull[-1]))
        hull.append(here)
    return slopes[::-1]


def discrete_index(
    sizes_s: Sequence[float],
    chances: Sequence[float],
    objective: Objective = Objective.LATENCY,
) -> list[float]:
    """Return the index at age 0 and at each size but the last, for known sizes.

    Args:
        sizes_s: All sizes there are, seconds, rising from above 0.
        chances: Of each; they sum to 1.
        objective: What is to be small.
    """
    work, gain, survives, age_s = [0.0], [0.0], 1.0, 0.0
    for size_s, chance in zip(sizes_s, chances, strict=True):
        work.append(work[-1] + survives * (size_s - age_s))
        gain.append(gain[-1] + chance * objective.gain(size_s))
        survives -= chance
        age_s = size_s
    return steepest_slopes(work, gain)
