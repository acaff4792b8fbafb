"""From a handful of sizes to a smooth distribution: who goes on past which age.

Few samples make a ragged estimate, each bump of its index is a wave of preemptions, and
of what lies beyond the oldest program they say nothing. So the estimate has two parts.

* A *baseline*: a mixture of Lomax distributions, from exponential to so heavy-tailed
  that the mean is infinite, of all scales, weighted by how well each explains what was
  seen. With nothing seen that is the widest guess there is, under which a program that
  has run long has long to run: least attained service. With programs that run and do
  not end, its scale moves past them, and none is told from the others: first come,
  first served. This is the cold start.
* A *correction*: by how much more, or fewer, programs end in a range of ages than the
  baseline expects. Ranges are as wide as they can be: two neighbours are told apart
  only where what was seen is ``e ** (EVIDENCE / 2)`` times likelier for it.

Ages are binned into cells that grow by ``GROWTH``, from the work of one step up.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from operator import mul
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.policies.gittins.sizes import ClassSizes, Sizes

GROWTH: Final = 1.25
"""Of each edge to the one before: about half the step between two levels."""
CELLS: Final = 84
"""Cells of ages: the last ends at 110 million steps' work."""
EVIDENCE: Final = 6.0
"""Twice the log-likelihood from which two ranges of ages are told apart."""

_SHAPES: Final = ((1.0, 8.0), (2.0, 4.0), (4.0, 2.0), (math.inf, 1.0))
"""Tails of the baseline, and how likely each is at first: heavy ones more."""
_SCALES: Final = tuple(32.0 * 4.0**power for power in range(10))  # in steps' work
_NEVER_RULED_OUT: Final = 1e-9  # so that the far tail is always a heavy one
_DOUBT: Final = 1.0  # ends as the baseline expects them, added to every range
_ALL: Final = 1.0 - 1e-6  # nowhere does the model say that nobody goes on


@attrs.frozen
class Cell:
    """What was seen of programs at ages from one edge to the next.

    Attributes:
        ends: How many ended there.
        at_risk: How many came so far; one last seen inside counts in part.
    """

    ends: float
    at_risk: float


def edges_s(first_s: float) -> list[float]:
    """Return where cells of ages begin and end, seconds, rising from 0."""
    return [first_s * edge for edge in _edges()]


def life_table(sizes: ClassSizes, edges: Sequence[float]) -> list[Cell]:
    """Return what was seen in each cell between two edges (Kaplan-Meier, in cells)."""
    ended = _by_cell(sizes.ended, edges)
    running = _by_cell(sizes.running, edges)
    at_risk, cells = 0.0, []
    for (low, high), here, left in zip(
        reversed(list(pairwise(edges))), reversed(ended), reversed(running), strict=True
    ):
        ends = sum(each.weight for each in here)
        part = sum(
            each.weight * min(1.0, (each.size_s - low) / (high - low)) for each in left
        )
        cells.append(Cell(ends, at_risk + ends + part))
        at_risk += ends + sum(each.weight for each in left)
    return cells[::-1]


def end_chances(cells: Sequence[Cell]) -> list[float]:
    """Return the chance of a program that reached a cell to end in it, for each."""
    expected = _baseline(cells)
    ranges = _told_apart(cells, expected)
    chances: list[float] = []
    for each in ranges:
        excess = (each.ends + _DOUBT) / (each.expected + _DOUBT)
        chances += [
            min(excess * chance, _ALL)
            for chance in expected[len(chances) : len(chances) + each.cells]
        ]
    return chances


# -- baseline ------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _edges() -> tuple[float, ...]:
    return (0.0, *(GROWTH**cell for cell in range(CELLS)))


@attrs.frozen
class _Lomax:
    """One component: logarithms by cell, and the share that reaches each edge."""

    chance: float
    log_end_odds: tuple[float, ...]
    log_goes_on: tuple[float, ...]
    survives: tuple[float, ...]

    @classmethod
    def of(cls, shape: float, scale: float, chance: float) -> _Lomax:
        logs = [_log_survival(shape, edge / scale) for edge in _edges()]
        steps = [after - before for before, after in pairwise(logs)]
        return cls(
            chance,
            tuple(math.log(-math.expm1(step)) - step for step in steps),
            tuple(steps),
            tuple(map(math.exp, logs)),
        )

    def log_likelihood(self, ends: Sequence[float], at_risk: Sequence[float]) -> float:
        told: float = sum(map(mul, ends, self.log_end_odds))
        told += sum(map(mul, at_risk, self.log_goes_on))
        return told


def _log_survival(shape: float, age: float) -> float:
    return -age if math.isinf(shape) else -shape * math.log1p(age / shape)


@lru_cache(maxsize=1)
def _components() -> tuple[_Lomax, ...]:
    return tuple(
        _Lomax.of(shape, scale, chance)
        for shape, chance in _SHAPES
        for scale in _SCALES
    )


def _baseline(cells: Sequence[Cell]) -> list[float]:
    """Return the chance to end in each cell under the mixture."""
    components = _components()
    ends = [cell.ends for cell in cells]
    at_risk = [cell.at_risk for cell in cells]
    logs = [
        math.log(each.chance) + each.log_likelihood(ends, at_risk)
        for each in components
    ]
    most = max(logs)
    survives = [0.0] * len(_edges())
    for each, log in zip(components, logs, strict=True):
        weight = max(math.exp(log - most), _NEVER_RULED_OUT)
        survives = [
            sum_ + weight * share
            for sum_, share in zip(survives, each.survives, strict=True)
        ]
    return [1.0 - after / before for before, after in pairwise(survives)]


# -- correction ----------------------------------------------------------------------


@attrs.frozen
class _Range:
    """Neighbouring cells in which programs end as often, against the baseline."""

    cells: int
    ends: float
    expected: float

    def __add__(self, other: _Range) -> _Range:
        return _Range(
            self.cells + other.cells,
            self.ends + other.ends,
            self.expected + other.expected,
        )

    @property
    def surprise(self) -> float:
        """Log-likelihood of the ends at their own rate, but for a constant."""
        return self.ends * math.log(self.ends / self.expected) if self.ends else 0.0


def _told_apart(cells: Sequence[Cell], expected: Sequence[float]) -> list[_Range]:
    """Merge neighbours from the bottom up until all that are left differ.

    What lies beyond the last end is a range of its own: there is nothing to say that
    programs go on ending as they did before.
    """
    ranges = [
        _Range(1, cell.ends, cell.at_risk * chance)
        for cell, chance in zip(cells, expected, strict=True)
    ]
    last = max((i for i, each in enumerate(ranges) if each.ends), default=-1)
    known, beyond = ranges[: last + 1], ranges[last + 1 :]
    while len(known) > 1:
        gaps = [_evidence(*pair) for pair in pairwise(known)]
        least = min(range(len(gaps)), key=gaps.__getitem__)
        if gaps[least] >= EVIDENCE:
            break
        known[least : least + 2] = [known[least] + known[least + 1]]
    tail = _Range(0, 0.0, 0.0)
    for each in beyond:
        tail += each
    return [*known, tail] if beyond else known


def _evidence(one: _Range, other: _Range) -> float:
    return 2.0 * (one.surprise + other.surprise - (one + other).surprise)


def _by_cell(sizes: Sequence[Sizes], edges: Sequence[float]) -> list[list[Sizes]]:
    """Sort sizes into cells; what is beyond the last edge has just reached it."""
    cells: list[list[Sizes]] = [[] for _ in edges[1:]]
    cell = 0
    for each in sizes:
        while cell < len(cells) - 1 and each.size_s > edges[cell + 1]:
            cell += 1
        cells[cell].append(each)
    return cells
