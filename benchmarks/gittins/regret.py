"""Regret over time: what a cold start costs, and how soon it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Final

from autellix.evaluation.canvas import COLOURS, canvas
from benchmarks.gittins.bounds import Figures
from benchmarks.gittins.plan import COLD, ORACLE, WARM, Plan, Run

if TYPE_CHECKING:
    from autellix.evaluation import Result

_WINDOW: Final = 0.1
_SHOWN: Final[Mapping[str, tuple[str, str]]] = {
    COLD: (COLOURS[1], "Gittins, cold"),
    WARM: (COLOURS[3], "Gittins, warm"),
    ORACLE: (COLOURS[-1], "SRPT (clairvoyant)"),
}


def draw(plan: Plan, results: Mapping[Run, Result], path: Path) -> None:
    """Draw latency against the best of five, program by program as they arrive.

    A panel a workload, at the largest load: mean latency of a tenth of the programs,
    those that arrived last, of all seeds, by that of the same programs under the best
    of five. In dots that of all programs so far, cold.
    """
    figures = Figures(results)
    load = max(plan.loads)
    with canvas(path, size=(13, 3.2 * -(-len(plan.workloads) // 4))) as figure:
        panels = figure.subplots(-(-len(plan.workloads) // 4), 4, squeeze=False)
        for axes, workload in zip(panels.flat, plan.workloads, strict=False):
            best = figures.best(workload, load)
            axes.set_title(f"{workload}, load {load:g}", fontsize=10)
            axes.axhline(1.0, color=COLOURS[0], linewidth=0.8)
            if best is None:
                continue
            for policy, (colour, label) in _SHOWN.items():
                ours = figures.of(workload, load, policy)
                theirs = figures.of(workload, load, best)
                seeds = sorted(ours.keys() & theirs.keys())
                if not seeds:
                    continue
                own, others = (
                    _sums([each[s] for s in seeds]) for each in (ours, theirs)
                )
                window = max(1, int(_WINDOW * len(own)))
                axes.plot(*over_time(own, others, window), color=colour, label=label)
                if policy == COLD:
                    so_far = over_time(own, others, len(own))
                    axes.plot(*so_far, ":", color=colour, label=f"{label}, all so far")
            axes.set_xlabel(f"programs arrived (against {best})", fontsize=9)
        for axes in panels.flat[len(plan.workloads) :]:
            axes.set_visible(False)
        panels[0][0].set_ylabel("latency against the best of five")
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)


def over_time(
    ours: Sequence[float], theirs: Sequence[float], window: int
) -> tuple[list[int], list[float]]:
    """Return after how many arrivals what ratio of the last ``window`` holds.

    Args:
        ours: Latencies by arrival, seconds.
        theirs: Of the same programs.
        window: How many count; as long as there are fewer, all do. Nothing is told of
            less than a twentieth of all.
    """
    totals = [[0.0, *accumulate(each)] for each in (ours, theirs)]
    least = min(window, max(1, len(ours) // 20))
    ends = range(least, len(ours) + 1)

    def summed(total: Sequence[float], end: int) -> float:
        return total[end] - total[max(0, end - window)]

    return list(ends), [summed(totals[0], end) / summed(totals[1], end) for end in ends]


def _sums(results: Sequence[Result]) -> list[float]:
    """Return latencies by arrival, in sum over seeds."""
    rows = zip(*(result.rows for result in results), strict=True)
    return [sum(row.latency_s for row in same) for same in rows]
