"""How sure a ratio is: paired seeds, resampled.

Runs of one seed have the same programs and arrivals whatever the policy, so they are
compared pair by pair, and what is resampled is pairs. Programs of one run are not:
they wait for one another.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Final

import attrs

_SEED: Final = 0
_RESAMPLES: Final = 2_000
_TAIL: Final = 0.025


@attrs.frozen(kw_only=True)
class Interval:
    """A figure and between what it may lie.

    With few seeds the interval is too narrow: 3 resampled cover about 3 in 4 cases
    where they should cover 19 in 20, 5 cover about 9 in 10.

    Attributes:
        value: Best guess.
        low: Of the middle 95 % of resamples; None: there is but one seed.
        high: As ``low``.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def is_clear(self) -> bool | None:
        """Whether 1 is outside; None: nobody knows."""
        if self.low is None or self.high is None:
            return None
        return not self.low <= 1.0 <= self.high


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the geometric mean of ours by theirs, with its interval.

    Args:
        ours: A positive figure for each seed.
        theirs: The same for the baseline, seeds in the same order.
    """
    logs = [math.log(one / other) for one, other in zip(ours, theirs, strict=True)]

    def mean(picked: Sequence[int]) -> float:
        return math.exp(math.fsum(logs[index] for index in picked) / len(picked))

    return bootstrap(mean, len(logs))


def bootstrap(figure: Callable[[Sequence[int]], float], count: int) -> Interval:
    """Return a figure of all repeats, and the interval of what it is of resamples.

    Args:
        figure: Of repeats, given by their indices, any of them several times.
        count: How many repeats there are.
    """
    value = figure(range(count))
    if count == 1:
        return Interval(value=value)
    chance = random.Random(_SEED)
    drawn = sorted(
        figure(chance.choices(range(count), k=count)) for _ in range(_RESAMPLES)
    )
    edge = int(_TAIL * _RESAMPLES)
    return Interval(value=value, low=drawn[edge], high=drawn[-1 - edge])
