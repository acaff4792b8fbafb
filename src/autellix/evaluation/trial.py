"""Runs one point: simulated engines under virtual time, others as time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from autellix.config.plugins import balancer_from, policy_from
from autellix.evaluation.alone import alone_s
from autellix.evaluation.code_digest import code_digest
from autellix.evaluation.lessons import Lessons
from autellix.evaluation.point import Point, kind_of
from autellix.evaluation.programs import (
    arrivals_of,
    programs_of,
    saturation_of,
)
from autellix.evaluation.result import ProgramRow, Result
from autellix.evaluation.setups import engines_of
from autellix.evaluation.timeline import Timeline
from autellix.runtime import AutellixRuntime, Statistics
from autellix.runtime.recording import Recording
from autellix.testing import run_virtual
from autellix.workloads.adapt import check_fits
from autellix.workloads.prompts import Words
from autellix.workloads.replay import Replay, ReplayedProgram
from autellix.workloads.saturation import offered_ns

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine
    from autellix.workloads.trace import TraceProgram

_NS_PER_S: Final = 1_000_000_000
_DRAWN_SEED: Final = 0  # one run is drawn, and to listen costs a little
_DECIDES: Final = (
    "core/*.py",
    "policies/*.py",
    "balancers/*.py",
    "runtime/*.py",
    "backends/*.py",
    "workloads/**/*.py",
    "testing/*.py",
    "evaluation/programs.py",
    "evaluation/trial.py",
)


def run_point(point: Point) -> Result:
    """Run a point of simulated engines; the same point has the same result.

    Errors are those of ``serve_point``.
    """
    return run_virtual(serve_point, point)


async def serve_point(point: Point, engines: Sequence[Engine] | None = None) -> Result:
    """Run a point on the loop of the caller, until all programs have ended.

    On its own engines, or on those given, not entered, of the same options.
    Programs are told their sizes, for policies that look: those are oracles. Errors are
    ``ConfigError`` and ``TraceError`` for what cannot be run, else those of the engine.
    """
    programs = programs_of(point)
    per_s = saturation_of(point, programs)
    arrivals = arrivals_of(point, programs, per_s)
    replay = Replay(
        words=Words(point.seed),
        tells_parents=point.workload.tells_parents,
        size_s=_size_s(point),
    )
    engines = engines or engines_of(point.setup, seed=point.seed)
    runtime = AutellixRuntime(
        engines=engines,
        policy=policy_from(point.policy, "policy"),
        balancer=balancer_from(point.balancer, "balancer"),
    )
    recording = Recording() if point.seed == _DRAWN_SEED else None
    async with runtime:
        began_s = time.process_time()
        for engine in engines:
            limit_tokens = engine.capabilities().max_call_tokens
            check_fits(programs, limit_tokens, source=point.workload.name)
        with ExitStack() as stack:
            if recording is not None:
                stack.enter_context(runtime.listen(recording))
            replayed = await replay.run_all(
                runtime, programs, arrivals, seed=point.seed, limit=point.limit
            )
        seen = runtime.statistics()
        cpu_s = time.process_time() - began_s
    return Result(
        point=point,
        code=code_digest(*_DECIDES, f"backends/{point.setup.backend}/*.py"),
        policy_code=code_digest(f"policies/{kind_of(point.policy)}/*.py"),
        saturation_per_s=per_s,
        rows=_rows(point, programs, replayed),
        wait_s={reason.value: s for reason, s in seen.wait_s.items()},
        counts=_counts(seen),
        cpu_s=cpu_s,
        timeline=None if recording is None else Timeline.of(recording.tracks.values()),
        lessons=None if seen.learned is None else Lessons.of(seen.learned),
    )


def _size_s(point: Point) -> Callable[[TraceProgram], float]:
    """Return what tells the work of a program, as the engine will charge it."""
    costs = point.setup.cost_model
    caches_prefixes = point.setup.options.get("caches_prefixes", True)

    def size_s(program: TraceProgram) -> float:
        work_ns = offered_ns(
            program,
            costs,
            batch=costs.nominal_batch,
            caches_prefixes=caches_prefixes,
        )
        return work_ns / _NS_PER_S

    return size_s


def _rows(
    point: Point,
    programs: Sequence[TraceProgram],
    replayed: Sequence[ReplayedProgram],
) -> list[ProgramRow]:
    """Return what is kept of each program; instants count from the first arrival."""
    costs = point.setup.cost_model
    caches_prefixes = point.setup.options.get("caches_prefixes", True)
    start_s = min(one.started_s for one in replayed)
    return [
        ProgramRow(
            program_class=one.program_class,
            started_s=one.started_s - start_s,
            latency_s=one.latency_s,
            alone_s=alone_s(program, costs, caches_prefixes=caches_prefixes),
            service_s=one.service_s,
            wait_s=one.wait_s,
            calls=one.calls,
            prompt_tokens=one.prompt_tokens,
            cached_tokens=one.cached_tokens,
            output_tokens=one.output_tokens,
        )
        for program, one in zip(programs, replayed, strict=True)
    ]


def _counts(seen: Statistics) -> dict[str, int]:
    counters = [engine.counters for engine in seen.engines.values()]
    return {
        "steps": sum(one.steps for one in counters),
        "model_tokens": sum(one.model_tokens for one in counters),
        "prompt_tokens": seen.prompt_tokens,
        "cached_device_tokens": seen.cached_device_tokens,
        "cached_host_tokens": seen.cached_host_tokens,
        "output_tokens": seen.output_tokens,
        "demotions": seen.demotions,
        "promotions": seen.promotions,
        "reservations": sum(one.reservations for one in counters),
        "rankings": seen.ranking_version,
        **{kind.value: count for kind, count in seen.preemptions.items()},
    }
