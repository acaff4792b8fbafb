"""Figures beside their bounds, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from autellix.evaluation import Result
from autellix.evaluation.intervals import Interval, ratio
from autellix.evaluation.measures import Measures, measures
from autellix.evaluation.result import codes_of, version_of
from autellix.evaluation.table import interval
from benchmarks.gittins.plan import (
    BASELINES,
    CHANGED,
    COLD,
    MIXED,
    ORACLE,
    PER_TOKEN,
    REACT,
    WARM,
    Plan,
    Run,
)

AFTER: Final = 200
"""Programs of a new kind after which it is to be known; half of a shorter run."""

Figure = Callable[[Result], float]


class Bound(NamedTuple):
    """What is to be reached.

    ``of`` is a policy, ``against`` another or, where it is None, the best of five.
    """

    title: str
    most: float
    of: str
    against: str | None
    figure: Figure
    only: str = ""


def _measured(take: Callable[[Measures], float]) -> Figure:
    return lambda result: take(measures(result.rows))


def _late_latency_s(result: Result) -> float:
    rows = result.rows
    return fmean(row.latency_s for row in rows[min(AFTER, len(rows) // 2) :])


latency_s: Final = _measured(lambda m: m.latency_mean_s)
_token_s: Final = _measured(lambda m: m.token_mean_s)
_token_p99_s: Final = _measured(lambda m: m.token_p99_s)

BOUNDS: Final = (
    Bound("warm, against the best of five", 1.05, WARM, None, latency_s),
    Bound("cold, against the best of five", 1.25, COLD, None, latency_s),
    Bound("cold, against PLAS", 0.7, COLD, "plas", latency_s, MIXED),
    Bound(
        "s/token, its own objective, cold, against PLAS",
        0.6,
        PER_TOKEN,
        "plas",
        _token_s,
        MIXED,
    ),
    Bound("P99 s/token, cold, against FCFS", 1.0, COLD, "fcfs", _token_p99_s),
    Bound("P99 s/token, warm, against FCFS", 1.0, WARM, "fcfs", _token_p99_s),
    Bound(
        f"chat, then ReAct: after {AFTER} programs, against a model of ReAct",
        1.1,
        CHANGED,
        WARM,
        _late_latency_s,
        REACT,
    ),
)
_NOTE: Final = (
    "A policy's figure by another's: geometric mean over paired seeds, in brackets the "
    "middle 95 % of resampled seeds. The best of five, of FCFS, ProgramFCFS, MLFQ, "
    "PLAS and ATLAS, is the one with the least mean latency over these seeds. Figures "
    "are held against their bound as they are shown. On chains PLAS stands for ATLAS, "
    "which decides alike; Mixed under one name has the baselines of Mixed."
)
MOST_AGAINST_ORACLE: Final = 1.5
"""Of the mean over workloads of mean latency against SRPT."""


class Figures:
    """What there is of results, to be asked.

    Args:
        results: By run.
    """

    def __init__(self, results: Mapping[Run, Result]) -> None:
        self._by_seed: dict[tuple[str, float, str], dict[int, Result]] = {}
        for run, result in results.items():
            key = (run.workload, run.load, run.policy)
            self._by_seed.setdefault(key, {})[run.seed] = result

    def of(self, workload: str, load: float, policy: str) -> Mapping[int, Result]:
        """Return the results of a policy by seed."""
        return self._by_seed.get((workload, load, policy), {})

    def mean(
        self, workload: str, load: float, policy: str, figure: Figure
    ) -> float | None:
        """Return the mean over the seeds; None without any."""
        found = self.of(workload, load, policy)
        return fmean(map(figure, found.values())) if found else None

    def best(self, workload: str, load: float) -> str | None:
        """Return which of the five has the least mean latency; None: not yet known.

        Over the seeds that all of them have: one that has only had an easy one is not
        the best.
        """
        found = {policy: self.of(workload, load, policy) for policy in BASELINES}
        seeds = set.intersection(*(set(results) for results in found.values()))
        if not seeds:
            return None
        means = {
            policy: fmean(latency_s(results[seed]) for seed in seeds)
            for policy, results in found.items()
        }
        return min(means, key=means.__getitem__)

    def against(
        self, workload: str, load: float, of: str, other: str, figure: Figure
    ) -> Interval | None:
        """Return a policy's figure by another's, over the seeds that both have."""
        ours, theirs = self.of(workload, load, of), self.of(workload, load, other)
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            return None
        return ratio(
            [figure(ours[seed]) for seed in seeds],
            [figure(theirs[seed]) for seed in seeds],
        )


def report(plan: Plan, results: Mapping[Run, Result], command: str) -> str:
    """Return all figures and bounds."""
    figures = Figures(results)
    distinct = {result.point.key: result for result in results.values()}.values()
    code, is_of_one = codes_of(distinct)
    about = (
        f"{len(distinct)} of {len(plan.runs())} runs, {plan.seeds} paired seeds, "
        f"{plan.programs} programs a run (searches fewer), version "
        f"`{version_of(distinct)}`, code {code}."
    )
    lines = [f"Command: `{command}`", "", about, ""]
    if not is_of_one:
        lines += ["**Not all runs are of the same code.**", ""]
    lines += ["## Bounds", "", _NOTE, "", *_bounds(plan, figures), ""]
    lines += ["## Mean program latency, s", "", *_latencies(plan, figures)]
    return "\n".join(lines) + "\n"


def _bounds(plan: Plan, figures: Figures) -> Iterator[str]:
    yield _row(["measure", "bound", *(f"load {load:g}" for load in plan.loads)])
    yield _row(["---"] * (2 + len(plan.loads)))
    for bound in BOUNDS:
        for workload in plan.workloads:
            if bound.only in {"", workload}:
                cells = [
                    _cell(_found(figures, bound, workload, load), bound.most)
                    for load in plan.loads
                ]
                title = f"{bound.title}: {workload}"
                yield _row([title, f"≤ {bound.most:g}", *cells])
    for policy in (COLD, WARM):
        cells = [
            _cell(_oracle(plan, figures, policy, load), MOST_AGAINST_ORACLE)
            for load in plan.loads
        ]
        title = f"{policy} against {ORACLE}, mean over workloads"
        yield _row([title, f"≤ {MOST_AGAINST_ORACLE:g}", *cells])


def _found(
    figures: Figures, bound: Bound, workload: str, load: float
) -> Interval | None:
    other = bound.against or figures.best(workload, load)
    if other is None:
        return None
    return figures.against(workload, load, bound.of, other, bound.figure)


def _oracle(plan: Plan, figures: Figures, policy: str, load: float) -> Interval | None:
    found = [
        figures.against(workload, load, policy, ORACLE, latency_s)
        for workload in plan.workloads
    ]
    known = [each.value for each in found if each is not None]
    return Interval(value=fmean(known)) if len(known) == len(found) else None


def _latencies(plan: Plan, figures: Figures) -> Iterator[str]:
    policies = [*BASELINES, COLD, WARM, ORACLE]
    yield _row(["workload", "load", *policies, "best of five"])
    yield _row(["---"] * (len(policies) + 3))
    for workload in plan.workloads:
        for load in plan.loads:
            means = (
                figures.mean(workload, load, policy, latency_s) for policy in policies
            )
            cells = ("" if mean is None else f"{mean:.4g}" for mean in means)
            best = figures.best(workload, load) or ""
            yield _row([workload, f"{load:g}", *cells, best])


def _cell(found: Interval | None, most: float) -> str:
    if found is None:
        return ""
    is_met = round(found.value, 2) <= most  # as it is shown
    return interval(found) + ("" if is_met else " **missed**")


def _row(cells: Iterable[str] | Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
