"""Fits the terms of a cost model to medians of measured steps.

Relative errors are minimised, so that short steps count as much as long ones; points
that no linear model meets pull less the further off they are (Huber's weights). No term
is negative: of all subsets of terms whose own solution is not, the best is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import attrs

from autellix.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from autellix.core.cost_model import CostModel
    from autellix.evaluation.calibration.grid import Shape
    from autellix.evaluation.calibration.probe import Features

_ROUNDS: Final = 20
_HUBER: Final = 1.345
_MAD_TO_SIGMA: Final = 1.4826
_LEAST_SIGMA: Final = 1e-4


@attrs.frozen(kw_only=True)
class Point:
    """A shape, as it was measured.

    Attributes:
        shape: What was asked for.
        features: What was done.
        measured_ns: Median of the repeats.
        spread: Half of what lies between the quartiles of the repeats, as a share of
            the median.
        repeats: How many there were.
    """

    shape: Shape
    features: Features
    measured_ns: float
    spread: float
    repeats: int

    def error(self, costs: CostModel) -> float:
        """Return by which share of the measured time costs are off; above 0: slower."""
        return fitted_ns(self.features, costs) / self.measured_ns - 1.0


@attrs.frozen(kw_only=True)
class Calibrated:
    """A cost model, and how well it tells what was measured.

    Attributes:
        costs: The model.
        points: All of them, held-out ones too.
    """

    costs: CostModel
    points: Sequence[Point]

    def errors(self, *, held_out: bool) -> Mapping[str, float]:
        """Return sizes of relative errors, of points fitted to or held out."""
        sizes = sorted(
            abs(point.error(self.costs))
            for point in self.points
            if point.shape.is_held_out is held_out
        )
        if not sizes:
            return {}
        p95 = sizes[max(0, -(-95 * len(sizes) // 100) - 1)]
        return {"median": median(sizes), "p95": p95, "largest": sizes[-1]}

    @property
    def spread(self) -> float:
        """How much repeats of a point differ, median over the points."""
        return median(point.spread for point in self.points)


def fitted_ns(features: Features, costs: CostModel) -> int:
    """Return what steps take by a cost model, nanoseconds."""
    beyond_first = (features.steps - 1) * costs.step_ns
    return beyond_first + costs.forward_ns(
        prefill_tokens=features.prefill_tokens,
        decoders=features.decoders,
        context_tokens=features.context_tokens,
        pairs=features.pairs,
    )


def fitted(points: Sequence[Point], *, like: CostModel) -> CostModel:
    """Return the costs that tell the points best, but for those held out.

    Args:
        points: As they were measured.
        like: Costs that give what is not fitted: transfers, nominal batch.

    Raises:
        ConfigError: There is nothing to fit to.
        MissingExtra: numpy is not installed.
    """
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtra("fitting costs", module="numpy", extra="torch") from error
    used = [point for point in points if not point.shape.is_held_out]
    if not used or min(point.measured_ns for point in used) <= 0.0:
        raise ConfigError("the engine takes no time: there are no costs to fit")
    rows = np.array([[*point.features] for point in used], dtype=float)
    shares = rows / np.array([[point.measured_ns] for point in used])
    weights = np.ones(len(used))
    terms = _not_negative(shares, weights)
    for _ in range(_ROUNDS):
        off = np.abs(shares @ terms - 1.0)
        edge = _HUBER * max(_LEAST_SIGMA, _MAD_TO_SIGMA * float(np.median(off)))
        weights = np.sqrt(edge / np.maximum(off, edge))
        terms = _not_negative(shares, weights)
    step, prefill, decode, context, pair = (float(term) for term in terms)
    return attrs.evolve(
        like,
        step_ns=round(step),
        prefill_ns=round(prefill),
        decode_ns=round(decode),
        context_ns=round(context),
        pair_ps=round(pair * 1_000),
    )


def _not_negative(shares: Any, weights: Any) -> Any:
    """Return the terms, none negative, with which ``shares`` come nearest to 1."""
    import numpy as np

    rows, wanted = shares * weights[:, None], weights
    count = shares.shape[1]
    # Terms differ by orders of magnitude: the solver sees columns of one length.
    sizes = np.linalg.norm(rows, axis=0)
    sizes[sizes == 0.0] = 1.0
    best, least = np.zeros(count), float(wanted @ wanted)
    for size in range(1, count + 1):
        for picked in map(list, combinations(range(count), size)):
            some, *_ = np.linalg.lstsq(
                rows[:, picked] / sizes[picked], wanted, rcond=None
            )
            if some.min() < 0.0:
                continue
            off = rows[:, picked] / sizes[picked] @ some - wanted
            if float(off @ off) < least:
                best, least = np.zeros(count), float(off @ off)
                best[picked] = some / sizes[picked]
    return best
