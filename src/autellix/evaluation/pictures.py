"""Pictures of a comparison; numbers are in the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from autellix.evaluation.canvas import COLOURS, canvas, set_log_scale
from autellix.evaluation.measures import breakdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from autellix.evaluation.comparison import Cell, Setting

_STYLES: Final = ("-", "--", "-.", ":")
_MARKERS: Final = "osD^v<>P"
_PARTS: Final = (
    ("service_s", "service", "#0072B2"),
    ("queue_s", "queue", "#CFCFCF"),
    ("swap_s", "swap", "#D55E00"),
    ("round_s", "round", "#56B4E9"),
)


def draw(setting: Setting, title: str, path: Path) -> None:
    """Draw a setting into a PNG file.

    Above latency against load, by program and by token, on a logarithmic scale, a
    range over the seeds. Below, at the largest load: the share of programs that take
    no longer than a time, where the time of their calls went, and how many programs
    were under way in the first seed's run. Without matplotlib ``MissingExtra``.
    """
    with canvas(path, size=(13, 8)) as figure:
        figure.suptitle(title, fontsize=13)
        grid = figure.add_gridspec(2, 6)
        loads = [load for load in setting.cells if load is not None]
        worst = setting.cells[max(loads) if loads else None]
        if len(loads) > 1:
            for column, per_token in ((0, False), (3, True)):
                axes = figure.add_subplot(grid[0, column : column + 3])
                _draw_loads(axes, setting, per_token=per_token)
        row = slice(1, 2) if len(loads) > 1 else slice(0, 2)
        colours = _colours(setting)
        _draw_shares(figure.add_subplot(grid[row, 0:2]), worst.values(), colours)
        _draw_parts(figure.add_subplot(grid[row, 2:4]), list(worst.values()))
        _draw_under_way(figure.add_subplot(grid[row, 4:6]), worst.values(), colours)
        axes = figure.axes[0]
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside lower center", ncols=8
        )


def _colours(setting: Setting) -> dict[str, str]:
    names = enumerate(setting.names)
    return {name: COLOURS[index % len(COLOURS)] for index, name in names}


def _draw_loads(axes: Axes, setting: Setting, *, per_token: bool) -> None:
    loads = sorted(load for load in setting.cells if load is not None)
    for index, (policy, colour) in enumerate(_colours(setting).items()):
        cells = [(load, setting.cells[load].get(policy)) for load in loads]
        there = [(load, cell) for load, cell in cells if cell is not None]
        seeds = [
            [
                one.token_mean_s if per_token else one.latency_mean_s
                for one in cell.by_seed.values()
            ]
            for _, cell in there
        ]
        xs = [load for load, _ in there]
        axes.plot(
            xs,
            [sum(each) / len(each) for each in seeds],
            color=colour,
            linestyle=_STYLES[index % len(_STYLES)],
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=4,
            label=policy,
        )
        axes.fill_between(
            xs, list(map(min, seeds)), list(map(max, seeds)), color=colour, alpha=0.12
        )
    axes.axvline(1.0, color="#999999", linewidth=0.8)
    axes.set(
        title="mean latency by tokens generated" if per_token else "mean latency",
        xlabel="load, multiple of saturation",
        ylabel="s/token" if per_token else "seconds",
    )
    set_log_scale(axes.yaxis)
    axes.grid(alpha=0.3, which="both")


def _draw_shares(axes: Axes, cells: Iterable[Cell], colours: dict[str, str]) -> None:
    for index, cell in enumerate(cells):
        runs = cell.results.values()
        values = sorted(row.latency_s for result in runs for row in result.rows)
        axes.step(
            values,
            [(place + 1) / len(values) for place in range(len(values))],
            where="post",
            color=colours[cell.name],
            linestyle=_STYLES[index % len(_STYLES)],
            label=cell.name,
        )
    axes.set(
        title=f"share of programs{_at(cells)}",
        xlabel="latency at most, seconds",
        xscale="log",
        ylim=(0, 1.02),
    )
    axes.grid(alpha=0.3)


def _draw_parts(axes: Axes, cells: Sequence[Cell]) -> None:
    names = [cell.name for cell in cells]
    left = [0.0] * len(cells)
    for part, name, colour in _PARTS:
        widths = []
        for cell in cells:
            parts = [getattr(breakdown(one), part) for one in cell.results.values()]
            widths.append(sum(parts) / len(parts))
        axes.barh(names, widths, left=left, color=colour, label=name)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.45 * max(left) or 1.0)  # room for the legend
    axes.set(title=f"time of a program's calls{_at(cells)}", xlabel="seconds, in sum")
    axes.legend(loc="center right", fontsize=8)


def _draw_under_way(axes: Axes, cells: Iterable[Cell], colours: dict[str, str]) -> None:
    for index, cell in enumerate(cells):
        rows = cell.results[min(cell.results)].rows
        moves = sorted(
            chain.from_iterable(
                ((row.started_s, 1), (row.started_s + row.latency_s, -1))
                for row in rows
            )
        )
        counts = list(accumulate(change for _, change in moves))
        axes.step(
            [instant_s for instant_s, _ in moves],
            counts,
            where="post",
            color=colours[cell.name],
            linestyle=_STYLES[index % len(_STYLES)],
            linewidth=1.0,
        )
    axes.set(
        title=f"programs under way{_at(cells)}",
        xlabel="seconds since the first arrival",
        ylim=(0, None),
    )
    axes.grid(alpha=0.3)


def _at(cells: Iterable[Cell]) -> str:
    loads = {cell.load for cell in cells}
    return "".join(f", load {load:g}" for load in loads if load is not None)
