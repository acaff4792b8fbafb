"""Runs the points of a sweep that have no result yet, in processes side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import anyio
import attrs
from anyio.lowlevel import checkpoint
from anyio.streams.buffered import BufferedByteReceiveStream

from autellix.errors import AutellixError
from autellix.evaluation.point import label
from autellix.evaluation.programs import (
    arrivals_of,
    programs_of,
    saturation_of,
)
from autellix.evaluation.result import Result
from autellix.evaluation.setups import engines_of
from autellix.evaluation.trial import serve_point
from autellix.evaluation.worker import COMMAND, ERROR
from autellix.runtime.tasks import Tasks
from autellix.workloads.adapt import check_fits

if TYPE_CHECKING:
    from anyio.abc import ByteReceiveStream, ByteSendStream

    from autellix.evaluation.point import Point
    from autellix.evaluation.store import Store

_LONGEST_LINE: Final = 2**30


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
) -> Sequence[str]:
    """Run what is missing; each result is in the store as soon as it is there.

    Points of simulated engines run in processes of their own, those of other engines
    here, one at a time, before them. Cancelled, what runs is given up and what has
    ended stays. What cannot be run is found before anything is: that is a
    ``ConfigError`` or a ``TraceError``, and so is it where another process adds to the
    store. A run that fails does not stop the others.

    Args:
        points: Those with a result are not run again.
        store: Takes the results.
        jobs: How many processes.
        tell: Called when a point has ended.

    Returns:
        What is to be said of each run that failed.
    """
    with store.alone():
        missing = store.missing(points)
        await check_points(missing)
        progress = _Progress(points=points, store=store, tell=tell)
        for point in missing:
            if not point.setup.is_virtual:
                try:
                    progress.add(await serve_point(point))
                except AutellixError as error:
                    progress.failures.append(f"{_name(point)}: {error}")
        to_do = iter([point for point in missing if point.setup.is_virtual])
        async with Tasks() as tasks:
            for number in range(jobs):
                tasks.start_soon(_run_all, to_do, progress, name=f"worker {number}")
        return progress.failures


async def check_points(points: Sequence[Point]) -> None:
    """Check that programs fit and can arrive, of all points that tell beforehand.

    Errors are ``ConfigError`` and ``TraceError``.
    """
    checked = set()
    for point in points:
        load = 1.0 if point.arrivals.has_load else None
        alike = attrs.evolve(point, policy="", balancer="", load=load).key
        if point.setup.is_virtual and alike not in checked:
            checked.add(alike)
            programs = programs_of(point)
            arrivals_of(point, programs, saturation_of(point, programs))
            (engine, *_) = engines_of(point.setup)
            limit_tokens = engine.capabilities().max_call_tokens
            check_fits(programs, limit_tokens, source=point.workload.name)
            await checkpoint()  # to make programs takes long enough for a Ctrl-C


@attrs.define(eq=False)
class _Progress:
    """Takes results in, and tells how far it is.

    Attributes:
        points: All that there will be results of.
        store: Keeps the results.
        tell: Is told.
        failures: What is to be said of runs that failed.
    """

    points: Sequence[Point]
    store: Store
    tell: Callable[[Progress], None]
    failures: list[str] = attrs.field(factory=list, init=False)
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


def _name(point: Point) -> str:
    load = "" if point.load is None else f" at load {point.load:g}"
    return f"{label(point.policy)} on {point.workload.name}{load}, seed {point.seed}"


def _size(point: Point) -> object:
    return point.workload, point.programs, point.setup.engines


async def _run_all(points: Iterator[Point], progress: _Progress) -> None:
    """Run points in a process of their own until there are none left.

    Several share the iterator: each takes what comes next. After a failure they go on
    in a new process.
    """
    point = next(points, None)
    while point is not None:
        async with await anyio.open_process(COMMAND, stderr=None) as process:
            try:
                while point is not None and process.stdin and process.stdout:
                    into, out_of = process.stdin, process.stdout
                    progress.add(await _run(point, into, out_of))
                    point = next(points, None)
            except AutellixError as error:
                progress.failures.append(str(error))
                point = next(points, None)


async def _run(point: Point, into: ByteSendStream, out_of: ByteReceiveStream) -> Result:
    """Have a point run.

    Raises:
        AutellixError: It could not be, or the process died.
    """
    which = _name(point)
    lines = BufferedByteReceiveStream(out_of)  # empty between lines
    try:
        await into.send(json.dumps(point.to_json()).encode() + b"\n")
        line = await lines.receive_until(b"\n", _LONGEST_LINE)
    except (anyio.BrokenResourceError, anyio.IncompleteRead) as error:
        raise AutellixError(
            f"{which}: its process died; if nothing is said above about why, perhaps "
            "for want of memory: try fewer jobs"
        ) from error
    told = line.decode()
    if told.startswith(f'{{"{ERROR}"'):
        raise AutellixError(f"{which}: {json.loads(told)[ERROR]}")
    return Result.from_line(told)
