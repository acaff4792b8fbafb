"""Results put in order: settings, in each the loads, at each what is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from autellix.evaluation.intervals import Interval, ratio
from autellix.evaluation.measures import Measures, by_class, measures
from autellix.evaluation.point import label

if TYPE_CHECKING:
    from autellix.evaluation.equal_latency import Curve
    from autellix.evaluation.result import Result


@attrs.frozen(kw_only=True)
class Cell:
    """One policy, or one balancer, at one load: a run for each seed.

    Attributes:
        name: Of the policy or balancer, as tables name it.
        load: None where no load sets the rate.
        results: By seed.
        by_seed: The same runs in figures.
    """

    name: str
    load: float | None
    results: Mapping[int, Result]
    by_seed: Mapping[int, Measures] = attrs.field(init=False)

    @by_seed.default
    def _measured(self) -> Mapping[int, Measures]:
        return {seed: measures(result.rows) for seed, result in self.results.items()}

    def mean(self, figure: Callable[[Measures], float]) -> float:
        """Return a figure, averaged over the seeds."""
        return sum(map(figure, self.by_seed.values())) / len(self.by_seed)

    def classes(self) -> Mapping[str, Sequence[Measures]]:
        """Return the figures of each class of programs, one a seed that has it."""
        found: dict[str, list[Measures]] = {}
        for result in self.results.values():
            for name, each in by_class(result.rows).items():
                found.setdefault(name, []).append(each)
        return found


@attrs.frozen(kw_only=True)
class Setting:
    """Everything that is equal in a comparison of policies or balancers over loads.

    Attributes:
        title: Its workload, and what else tells it from the other settings.
        compared: ``"policy"`` or ``"balancer"``.
        baseline: Name of what the others are compared with.
        cells: By load, then name, both in the order of the sweep.
    """

    title: str
    compared: str
    baseline: str
    cells: Mapping[float | None, Mapping[str, Cell]]

    @property
    def names(self) -> list[str]:
        """All that is compared, in the order of the sweep."""
        return list(dict.fromkeys(name for row in self.cells.values() for name in row))

    def against_baseline(
        self, cell: Cell, figure: Callable[[Measures], float]
    ) -> Interval | None:
        """Return a figure as a multiple of the baseline's, over the seeds of both."""
        base = self.cells[cell.load].get(self.baseline)
        if base is None or base is cell:
            return None
        seeds = sorted(cell.by_seed.keys() & base.by_seed.keys())
        ours = [figure(cell.by_seed[seed]) for seed in seeds]
        theirs = [figure(base.by_seed[seed]) for seed in seeds]
        if not seeds or min(ours + theirs) <= 0.0:
            return None
        return ratio(ours, theirs)

    def curves(
        self, name: str, figure: Callable[[Measures], float]
    ) -> tuple[Curve, Curve] | None:
        """Return a figure by load, of what has the name and of the baseline.

        Of the seeds and loads that both have; None, if those are too few for a curve.
        """
        pairs = {
            load: (row[name], row[self.baseline])
            for load, row in self.cells.items()
            if load is not None and name in row and self.baseline in row
        }
        runs = [set(cell.by_seed) for pair in pairs.values() for cell in pair]
        seeds = sorted(set.intersection(*runs)) if runs else []
        if len(pairs) < 2 or not seeds:
            return None
        ours, theirs = (
            {
                load: [figure(pair[side].by_seed[seed]) for seed in seeds]
                for load, pair in pairs.items()
            }
            for side in (0, 1)
        )
        return ours, theirs


def settings_of(
    results: Sequence[Result], baseline: str, *, balancers: bool = False
) -> list[Setting]:
    """Return results by what is equal in them.

    Args:
        results: Of one sweep, in its order.
        baseline: Name of the policy or balancer to compare with.
        balancers: Whether balancers are compared; else policies are, and each balancer
            is a setting of its own: what is compared differs in one thing.
    """
    compared = "balancer" if balancers else "policy"
    grouped: dict[str, list[Result]] = {}
    told: dict[str, dict[str, Any]] = {}
    for result in results:
        about = _about(result)
        del about[compared]
        name = repr(sorted(about.items()))
        grouped.setdefault(name, []).append(result)
        told[name] = about
    varied = {
        key
        for about in told.values()
        for key in about
        if len({repr(other.get(key)) for other in told.values()}) > 1
    }
    if balancers:
        varied.add("policy")
    return [
        Setting(
            title=_title(group[0], told[name], varied),
            compared=compared,
            baseline=baseline,
            cells=_cells(group, compared),
        )
        for name, group in grouped.items()
    ]


def _cells(
    results: Sequence[Result], compared: str
) -> dict[float | None, dict[str, Cell]]:
    runs: dict[float | None, dict[str, dict[int, Result]]] = {}
    for result in results:
        at_load = runs.setdefault(result.point.load, {})
        by_seed = at_load.setdefault(label(getattr(result.point, compared)), {})
        by_seed[result.point.seed] = result
    return {
        load: {
            name: Cell(name=name, load=load, results=by_seed)
            for name, by_seed in names.items()
        }
        for load, names in runs.items()
    }


def _about(result: Result) -> dict[str, Any]:
    """Return what a point says but for load and seed; by dotted names."""
    point = result.point
    setup = point.setup
    return {
        "policy": label(point.policy),
        "programs": point.programs,
        "arrivals": point.arrivals.value,
        "limit": point.limit,
        "engines": setup.engines,
        "balancer": label(point.balancer),
        "backend": setup.backend,
        "preset": setup.preset,
        **attrs.asdict(point.workload),
        **{key: value for key, value in setup.options.items() if key != "costs"},
    }


def _title(result: Result, about: Mapping[str, Any], varied: set[str]) -> str:
    rest = [
        f"{key} {about[key]}"
        for key in about
        if key in varied
        and key not in {"source", "digest", "mix"}
        and about[key] is not None
    ]
    return ", ".join([result.point.workload.name, *rest])
