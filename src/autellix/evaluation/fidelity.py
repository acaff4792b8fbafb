"""Simulated runs against real ones: how far off they are, and who wins in both.

A pair is a real run and the simulation of the same point: the same programs, arrivals,
policy and limits, on a cost model fitted to the engine. Pairs differ by seed, and what
is resampled for intervals is pairs, so that an interval holds what repeats of the real
engine differ by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import combinations
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from autellix.evaluation.intervals import ratio
from autellix.evaluation.measures import measures
from autellix.evaluation.point import label
from autellix.evaluation.table import interval

if TYPE_CHECKING:
    from autellix.evaluation.intervals import Interval
    from autellix.evaluation.result import Result

Figure: TypeAlias = "Callable[[Result], float]"
Pair: TypeAlias = "tuple[Result, Result]"
"""A real run, and the simulation of it."""


def mean_s(result: Result) -> float:
    """Return the mean latency of programs, seconds."""
    return measures(result.rows).latency_mean_s


def p95_s(result: Result) -> float:
    """Return the latency that 95 % of programs do not exceed, seconds."""
    return measures(result.rows).latency_p95_s


def steps(result: Result) -> float:
    """Return the steps of all engines."""
    return float(result.counts["steps"])


FIGURES: Final[Mapping[str, Figure]] = {"mean latency": mean_s, "P95 latency": p95_s}
"""What simulations are to foretell."""


class Verdict(StrEnum):
    """What a simulation said of two policies, next to what was so."""

    SAME = "the same first"
    OTHER = "**the other first**"
    SIMULATED_TIE = "simulated, a tie"
    REAL_TIE = "real, a tie"


@attrs.frozen(kw_only=True)
class Foretold:
    """One figure of one policy.

    Attributes:
        policy: As tables name it.
        real: Mean over the real runs.
        simulated: Mean over the simulated ones.
        factor: Simulated by real, geometric mean over pairs.
    """

    policy: str
    real: float
    simulated: float
    factor: Interval


@attrs.frozen(kw_only=True)
class Ranked:
    """Two policies, by one figure.

    Attributes:
        first: A policy.
        second: Another one.
        real: The second's figure by the first's, over paired seeds, on real engines.
        simulated: The same, simulated.
    """

    first: str
    second: str
    real: Interval
    simulated: Interval

    @property
    def verdict(self) -> Verdict:
        """Whether both put the same first, where their intervals tell."""
        if not self.real.is_clear:
            return Verdict.REAL_TIE
        if not self.simulated.is_clear:
            return Verdict.SIMULATED_TIE
        same = (self.real.value > 1.0) == (self.simulated.value > 1.0)
        return Verdict.SAME if same else Verdict.OTHER


def by_policy(pairs: Sequence[Pair]) -> Mapping[str, Mapping[int, Pair]]:
    """Return pairs of one workload by policy and seed, in their order."""
    found: dict[str, dict[int, Pair]] = {}
    for pair in pairs:
        point = pair[0].point
        found.setdefault(label(point.policy), {})[point.seed] = pair
    return found


def foretold(pairs: Sequence[Pair], figure: Figure) -> list[Foretold]:
    """Return how well a figure of each policy was foretold; pairs of one workload."""
    found = []
    for policy, by_seed in by_policy(pairs).items():
        real = [figure(one) for one, _ in by_seed.values()]
        simulated = [figure(other) for _, other in by_seed.values()]
        found.append(
            Foretold(
                policy=policy,
                real=sum(real) / len(real),
                simulated=sum(simulated) / len(simulated),
                factor=ratio(simulated, real),
            )
        )
    return found


def ranked(pairs: Sequence[Pair], figure: Figure) -> list[Ranked]:
    """Return every two policies, over the seeds that both have; of one workload."""
    found = []
    for (first, ours), (second, theirs) in combinations(by_policy(pairs).items(), 2):
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            continue
        real, simulated = (
            ratio(
                [figure(theirs[seed][side]) for seed in seeds],
                [figure(ours[seed][side]) for seed in seeds],
            )
            for side in (0, 1)
        )
        found.append(Ranked(first=first, second=second, real=real, simulated=simulated))
    return found


def told(pairs: Sequence[Pair]) -> Iterator[str]:
    """Yield Markdown: for each workload how far off, and who wins."""
    workloads: dict[str, list[Pair]] = {}
    for pair in pairs:
        workloads.setdefault(pair[0].point.workload.name, []).append(pair)
    for name, own in workloads.items():
        seeds = {pair[0].point.seed for pair in own}
        yield from (f"### {name}: {len(seeds)} seeds", "")
        for figure_name, figure in FIGURES.items():
            yield from _errors(own, figure_name, figure)
        yield from _effort(own)
        for figure_name, figure in FIGURES.items():
            yield from _rankings(own, figure_name, figure)


def _errors(pairs: Sequence[Pair], name: str, figure: Figure) -> Iterator[str]:
    yield f"| policy | {name}, real, s | simulated, s | simulated by real |"
    yield "|---|---|---|---|"
    for one in foretold(pairs, figure):
        factor = interval(one.factor)
        yield f"| {one.policy} | {one.real:.3g} | {one.simulated:.3g} | {factor} |"
    yield ""


def _effort(pairs: Sequence[Pair]) -> Iterator[str]:
    yield "| policy | steps, real | simulated by real | CPU, s a run, real |"
    yield "|---|---|---|---|"
    efforts = foretold(pairs, steps)
    for one, by_seed in zip(efforts, by_policy(pairs).values(), strict=True):
        cpu_s = sum(real.cpu_s for real, _ in by_seed.values()) / len(by_seed)
        factor = interval(one.factor)
        yield f"| {one.policy} | {one.real:.0f} | {factor} | {cpu_s:.1f} |"
    yield ""


def _rankings(pairs: Sequence[Pair], name: str, figure: Figure) -> Iterator[str]:
    found = ranked(pairs, figure)
    if not found:
        return
    seen = Counter(one.verdict for one in found)
    apart = len(found) - seen[Verdict.REAL_TIE]
    yield (
        f"{name}: real runs tell {apart} of {len(found)} pairs of policies apart. Of "
        f"those, simulated ones put the same first in {seen[Verdict.SAME]}, the other "
        f"in {seen[Verdict.OTHER]}, and do not tell in {seen[Verdict.SIMULATED_TIE]}."
    )
    yield ""
    yield f"| {name} | real | simulated | |"
    yield "|---|---|---|---|"
    for one in found:
        real, simulated = interval(one.real), interval(one.simulated)
        pair = f"{one.second} by {one.first}"
        yield f"| {pair} | {real} | {simulated} | {one.verdict} |"
    yield ""
