"""Where a ladder's levels lie: a guess from the step time, then what is seen (Q4).

A ladder of the wrong scale is inert: all calls sit on one level, and every policy is
FCFS. So the first bound follows the 25th percentile of what calls are charged, the last
the 95th of what programs reach; the levels between are spaced by a ratio. Programs that
still run count as censored: the short ones end first, and without the others the last
bound would come out far too low.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

from autellix.core.records import Charge
from autellix.policies.ladder import Ladder
from autellix.policies.seconds import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.core.ranking import ChargeSample, Ranking

MIN_CALLS = 64
"""Ended calls from which a quarter is told apart: the 25th percentile has 16 below."""
MIN_PROGRAMS = 40
"""Ended programs from which the 95th percentile is not just the largest: two above."""

NOMINAL_BATCH = 16
"""As in ``CostModel``: among how many calls the work of a step is shared."""

_FIRST = Fraction(25, 100)
_LAST = Fraction(95, 100)
_LEAST_RATIO = 1.25  # where all sizes are equal the bounds must rise still
_LEAST_BOUND_NS = 1_000  # below a microsecond, bounds would round to one another

# Public traces (chat, tool use, tree search, coding): the 25th percentile of the output
# tokens of a call is 9 to 136, the 95th of a program 86 to 16,831; a token is a step.
_DEFAULT_LEVELS = 8
_DEFAULT_FIRST_STEPS = 32
_DEFAULT_RATIO = 2.5  # the last bound is 7,800 steps


def step_charge_s(step_ns: int, charge: Charge) -> float:
    """Return what a step that takes ``step_ns`` charges to one call, seconds."""
    sharers = 1 if charge is Charge.SERVICE else NOMINAL_BATCH
    return max(step_ns, _LEAST_BOUND_NS) / sharers / NS_PER_S


def default_ladder(step_ns: int, charge: Charge) -> Ladder:
    """Return a ladder for an engine of which only the step time is known."""
    first_s = _DEFAULT_FIRST_STEPS * step_charge_s(step_ns, charge)
    return Ladder.geometric(first_s, _DEFAULT_RATIO, _DEFAULT_LEVELS)


def fitted_to_programs(old: Ranking, seen: ChargeSample) -> Ladder | None:
    """Fit ``old`` to calls and programs; None to keep it.

    Kept until ``MIN_CALLS`` calls and ``MIN_PROGRAMS`` programs have ended, and
    while no bound would move by more than half of what it is.
    """
    if len(seen.calls_ns) < MIN_CALLS or len(seen.programs_ns) < MIN_PROGRAMS:
        return None
    last_ns = censored_quantile(seen.programs_ns, seen.running_programs_ns, _LAST)
    return _fitted(old, quantile(seen.calls_ns, _FIRST), last_ns)


def fitted_to_calls(old: Ranking, seen: ChargeSample) -> Ladder | None:
    """Fit ``old`` to calls alone, ``MIN_CALLS`` at least; None to keep it."""
    if len(seen.calls_ns) < MIN_CALLS:
        return None
    last_ns = quantile(seen.calls_ns, _LAST)
    return _fitted(old, quantile(seen.calls_ns, _FIRST), last_ns)


def _fitted(old: Ranking, first_ns: int, last_ns: int) -> Ladder | None:
    if not isinstance(old, Ladder):
        raise TypeError(f"only a Ladder can be fitted to what is seen: got {old!r}")
    first_ns = max(first_ns, _LEAST_BOUND_NS)
    ratio = (last_ns / first_ns) ** (1 / max(old.levels - 2, 1))
    new = Ladder.geometric(first_ns / NS_PER_S, max(ratio, _LEAST_RATIO), old.levels)
    pairs = zip(old.bounds_ns, new.bounds_ns, strict=True)
    has_moved = any(2 * abs(bound - was) > was for was, bound in pairs)
    return new if has_moved else None


def quantile(values: Sequence[int], share: Fraction) -> int:
    """Return the smallest value that at least ``share`` of the values do not exceed."""
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


def censored_quantile(
    ended: Sequence[int], running: Sequence[int], share: Fraction
) -> int:
    """Return a quantile of sizes of which some are only known to be larger than seen.

    The product-limit (Kaplan-Meier) estimate: at each size at which something ended,
    the share that goes on is multiplied by 1 - ended/at risk. Exact, so equal to
    ``quantile`` when nothing runs.

    Args:
        ended: Sizes of what has ended; at least one.
        running: What still runs has reached so far.
        share: Of sizes not to exceed the result, between 0 and 1.

    Returns:
        The smallest size at which at most ``1 - share`` go on; the largest seen where
        so few have ended that none is known.
    """
    ends, reached = sorted(ended), sorted(running)
    goes_on, of = 1, 1  # a fraction; to cancel it each time costs more than it saves
    for size, count in sorted(Counter(ends).items()):
        at_risk = len(ends) - bisect_left(ends, size)
        at_risk += len(reached) - bisect_left(reached, size)
        goes_on, of = goes_on * (at_risk - count), of * at_risk
        if goes_on * share.denominator <= of * (share.denominator - share.numerator):
            return size
    return max(ends[-1], *reached[-1:])
