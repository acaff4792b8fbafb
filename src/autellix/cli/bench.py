"""``autellix bench``: what scheduling by program would do for a load."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from autellix.cli.exit_codes import ExitCode
from autellix.cli.progress import say
from autellix.errors import MissingExtra
from autellix.evaluation import Store, Sweep, run_missing, sweeps_in
from autellix.evaluation.comparison import settings_of
from autellix.evaluation.pictures import draw
from autellix.evaluation.run_pictures import draw_lessons, draw_timeline
from autellix.evaluation.sweep import sweep_from
from autellix.evaluation.table import report

if TYPE_CHECKING:
    from autellix.evaluation.comparison import Setting
    from autellix.evaluation.run import Progress

_SAY_EVERY_S: Final = 2.0
_RESULTS: Final = "results.jsonl"
_TABLE: Final = "table.md"


@attrs.frozen(kw_only=True)
class BenchOptions:
    """What can be asked of a comparison.

    Attributes:
        config: A file of sweeps; None: the one sweep that ``table`` describes.
        table: What was typed, as a sweep's table in such a file.
        out: Folder of results, table and pictures.
        jobs: Simulated runs at a time; 0: nothing is run, what there is is shown.
        command: What was typed.
    """

    config: Path | None
    table: Mapping[str, Any]
    out: Path
    jobs: int
    command: str


def bench(options: BenchOptions) -> ExitCode:
    """Run what has no result yet, print the tables, draw the pictures.

    Interrupted, it prints what has been done so far; asked again, it goes on there.
    """
    if options.config is None:
        sweeps = [sweep_from(options.table)]
    else:
        sweeps = sweeps_in(options.config)
    store = Store.open(options.out / _RESULTS, to_add=options.jobs > 0)
    code = ExitCode.OK
    if options.jobs:
        code = run_sweeps(sweeps, store, jobs=options.jobs)
    results = [(sweep, store.of(sweep.points)) for sweep in sweeps]
    if not any(found for _, found in results):
        say(f"there are no results of these runs in {options.out}")
        return code
    text = report(results, options.command)
    (options.out / _TABLE).write_text(text, encoding="utf-8")
    print(text, flush=True)
    if code is ExitCode.INTERRUPTED:
        return code
    for sweep, found in results:
        settings = settings_of(
            found, sweep.baseline, balancers=sweep.compares_balancers
        )
        for number, setting in enumerate(settings, start=1):
            name = re.sub(r"[^a-z0-9]+", "-", f"{sweep.name} {number}".lower())
            _draw(setting, sweep.name, options.out, name)
    say(f"results, tables and pictures are in {options.out}")
    return code


def run_sweeps(sweeps: Sequence[Sweep], store: Store, *, jobs: int) -> ExitCode:
    """Run what has no result yet, saying how far it is.

    Returns:
        Whether all went well, a run failed, or Ctrl-C came.
    """
    points = [point for sweep in sweeps for point in sweep.points]
    missing = len(store.missing(points))
    total = len({point.key for point in points})
    say(f"{total} runs, {missing} of them to do, {jobs} at a time")
    go = partial(run_missing, points, store, jobs=jobs, tell=_Teller())
    try:
        failures = anyio.run(go)
    except KeyboardInterrupt:
        done = total - len(store.missing(points))
        say(f"interrupted: {done} of {total} runs are done and kept in {store.path}")
        return ExitCode.INTERRUPTED
    for failure in failures:
        say(f"failed: {failure}")
    return ExitCode.FAILED if failures else ExitCode.OK


@attrs.define(eq=False)
class _Teller:
    """Says how far runs are, a line now and then."""

    _said_s: float | None = attrs.field(default=None, init=False)

    def __call__(self, progress: Progress) -> None:
        now_s = time.perf_counter()
        is_last = progress.done == progress.total
        is_due = self._said_s is None or now_s - self._said_s >= _SAY_EVERY_S
        if is_last or is_due:
            self._said_s = now_s
            left = "" if progress.left_s is None else f", {_told(progress.left_s)} left"
            say(f"  {progress.done} of {progress.total} runs{'' if is_last else left}")


def _told(seconds: float) -> str:
    if seconds >= 5_400:
        return f"about {seconds / 3_600:.1f} hours"
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _draw(setting: Setting, title: str, folder: Path, name: str) -> None:
    """Draw a setting, and at its largest load one run of each policy.

    Of those that learn also what they learned in it.
    """
    worst = max(setting.cells, key=lambda load: load or 0.0)
    cells = setting.cells[worst].values()
    seed = min(seed for cell in cells for seed in cell.results)
    runs = [(c.name, c.results[seed]) for c in cells if seed in c.results]
    if title != setting.title:
        title = f"{title}: {setting.title}"
    try:
        draw(setting, title, folder / f"{name}.png")
        draw_timeline(runs, title, folder / f"{name}-timeline.png")
        learned = [run for run in runs if run[1].lessons is not None]
        if learned:
            about = f"{title}: what was learned"
            draw_lessons(learned, about, folder / f"{name}-learned.png")
    except (MissingExtra, OSError) as error:
        say(f"no picture of {title}: {error}")
