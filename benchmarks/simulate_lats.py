"""Simulate a trace through the real runtime, scheduler and KV blocks, in virtual time.

    python -m benchmarks.simulate_lats [--policy plas] [--json]

By default all programs of ``lats_hotpot`` (46,414 calls of tree search) on one engine:
an 8B model on an A100, 64 slots, KV for 60,000 tokens and a host pool, Poisson arrivals
of 0.4 programs a second, PLAS. What is to be met is the CPU time of the whole run on
one core; the rest says what was simulated.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from autellix import AutellixRuntime, Statistics
from autellix.backends.simulated import SimulatedEngine
from autellix.policies import ATLAS, FCFS, MLFQ, PLAS, ProgramFCFS
from autellix.testing import run_virtual
from autellix.workloads.arrivals import Poisson
from autellix.workloads.prompts import Words
from autellix.workloads.replay import Replay, ReplayedProgram, draw
from autellix.workloads.trace_file import read_trace
from benchmarks.figures import Figure, show

if TYPE_CHECKING:
    from autellix.core.ranking import Policy
    from autellix.workloads.trace import TraceProgram

TRACES = Path(__file__).parents[1].parent / "shared" / "traces"
POLICIES: dict[str, Callable[[], Policy]] = {
    "fcfs": FCFS,
    "program-fcfs": ProgramFCFS,
    "mlfq": MLFQ,
    "plas": PLAS,
    "atlas": ATLAS,
}


@attrs.frozen(kw_only=True)
class Setting:
    """What is simulated."""

    policy: str
    programs_per_s: float
    slots: int
    kv_tokens: int
    host_tokens: int
    seed: int


async def simulate(
    programs: Sequence[TraceProgram], setting: Setting
) -> tuple[list[ReplayedProgram], Statistics]:
    """Run the programs until all have ended."""
    engine = SimulatedEngine(
        slots=setting.slots,
        kv_tokens=setting.kv_tokens,
        host_tokens=setting.host_tokens,
        seed=setting.seed,
    )
    arrivals = Poisson(per_s=setting.programs_per_s)
    replay = Replay(words=Words(setting.seed))
    policy = POLICIES[setting.policy]()
    async with AutellixRuntime(engines=[engine], policy=policy) as runtime:
        replayed = await replay.run_all(runtime, programs, arrivals, seed=setting.seed)
        return replayed, runtime.statistics()


def figures(
    replayed: Sequence[ReplayedProgram], seen: Statistics, cpu_s: float
) -> list[Figure]:
    """Return what is to be told of a run."""
    latencies_s = [program.latency_s for program in replayed]
    per_token = [1_000 * program.latency_s_per_token for program in replayed]
    hundredths = statistics.quantiles(latencies_s, n=100)
    prompt_tokens = sum(program.prompt_tokens for program in replayed)
    cached_tokens = sum(program.cached_tokens for program in replayed)
    (engine,) = (snapshot.counters for snapshot in seen.engines.values())
    preempted = sum(engine.preemptions.values())
    return [
        Figure(name="CPU time", value=cpu_s, unit="s", at_most=90),
        Figure(name="calls", value=sum(p.calls for p in replayed), unit=""),
        Figure(name="programs", value=len(replayed), unit=""),
        Figure(name="makespan", value=max(p.ended_s for p in replayed), unit="s"),
        Figure(name="latency, mean", value=statistics.fmean(latencies_s), unit="s"),
        Figure(name="latency, p50", value=hundredths[49], unit="s"),
        Figure(name="latency, p95", value=hundredths[94], unit="s"),
        Figure(name="latency, p99", value=hundredths[98], unit="s"),
        Figure(name="latency/token", value=statistics.fmean(per_token), unit="ms"),
        Figure(name="steps", value=engine.steps, unit=""),
        Figure(name="preemptions", value=preempted, unit=""),
        Figure(name="promotions", value=engine.promotions, unit=""),
        Figure(name="prefix hits", value=100 * cached_tokens / prompt_tokens, unit="%"),
    ]


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trace", type=Path, default=TRACES / "lats_hotpot.jsonl.gz")
    parser.add_argument("--programs", type=int, help="draw so many; default: each once")
    parser.add_argument("--policy", choices=POLICIES, default="plas")
    parser.add_argument("--programs-per-s", type=float, default=0.4)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--kv-tokens", type=int, default=60_000)
    parser.add_argument("--host-tokens", type=int, default=240_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    trace = read_trace(arguments.trace)
    count = arguments.programs or len(trace.programs)
    programs = draw(trace.programs, count, seed=arguments.seed)
    setting = Setting(
        policy=arguments.policy,
        programs_per_s=arguments.programs_per_s,
        slots=arguments.slots,
        kv_tokens=arguments.kv_tokens,
        host_tokens=arguments.host_tokens,
        seed=arguments.seed,
    )
    # A simulation leaves no cycles behind, and to look for them among thousands of
    # prompts time and again would cost a seventh of the whole.
    gc.freeze()
    gc.disable()
    start_s = time.process_time()
    replayed, seen = run_virtual(partial(simulate, programs, setting))
    cpu_s = time.process_time() - start_s
    show("simulate_lats", figures(replayed, seen, cpu_s), as_json=arguments.json)


if __name__ == "__main__":
    main()
