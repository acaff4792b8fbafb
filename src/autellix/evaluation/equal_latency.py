"""Throughput at equal latency: how much load policies carry before latency is as bad.

Between the loads of a sweep the logarithm of latency is taken to be linear in load. A
policy that stays below the latency at every load carries at least the largest one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

from autellix.evaluation.intervals import Interval, bootstrap

Curve: TypeAlias = Mapping[float, Sequence[float]]
"""Latency of each seed, by load; seeds in the same order at every load."""


@attrs.frozen(kw_only=True)
class Carried:
    """The load at which a policy reaches a latency, and that by the baseline's.

    Attributes:
        load: Multiple of saturation.
        is_at_least: Whether it is the largest load of the sweep, at which the policy
            does not reach the latency yet.
        gain: Load by the baseline's load, with its interval; None where the baseline
            does not reach the latency in the sweep, or exceeds it at every load.
    """

    load: float
    is_at_least: bool
    gain: Interval | None


def carried(ours: Curve, baseline: Curve, latency: float) -> Carried | None:
    """Return what load is carried at a latency; None: less than the sweep has.

    Args:
        ours: Of the policy.
        baseline: Of what it is compared with; the same loads and seeds.
        latency: In the unit of the curves.
    """
    seeds = range(len(next(iter(ours.values()))))
    load = _load_at(ours, latency, seeds)
    if load is None:
        return None
    last = max(ours)
    is_at_least = _mean(ours[last], seeds) <= latency
    base = _load_at(baseline, latency, seeds)
    base_is_open = _mean(baseline[max(baseline)], seeds) <= latency
    gain = None
    if base is not None and not base_is_open:
        gain = bootstrap(
            lambda picked: _gain(ours, baseline, latency, picked), len(seeds)
        )
    return Carried(load=load, is_at_least=is_at_least, gain=gain)


def _gain(ours: Curve, baseline: Curve, latency: float, picked: Sequence[int]) -> float:
    """Return the ratio of loads for some seeds; a load outside counts as the edge."""
    first = min(ours)
    load = _load_at(ours, latency, picked) or first
    return load / (_load_at(baseline, latency, picked) or first)


def _load_at(curve: Curve, latency: float, picked: Sequence[int]) -> float | None:
    """Return the first load at which the mean of some seeds reaches a latency.

    The largest, if none does; None if already the smallest exceeds it.
    """
    before: tuple[float, float] | None = None
    for load in sorted(curve):
        here = _mean(curve[load], picked)
        if here > latency:
            if before is None:
                return None
            load_before, there = before
            share = math.log(latency / there) / math.log(here / there)
            return load_before + share * (load - load_before)
        before = load, here
    return max(curve)


def _mean(values: Sequence[float], picked: Sequence[int]) -> float:
    return math.fsum(values[index] for index in picked) / len(picked)
