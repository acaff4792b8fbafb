"""What the runtime costs where engines cost nothing: time a call, memory a program.

    python -m benchmarks.runtime_overhead [--json]

Calls of one token on a simulated engine whose steps take no time, from 100 programs at
once; their CPU time is all ours: runtime, scheduler, simulated engine, event loop. Then
10,000 programs that have each made one call and wait, each in a task of its own, as
agents do between calls.
"""

from __future__ import annotations

import argparse
import gc
import logging
import resource
import statistics
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from autellix import AutellixRuntime
from autellix.backends.simulated import SimulatedEngine
from autellix.core.cost_model import CostModel
from autellix.policies import PLAS
from benchmarks.figures import Figure, show

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

PROGRAMS_AT_ONCE, CALLS_OF_EACH, REPEATS = 100, 40, 7
IDLE_PROGRAMS = 10_000
PROMPT = list(range(1_000, 1_032))
KIB = 1_024


def runtime_of_nothing() -> AutellixRuntime:
    """Return a runtime with an engine that takes no time."""
    costs = CostModel(step_ns=0, prefill_ns=0, decode_ns=0)
    engine = SimulatedEngine(costs=costs, slots=PROGRAMS_AT_ONCE)
    return AutellixRuntime(engines=[engine], policy=PLAS())


async def call_ms() -> float:
    """Return the CPU milliseconds of a call."""

    async def agent() -> None:
        async with runtime.program("agent") as program:
            for _ in range(CALLS_OF_EACH):
                await program.generate(PROMPT, max_tokens=1)

    async with runtime_of_nothing() as runtime:
        start_s = time.process_time()
        async with anyio.create_task_group() as agents:
            for _ in range(PROGRAMS_AT_ONCE):
                agents.start_soon(agent)
        spent_s = time.process_time() - start_s
    return 1_000 * spent_s / (PROGRAMS_AT_ONCE * CALLS_OF_EACH)


async def idle_program_bytes(*, traced: bool) -> float:
    """Return the bytes of a program that waits, as Python or the system counts them."""

    async def agent(*, task_status: TaskStatus[None]) -> None:
        async with runtime.program("agent") as program:
            await program.generate(PROMPT, max_tokens=1)
            task_status.started()
            await anyio.sleep_forever()

    async with runtime_of_nothing() as runtime, anyio.create_task_group() as agents:
        await agents.start(agent)
        gc.collect()
        before = _traced_bytes() if traced else _resident_bytes()
        for _ in range(IDLE_PROGRAMS):
            await agents.start(agent)
        gc.collect()
        after = _traced_bytes() if traced else _resident_bytes()
        agents.cancel_scope.cancel()
    return (after - before) / IDLE_PROGRAMS


def _traced_bytes() -> int:
    return tracemalloc.get_traced_memory()[0]


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    logging.disable()  # that all these equal calls end on one level
    anyio.run(call_ms)
    spent_ms = [anyio.run(call_ms) for _ in range(REPEATS)]
    resident = anyio.run(lambda: idle_program_bytes(traced=False))
    tracemalloc.start()
    traced = anyio.run(lambda: idle_program_bytes(traced=True))
    tracemalloc.stop()
    figures = [
        Figure(
            name="CPU time of a call, median",
            value=statistics.median(spent_ms),
            unit="ms",
            at_most=0.4,
        ),
        Figure(name="the same, best", value=min(spent_ms), unit="ms"),
        Figure(
            name="idle program, as Python counts",
            value=traced / KIB,
            unit="KiB",
            at_most=10,
        ),
        Figure(
            name="idle program, resident", value=resident / KIB, unit="KiB", at_most=10
        ),
    ]
    show("runtime_overhead", figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
