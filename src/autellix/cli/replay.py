"""``autellix replay``: what other policies would have done with one recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import attrs

from autellix.cli.bench import run_sweeps
from autellix.cli.exit_codes import ExitCode
from autellix.cli.progress import say
from autellix.errors import ConfigError
from autellix.evaluation import Arrival, Store
from autellix.evaluation.comparison import settings_of
from autellix.evaluation.sweep import sweep_from
from autellix.workloads.trace_file import read_trace

if TYPE_CHECKING:
    from autellix.evaluation import Result
    from autellix.evaluation.comparison import Setting
    from autellix.evaluation.measures import Measures

ORACLE: Final = "srpt"
_COLUMNS: Final[Mapping[str, Callable[[Measures], str]]] = {
    "mean, s": lambda m: f"{m.latency_mean_s:.2f}",
    "P50, s": lambda m: f"{m.latency_p50_s:.2f}",
    "P95, s": lambda m: f"{m.latency_p95_s:.2f}",
    "s/token": lambda m: f"{m.token_mean_s:.4f}",
    "P95 s/token": lambda m: f"{m.token_p95_s:.4f}",
    "all, s": lambda m: f"{m.makespan_s:.1f}",
    "fairness": lambda m: f"{m.fairness:.2f}",
    "cache hits": lambda m: f"{m.cache_hit_rate:.1%}",
}


@attrs.frozen(kw_only=True)
class ReplayOptions:
    """What can be asked of a replay.

    Attributes:
        trace: A recording, in the format ``prog-trace/1``.
        load: Multiple of saturation at which its programs arrive at random; None: they
            arrive as they were recorded.
        table: What else was typed, as a sweep's table in a file.
        out: Folder that keeps the results; None: they are only shown.
        jobs: Runs at a time.
    """

    trace: Path
    load: float | None
    table: Mapping[str, Any]
    out: Path | None
    jobs: int


def replay(options: ReplayOptions) -> ExitCode:
    """Run a recording under each policy and under the oracle; print them side by side.

    Raises:
        ConfigError: There is no such file, or it has no arrivals and no load is given.
    """
    if not options.trace.is_file():
        raise ConfigError(f"{options.trace}: there is no such file")
    programs = read_trace(options.trace).programs
    unknown = sum(program.arrival_s is None for program in programs)
    if options.load is None and unknown:
        raise ConfigError(
            f"{options.trace}: {unknown} of {len(programs)} programs have no recorded "
            "arrival: say how dense they are to arrive, as a multiple of what the "
            "engines can do (--load 1.0)"
        )
    sweep = sweep_from(_table(options))
    with ExitStack() as stack:
        folder = options.out or Path(stack.enter_context(TemporaryDirectory()))
        store = Store.open(folder / "results.jsonl")
        code = run_sweeps([sweep], store, jobs=options.jobs)
        results = store.of(sweep.points)
    if results:
        print(regrets(results))
    if code is not ExitCode.OK:
        return code
    say(
        f"regret: how much longer than under {ORACLE}, which is told how much work "
        "each program has left"
    )
    return ExitCode.OK


def regrets(results: Sequence[Result]) -> str:
    """Return tables of policies with their regrets against the oracle.

    One for each number of engines and each balancer: only what is served alike is
    compared.
    """
    settings = settings_of(results, ORACLE)
    tables = []
    for setting in settings:
        title = [setting.title] if len(settings) > 1 else []
        tables.append("\n".join([*title, *_regrets(setting)]))
    return "\n\n".join(tables)


def _regrets(setting: Setting) -> Iterator[str]:
    """Yield the lines of one table."""
    rows = [["policy", *_COLUMNS, "regret, mean", "regret, s/token"]]
    for cells in setting.cells.values():
        found = {
            policy: next(iter(cell.by_seed.values())) for policy, cell in cells.items()
        }
        oracle = found.get(ORACLE)
        for policy, figures in found.items():
            regret = ["", ""]
            if oracle is not None:
                mean = figures.latency_mean_s / oracle.latency_mean_s - 1
                per_token = figures.token_mean_s / oracle.token_mean_s - 1
                regret = [f"{mean:+.1%}", f"{per_token:+.1%}"]
            shown = (show(figures) for show in _COLUMNS.values())
            rows.append([policy, *shown, *regret])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )


def _table(options: ReplayOptions) -> dict[str, Any]:
    """Return the sweep's table; the oracle is always among the policies."""
    table = dict(options.table)
    policies = table["policies"]
    if ORACLE not in policies:
        table["policies"] = [*policies, ORACLE]
    if options.load is None:
        table["arrivals"] = Arrival.RECORDED.value
    else:
        table["loads"] = [options.load]
    return table
