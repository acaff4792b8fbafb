"""Runs the points of a sweep that have no result yet, in processes side by side."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.to_process
import attrs

from autellix.errors import AutellixError, ConfigError
from autellix.evaluation.point import label
from autellix.evaluation.programs import check_fit, programs_of
from autellix.evaluation.setups import engines_of
from autellix.evaluation.trial import run_point, serve_point
from autellix.runtime.tasks import Tasks

if TYPE_CHECKING:
    from autellix.evaluation.point import Point
    from autellix.evaluation.result import Result
    from autellix.evaluation.store import Store


@attrs.frozen(kw_only=True)
class Progress:
    """How far a sweep is.

    Attributes:
        done: Points with a result.
        total: All points.
        left_s: Time it will still take, by what the points so far took; None: not yet
            known.
    """

    done: int
    total: int
    left_s: float | None


async def run_missing(
    points: Sequence[Point],
    store: Store,
    *,
    jobs: int,
    tell: Callable[[Progress], None],
) -> None:
    """Run what is missing; each result is in the store as soon as it is there.

    Points of simulated engines run in processes of their own, those of other engines
    here, one at a time, before them. Cancelled, what runs is given up and what has
    ended stays. What cannot be run is found before anything is: that is a
    ``ConfigError`` or a ``TraceError``. A run that fails is an ``AutellixError``;
    results of others are kept.

    Args:
        points: Those with a result are not run again.
        store: Takes the results.
        jobs: How many processes.
        tell: Called when a point has ended.
    """
    missing = store.missing(points)
    check_points(missing)
    progress = _Progress(points=points, store=store, tell=tell)
    for point in missing:
        if not point.setup.is_virtual:
            progress.add(await serve_point(point))
    limiter = anyio.CapacityLimiter(jobs)

    async def run(point: Point) -> None:
        try:
            result = await anyio.to_process.run_sync(
                _run_in_worker, point, cancellable=True, limiter=limiter
            )
        except anyio.BrokenWorkerProcess as error:
            raise AutellixError(
                f"the process of a run died ({label(point.policy)} on "
                f"{point.workload.name}), perhaps for want of memory: try fewer jobs"
            ) from error
        progress.add(result)

    async with Tasks() as tasks:
        for point in missing:
            if point.setup.is_virtual:
                tasks.start_soon(run, point, name=point.key)


def check_points(points: Sequence[Point]) -> None:
    """Check that programs are there and fit, of all points that can tell beforehand.

    Errors are ``ConfigError`` and ``TraceError``.
    """
    checked = set()
    for point in points:
        if point.setup.is_virtual:
            (engine, *_) = engines_of(point.setup)
            limit_tokens = engine.capabilities().max_call_tokens
            kind = (point.workload, point.programs, point.seed, point.arrivals)
            if (kind, limit_tokens) not in checked:
                checked.add((kind, limit_tokens))
                check_fit(point.workload, programs_of(point), limit_tokens)


@attrs.define(eq=False)
class _Progress:
    """Takes results in, and tells how far it is."""

    points: Sequence[Point]
    store: Store
    tell: Callable[[Progress], None]
    _began_s: float = attrs.field(factory=anyio.current_time, init=False)
    _cpu_s: float = attrs.field(default=0.0, init=False)

    def add(self, result: Result) -> None:
        """Store a result."""
        self.store.add(result)
        self._cpu_s += result.cpu_s
        missing = self.store.missing(self.points)
        total = len({point.key for point in self.points})
        elapsed_s = anyio.current_time() - self._began_s
        pace = elapsed_s / self._cpu_s if self._cpu_s else None
        self.tell(
            Progress(
                done=total - len(missing),
                total=total,
                left_s=None if pace is None else pace * self._left_cpu_s(missing),
            )
        )

    def _left_cpu_s(self, missing: Sequence[Point]) -> float:
        """Return the CPU time of what is missing: as points of its workload took."""
        took_s: dict[object, list[float]] = {}
        for result in self.store.of(self.points):
            took_s.setdefault(_size(result.point), []).append(result.cpu_s)
        means_s = {size: sum(each) / len(each) for size, each in took_s.items()}
        typical_s = sum(means_s.values()) / len(means_s)
        return sum(means_s.get(_size(point), typical_s) for point in missing)


def _size(point: Point) -> object:
    return point.workload, point.programs, point.setup.engines


def _run_in_worker(point: Point) -> Result:
    """Run a point in a process that does nothing else.

    Raises:
        ConfigError: It cannot be run.
        AutellixError: In place of any other error of ours.
    """
    # Ctrl-C reaches the whole group of processes; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A simulation leaves no cycles behind, and to look for them among thousands of
    # prompts time and again would cost a seventh of the whole.
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)
    try:
        return run_point(point)
    except ConfigError:
        raise
    except AutellixError as error:  # not all kinds of them can cross to the parent
        raise AutellixError(f"{type(error).__name__}: {error}") from None
