"""The programs of a point and when they arrive: the same for every policy."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from autellix.backends.arguments import nearest
from autellix.errors import ConfigError
from autellix.evaluation.point import Arrival, Point, Workload
from autellix.workloads import adapt
from autellix.workloads.arrivals import AllAtOnce, At, Bursts, Poisson
from autellix.workloads.generators import GENERATORS
from autellix.workloads.replay import draw
from autellix.workloads.saturation import saturation_per_s
from autellix.workloads.trace_file import read_trace

if TYPE_CHECKING:
    from autellix.workloads.arrivals import Arrivals
    from autellix.workloads.trace import Trace, TraceProgram

GAPS: Final[Mapping[str, adapt.GapTimes]] = MappingProxyType(
    {"wikipedia": adapt.WIKIPEDIA, "shell": adapt.SHELL, "coding": adapt.CODING}
)
"""Models of gaps that were not recorded, by name."""

_MOST_ASKED: Final = 8


def programs_of(point: Point) -> Sequence[TraceProgram]:
    """Return the programs of a point, in the order in which they arrive.

    From a generator, they are new ones for each seed; from a trace they are drawn by
    the seed, but taken as they come where arrivals are as recorded. Errors are
    ``ConfigError`` and ``TraceError``.
    """
    is_recorded = point.arrivals is Arrival.RECORDED
    return _programs(
        point.workload, point.programs, point.seed, is_recorded=is_recorded
    )


def saturation_of(point: Point, programs: Sequence[TraceProgram]) -> float:
    """Return how many of these programs a second keep all engines just full.

    It is worked out from the very programs that arrive, so that load 1 offers a run as
    much work a second as its engines can do, whatever the luck of the draw.

    Raises:
        ConfigError: The engines take no time.
    """
    options = point.setup.options
    try:
        of_one = saturation_per_s(
            programs,
            point.setup.cost_model,
            slots=options["slots"],
            kv_tokens=options.get("kv_tokens"),
            caches_prefixes=options.get("caches_prefixes", True),
        )
    except ValueError as error:
        raise ConfigError(f"a load cannot be set: {error}") from error
    return of_one * point.setup.engines


def arrivals_of(
    point: Point, programs: Sequence[TraceProgram], per_s: float
) -> Arrivals:
    """Return when the programs of a point arrive.

    Args:
        point: Says how.
        programs: Which they are.
        per_s: At saturation.

    Raises:
        ConfigError: They were not recorded with arrivals, and would have to be.
    """
    try:
        match point.arrivals:
            case Arrival.AT_ONCE:
                return AllAtOnce()
            case Arrival.RECORDED:
                return At.of(programs)
            case Arrival.BURSTS:
                recorded = _in_order(_trace(point.workload).programs)
                return Bursts.of(recorded, per_s=(point.load or 0.0) * per_s)
            case Arrival.POISSON:
                return Poisson(per_s=(point.load or 0.0) * per_s)
    except ValueError as error:
        raise ConfigError(f"workload {point.workload.name!r}: {error}") from error


def check_source(workload: Workload) -> None:
    """Refuse names that stand for nothing.

    Raises:
        ConfigError: A source, or the model of gaps, is not known.
    """
    for part in workload.mix or [workload]:
        _check_known(part.source)
    if workload.gaps is not None and workload.gaps not in GAPS:
        raise ConfigError(
            f"unknown model of gaps {workload.gaps!r}{nearest(workload.gaps, GAPS)}; "
            f"there are {', '.join(GAPS)}"
        )


def _check_known(source: str) -> None:
    """Refuse a name of no generator and no file.

    Raises:
        ConfigError: It is one.
    """
    if source not in GENERATORS and not Path(source).is_file():
        known = ", ".join(sorted(GENERATORS))
        raise ConfigError(
            f"unknown workload {source!r}{nearest(source, GENERATORS)}; there are "
            f"{known}, and trace files by their path (no such file)"
        )


@lru_cache(maxsize=8)
def _programs(
    workload: Workload, count: int | None, seed: int, *, is_recorded: bool
) -> Sequence[TraceProgram]:
    if workload.program_class is not None:
        named = attrs.evolve(workload, program_class=None)
        return [
            attrs.evolve(program, program_class=workload.program_class)
            for program in _programs(named, count, seed, is_recorded=is_recorded)
        ]
    if workload.mix and not is_recorded:
        return _mixed(workload, count, seed)
    if workload.source in GENERATORS:
        trace = _generated(workload, count, seed)
    else:
        trace = _trace(workload)
    programs = trace.programs
    if is_recorded:
        programs = _in_order(programs)[:count]
    elif workload.digest:
        programs = draw(programs, count or len(programs), seed=seed)
    if workload.gaps is None:
        return programs
    drawn = _with(trace, programs)
    return adapt.fill_gaps(drawn, GAPS[workload.gaps], seed=seed).programs


def _mixed(workload: Workload, count: int | None, seed: int) -> list[TraceProgram]:
    """Draw for each program where it is from, by the shares.

    Raises:
        ConfigError: It is not said how many there are to be.
    """
    if count is None:
        raise ConfigError(f"how many programs of {workload.source!r} are there to be?")
    parts = range(len(workload.mix))
    shares = [part.share for part in workload.mix]
    drawn = random.Random(f"{seed}/mix").choices(parts, shares, k=count)
    sources = [_part(workload, number, drawn.count(number), seed) for number in parts]
    return [next(sources[number]) for number in drawn]


def _part(
    workload: Workload, number: int, count: int, seed: int
) -> Iterator[TraceProgram]:
    """Yield so many programs of a part; they share nothing with other parts.

    Yields:
        Each with an id, and a prefix group, that no other part has.
    """
    part = workload.mix[number]
    of_part = attrs.evolve(workload, mix=(), source=part.source, digest=part.digest)
    for program in _programs(of_part, count, seed, is_recorded=False)[:count]:
        calls = [
            attrs.evolve(call, prefix_group=_own(number, call.prefix_group))
            if call.prefix_group is not None
            else call
            for call in program.calls
        ]
        yield attrs.evolve(
            program,
            program_id=f"{number}/{program.program_id}",
            prefix_group=_own(number, program.prefix_group),
            calls=calls,
        )


def _own(number: int, group: str | None) -> str | None:
    return None if group is None else f"{number}/{group}"


def _generated(workload: Workload, count: int | None, seed: int) -> Trace:
    """Return a trace of exactly so many programs.

    Raises:
        ConfigError: It is not said how many, or hardly any is short enough.
    """
    if count is None:
        raise ConfigError(f"how many programs of {workload.source!r} are there to be?")
    asked = count
    if workload.longest_call_tokens is not None:
        asked += count // 16 + 8  # a few are left out; the first stay the same
    while True:
        trace = _adapted(workload, GENERATORS[workload.source](asked, seed=seed))
        if len(trace.programs) >= count:
            return _with(trace, trace.programs[:count])
        if asked >= _MOST_ASKED * count:
            raise ConfigError(
                f"only {len(trace.programs)} of {asked} programs of "
                f"{workload.source!r} fit {workload.longest_call_tokens} tokens: take "
                "longest_call_tokens larger"
            )
        asked *= 2


@lru_cache(maxsize=8)
def _trace(workload: Workload) -> Trace:
    """Return a trace file's programs; there is no other trace to speak of.

    Raises:
        ConfigError: It is a generator, or a mix.
    """
    if not workload.digest:
        made = "mixed" if workload.mix else "generated"
        raise ConfigError(f"{workload.source!r} is {made}: it has no recorded arrivals")
    return _adapted(workload, read_trace(workload.source))


def _adapted(workload: Workload, trace: Trace) -> Trace:
    """Return a trace with what the workload changes; gaps are filled later.

    ``ConfigError`` if no program is left.
    """
    if workload.most_gap_s is not None:
        trace = adapt.cap_gaps(trace, workload.most_gap_s)
    if (workload.prompt_factor, workload.output_factor) != (1.0, 1.0):
        trace = adapt.scale_tokens(
            trace, prompts=workload.prompt_factor, outputs=workload.output_factor
        )
    if workload.longest_call_tokens is None:
        return trace
    return adapt.without_longer(trace, workload.longest_call_tokens)


def _with(trace: Trace, programs: Sequence[TraceProgram]) -> Trace:
    return type(trace)(
        source=trace.source, program_class=trace.program_class, programs=programs
    )


def _in_order(programs: Sequence[TraceProgram]) -> list[TraceProgram]:
    return sorted(programs, key=lambda program: program.arrival_s or 0.0)
