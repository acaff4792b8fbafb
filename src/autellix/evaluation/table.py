"""Results as Markdown: what a person reads first, gains and losses alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from autellix.evaluation.comparison import Cell, Setting, settings_of
from autellix.evaluation.equal_latency import Curve, carried
from autellix.evaluation.measures import Measures, breakdown
from autellix.evaluation.result import SCHEMA, codes_of, version_of

if TYPE_CHECKING:
    from autellix.evaluation.intervals import Interval
    from autellix.evaluation.result import Result
    from autellix.evaluation.sweep import Sweep

_Figure: TypeAlias = "Callable[[Measures], float]"

_IDLE_MULTIPLES: Final = (2.0, 5.0, 20.0)
"""Latencies at which throughput is compared, by the baseline's at the least load."""

_NOTES: Final = """\
Load: offered work by what the engines can do in full batches. s/token: latency of a
program by the tokens it generated, mean over programs. "x": as a multiple of the
first line's, geometric mean over paired seeds, in brackets the middle 95 % of resampled
seeds (too narrow where seeds are few). The first table of each part has mean latency,
s/token and P99 of s/token, as multiples of the first column's. Fairness: Jain's index
of the slowdowns. Every run is drained: past saturation ratios depend on how many
programs there are.
"""


def report(sweeps: Sequence[tuple[Sweep, Sequence[Result]]], command: str) -> str:
    """Return all tables of sweeps that have results.

    Args:
        sweeps: Each with what there is of its results.
        command: What made them, as typed.
    """
    everything = {
        result.point.key: result for _, results in sweeps for result in results
    }
    code, is_of_one = codes_of(everything.values())
    version = version_of(everything.values())
    lines = [
        f"Command: `{command}`",
        "",
        f"Results: {SCHEMA}, {len(everything)} runs, version `{version}`, code {code}.",
        *([] if is_of_one else ["**Not all runs are of the same code.**"]),
        "",
        _NOTES,
    ]
    for sweep, results in sweeps:
        if not results:
            continue
        done = len(results)
        total = len({point.key for point in sweep.points})
        part = "" if done == total else f" ({done} of {total} runs)"
        lines += [f"## {sweep.name}{part}", ""]
        settings = settings_of(
            results, sweep.baseline, balancers=sweep.compares_balancers
        )
        lines += _in_short(settings)
        for setting in settings:
            lines += _setting(setting)
    return "\n".join(lines).rstrip() + "\n"


def _in_short(settings: Sequence[Setting]) -> Iterator[str]:
    """Yield the ratios of all settings, a line each load: what to look at first."""
    names = list(dict.fromkeys(name for one in settings for name in one.names))
    rows = [
        [one.title, _load(load), *(_brief(one, load, name) for name in names)]
        for one in settings
        for load in one.cells
    ]
    if len(names) > 1:
        yield from _table(["setting", "load", *names], rows)


def _brief(setting: Setting, load: float | None, name: str) -> str:
    """Return mean latency, s/token and its P99: as multiples, or of the baseline."""
    figures: tuple[_Figure, ...] = (
        lambda m: m.latency_mean_s,
        lambda m: m.token_mean_s,
        lambda m: m.token_p99_s,
    )
    cell = setting.cells[load].get(name)
    if cell is None:
        return ""
    if name == setting.baseline:
        mean, token, tail = (_number(cell.mean(figure)) for figure in figures)
        return f"{mean} s; {token}; {tail}"
    found = [setting.against_baseline(cell, figure) for figure in figures]
    return "; ".join("?" if one is None else f"{one.value:.2f}" for one in found)


def _setting(setting: Setting) -> Iterator[str]:
    yield f"### {setting.title}"
    yield ""
    rates = [
        result.saturation_per_s
        for row in setting.cells.values()
        for cell in row.values()
        for result in cell.results.values()
    ]
    low, high = _number(min(rates)), _number(max(rates))
    between = low if low == high else f"{low} to {high}, by seed"
    yield f"Saturation (load 1), programs/s: {between}."
    yield ""
    yield from _table(_latency_head(setting), _rows(setting, _latency))
    yield from _table(_where_head(setting), _rows(setting, _where))
    yield from _equal_latency(setting)
    yield from _classes(setting)


def _latency_head(setting: Setting) -> Sequence[str]:
    times = ("mean, s", "x", "P95, s")
    tokens = ("s/token", "x", "P95 s/token", "x", "P99 s/token", "x")
    return ("load", setting.compared, *times, *tokens, "makespan, s", "fairness")


def _latency(setting: Setting, cell: Cell) -> Iterator[str]:
    yield _number(cell.mean(lambda m: m.latency_mean_s))
    yield _ratio(setting, cell, lambda m: m.latency_mean_s)
    yield _number(cell.mean(lambda m: m.latency_p95_s))
    figures: tuple[_Figure, ...] = (
        lambda m: m.token_mean_s,
        lambda m: m.token_p95_s,
        lambda m: m.token_p99_s,
    )
    for figure in figures:
        yield _number(cell.mean(figure))
        yield _ratio(setting, cell, figure)
    yield _number(cell.mean(lambda m: m.makespan_s))
    yield f"{cell.mean(lambda m: m.fairness):.2f}"


def _where_head(setting: Setting) -> Sequence[str]:
    times = ("service, s", "queue, s", "swap, s", "round, s")
    counts = ("cache hits", "pauses", "swaps", "drops", "promotions")
    return ("load", setting.compared, *times, *counts, "CPU, s a run")


def _where(_: Setting, cell: Cell) -> Iterator[str]:
    runs = list(cell.results.values())
    parts = [breakdown(result) for result in runs]
    for part in ("service_s", "queue_s", "swap_s", "round_s"):
        yield _number(sum(getattr(one, part) for one in parts) / len(parts))
    yield f"{cell.mean(lambda m: m.cache_hit_rate):.1%}"
    for count in ("pause", "swap", "drop", "promotions"):
        yield f"{sum(result.counts[count] for result in runs) / len(runs):.0f}"
    yield f"{sum(result.cpu_s for result in runs) / len(runs):.1f}"


def _equal_latency(setting: Setting) -> Iterator[str]:
    """Yield which load each policy carries before programs are so much slower."""
    own = setting.curves(setting.baseline, lambda m: m.token_mean_s)
    if own is None:
        return
    curve, _ = own
    idle = sum(curve[min(curve)]) / len(curve[min(curve)])
    head = ["load carried at"]
    head += [f"{idle * times:.3g} s/token" for times in _IDLE_MULTIPLES]
    rows = []
    for name in setting.names:
        curves = setting.curves(name, lambda m: m.token_mean_s)
        if curves is not None:
            cells = [_carried(*curves, idle * times) for times in _IDLE_MULTIPLES]
            rows.append([name, *cells])
    yield from _table(head, rows)


def _carried(ours: Curve, baseline: Curve, latency: float) -> str:
    found = carried(ours, baseline, latency)
    if found is None:
        return f"< {min(ours):g}"
    at_least = "≥ " if found.is_at_least else ""
    gain = "" if found.gain is None else f", x {at_least}{interval(found.gain)}"
    return f"{at_least}{found.load:.2f}{gain}"


def _classes(setting: Setting) -> Iterator[str]:
    """Yield mean latency by class, where there are several."""
    rows = []
    for load, row in setting.cells.items():
        for name, cell in row.items():
            for program_class, found in cell.classes().items():
                latency_s = sum(one.latency_mean_s for one in found) / len(found)
                token_s = sum(one.token_mean_s for one in found) / len(found)
                p95_s = sum(one.token_p95_s for one in found) / len(found)
                figures = [_number(latency_s), _number(token_s), _number(p95_s)]
                rows.append([_load(load), program_class, name, *figures])
    if len({row[1] for row in rows}) > 1:
        rows.sort(key=lambda row: row[:2])
        head = ("load", "class", setting.compared, "mean, s", "s/token", "P95 s/token")
        yield from _table(head, rows)


def _rows(
    setting: Setting, make: Callable[[Setting, Cell], Iterable[str]]
) -> Iterator[Sequence[str]]:
    for load, row in setting.cells.items():
        for cell in row.values():
            yield [_load(load), cell.name, *make(setting, cell)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _ratio(setting: Setting, cell: Cell, figure: _Figure) -> str:
    found = setting.against_baseline(cell, figure)
    return "" if found is None else interval(found)


def interval(found: Interval) -> str:
    """Return a ratio with its interval, as tables show it."""
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _load(load: float | None) -> str:
    return "" if load is None else f"{load:g}"


def _number(value: float) -> str:
    """Return three digits that matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"
