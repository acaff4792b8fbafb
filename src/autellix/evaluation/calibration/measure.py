"""Measures engines on a grid, round by round, and fits their costs.

Every round goes through the whole grid, so that a moment in which the machine did
something else meets all points alike and no median. Several engines take each shape at
the same time: what they cost one another, for cores, caches and memory, is then part of
the costs, as it is part of every run in which all of them are busy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum
from functools import partial
from statistics import fmean, median, quantiles
from typing import TYPE_CHECKING, Final, NoReturn

import anyio
import attrs

from autellix.errors import ConfigError
from autellix.evaluation.calibration.fit import Calibrated, Point, fitted
from autellix.evaluation.calibration.grid import grid
from autellix.evaluation.calibration.probe import Features, Probe, Window
from autellix.runtime.tasks import Tasks
from autellix.testing.engine_bench import serving

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine
    from autellix.core.cost_model import CostModel
    from autellix.evaluation.calibration.grid import Shape

_LEAST_SHAPES: Final = 5


class Clock(StrEnum):
    """What time costs are in."""

    WALL = "wall"
    """What programs wait for."""
    CPU = "cpu"
    """CPU time of this process: for one engine that computes in it, while others use
    the machine."""


@attrs.frozen(kw_only=True)
class Progress:
    """How far measuring is.

    Attributes:
        doing: In words.
        share: Of all that is to be done.
        left_s: What it will still take; None: not yet known.
    """

    doing: str
    share: float
    left_s: float | None


async def calibrated(
    engines: Sequence[Engine],
    *,
    longest_tokens: int,
    rounds: int,
    clock: Clock,
    tell: Callable[[Progress], None],
) -> Calibrated:
    """Load equal engines, measure them and return costs for each of them.

    What transfers between engine and host pool cost is what the engines measured
    themselves at their start: beside a step it is too little to be told from outside.

    Args:
        engines: Not entered; equal but for their names.
        longest_tokens: Most tokens of a context or a prompt.
        rounds: How often the whole grid is measured.
        clock: What time to take.
        tell: Called as it goes on.

    Raises:
        ConfigError: They cannot be measured; or what loading them raises.
    """
    try:
        found, like = await _served(engines, longest_tokens, rounds, tell)
    except ExceptionGroup as group:  # one engine's error is told as it is
        _raise_single(group)
    points = [
        point
        for shape, windows in found.items()
        if (point := _point(shape, windows, clock)) is not None
    ]
    fit_to = sum(not point.shape.is_held_out for point in points)
    if fit_to < _LEAST_SHAPES:
        raise ConfigError(
            f"engine {engines[0].name!r} cannot be measured: of {len(found)} shapes "
            f"only {fit_to} were computed as asked for. It must count its steps and "
            "tokens, and have room for a full batch of the longest contexts"
        )
    return Calibrated(costs=fitted(points, like=like), points=points)


async def _served(
    engines: Sequence[Engine],
    longest_tokens: int,
    rounds: int,
    tell: Callable[[Progress], None],
) -> tuple[dict[Shape, list[Window]], CostModel]:
    """Return all that was measured, and costs that give what is not measured here."""
    async with AsyncExitStack() as stack:
        entered = [
            await stack.enter_async_context(serving(engine)) for engine in engines
        ]
        capabilities = engines[0].capabilities()
        shapes = grid(capabilities, longest_tokens)
        longest = max(max(s.context_tokens, s.prompt_tokens) for s in shapes)
        slots = capabilities.max_batch_calls
        probes = [
            Probe(bench, slots=slots, longest_tokens=longest) for bench in entered
        ]
        tell(Progress(doing="warming up", share=0.0, left_s=None))
        async with Tasks() as tasks:
            for probe in probes:
                tasks.start_soon(probe.warm_up)
        found = await _measured(probes, shapes, rounds, tell)
        return found, _like([engine.costs for engine in engines], slots)


def _raise_single(error: Exception) -> NoReturn:
    """Raise the one error in groups in groups: each engine serves in its own."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        (error,) = error.exceptions
    raise error from None


async def _measured(
    probes: Sequence[Probe],
    shapes: Sequence[Shape],
    rounds: int,
    tell: Callable[[Progress], None],
) -> dict[Shape, list[Window]]:
    found: dict[Shape, list[Window]] = {shape: [] for shape in shapes}
    total = rounds * sum(shape.weight for shape in shapes)
    done, began_s = 0.0, anyio.current_time()

    async def take(probe: Probe, shape: Shape) -> None:
        found[shape] += await probe.windows(shape)

    for number in range(1, rounds + 1):
        for shape in shapes:
            async with Tasks() as tasks:
                for probe in probes:
                    tasks.start_soon(partial(take, probe, shape))
            done += shape.weight
            elapsed_s = anyio.current_time() - began_s
            tell(
                Progress(
                    doing=f"round {number} of {rounds}",
                    share=done / total,
                    left_s=elapsed_s * (total / done - 1.0),
                )
            )
    return found


def _like(measured: Sequence[CostModel], slots: int) -> CostModel:
    return attrs.evolve(
        measured[0],
        transfer_ns=round(median(costs.transfer_ns for costs in measured)),
        block_transfer_ns=round(median(costs.block_transfer_ns for costs in measured)),
        nominal_batch=slots,
    )


def _point(shape: Shape, windows: Sequence[Window], clock: Clock) -> Point | None:
    """Return the median of windows; None: there is none."""
    if not windows:
        return None
    # A prompt may come in one step earlier or later: only equal ones compare.
    (steps, _), *_ = Counter(one.features.steps for one in windows).most_common(1)
    alike = [one for one in windows if one.features.steps == steps]
    times = [one.wall_ns if clock is Clock.WALL else one.cpu_ns for one in alike]
    middle = median(times)
    spread = 0.0
    if len(times) > 1 and middle > 0:
        low, _, high = quantiles(times, n=4, method="inclusive")
        spread = (high - low) / 2 / middle
    means = (
        round(fmean(column))
        for column in zip(*(one.features for one in alike), strict=True)
    )
    return Point(
        shape=shape,
        features=Features(*means),
        measured_ns=middle,
        spread=spread,
        repeats=len(times),
    )
