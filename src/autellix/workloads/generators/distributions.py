"""Distributions stated by their quantiles, and draws that go together in a program.

Lengths of real calls follow no formula: outputs end at a model's habits, prompts at a
paste. A table of measured quantiles keeps median and tail as they are, can be read, and
is all that a fit leaves behind.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from statistics import NormalDist
from typing import Any, Final, TypeVar

import attrs

T = TypeVar("T")

_NORMAL: Final = NormalDist()


@attrs.frozen
class Quantiles:
    """A distribution of positive numbers, log-linear between its quantiles.

    Attributes:
        points: (probability, value) from 0 to 1, both rising.
    """

    points: tuple[tuple[float, float], ...] = attrs.field()
    _starts: tuple[float, ...] = attrs.field(init=False, eq=False, repr=False)

    @points.validator
    def _check(self, _: object, points: Sequence[tuple[float, float]]) -> None:
        probabilities, values = zip(*points, strict=True)
        is_whole = probabilities[0] == 0.0 and probabilities[-1] == 1.0
        if not is_whole or values[0] <= 0.0 or sorted(points) != list(points):
            raise ValueError(f"quantiles rise from 0 to 1, above 0: {points!r}")
        if sorted(values) != list(values):
            raise ValueError(f"quantiles do not fall: {points!r}")

    def __attrs_post_init__(self) -> None:
        """Lay out where the pieces begin."""
        starts = tuple(probability for probability, _ in self.points)
        object.__setattr__(self, "_starts", starts)

    def at(self, probability: float) -> float:
        """Return the value below which that share of draws lies."""
        piece = min(bisect_right(self._starts, probability), len(self.points) - 1)
        start, low = self.points[piece - 1]
        end, high = self.points[piece]
        share = (probability - start) / (end - start)
        return low * math.exp(share * math.log(high / low))


def shares(counts: Sequence[int], *tail: tuple[float, float]) -> Quantiles:
    """Return the distribution that rounds to 1, 2, 3, … as often as counted.

    Args:
        counts: How often each number was seen, from 1 on.
        *tail: Quantiles after them; with a tail, counts are out of 10,000 in all.
    """
    total = 10_000 if tail else sum(counts)
    ends = [count / total for count in accumulate(counts)]
    points = [(0.0, 0.5001), *((end, n + 1.4999) for n, end in enumerate(ends))]
    return Quantiles((*points, *tail))


@attrs.define(eq=False)
class Draws:
    """The random choices of one program; the same for the same name.

    Attributes:
        name: Seed and program.
    """

    name: str
    _chance: random.Random = attrs.field(init=False)
    _leanings: dict[Quantiles, float] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        """Begin."""
        self._chance = random.Random(self.name)

    def number(self, of: Quantiles, *, alike: float = 0.0) -> int:
        """Draw a whole number, at least 1.

        Args:
            of: Distribution over all programs.
            alike: Correlation between draws of one program: who writes long messages
                writes them all the time. The distribution stays the same.
        """
        return max(1, round(self.amount(of, alike=alike)))

    def amount(self, of: Quantiles, *, alike: float = 0.0) -> float:
        """Draw a number, as ``number`` does."""
        if of not in self._leanings:
            self._leanings[of] = self._chance.gauss()
        own = math.sqrt(1.0 - alike) * self._chance.gauss()
        leaning = math.sqrt(alike) * self._leanings[of]
        return of.at(_NORMAL.cdf(leaning + own))

    def one(self, of: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """Draw one of several, each as likely or by weights."""
        return self._chance.choices(of, weights)[0]

    def is_so(self, probability: float) -> bool:
        """Draw yes or no."""
        return self._chance.uniform(0.0, 1.0) < probability


def fields_of(program_class: str, number: int, *, fitted_to: str) -> dict[str, Any]:
    """Return what a generated program says of itself."""
    return {
        "program_id": f"{program_class}-{number}",
        "program_class": program_class,
        "source": f"generated, fitted to {fitted_to}",
        "tokenizer": "cl100k_base",
        "synthetic": ("structure", "prompt_tokens", "output_tokens", "prefix"),
    }
