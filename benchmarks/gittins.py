"""What learning sizes is worth: policies on replayed traces, in virtual time.

    python -m benchmarks.gittins run --trace bfcl_run --load 1.0 --seed 0 >> runs.jsonl
    python -m benchmarks.gittins table runs.jsonl

One simulated engine: an 8B model on an A100, 64 slots, prefix cache, host pool.
Programs are drawn from traces, arrive at random, and are run until all have ended;
programs that do not fit the engine's context are left out. Loads are multiples of
saturation (see ``autellix.workloads.saturation``). The same seed gives every policy the
same programs, arrivals and prompts. ``gittins-warm`` starts from what a cold run of
another seed has learned.

``run`` writes a line of JSON for each run; ``table`` compares them by seed.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from autellix import AutellixRuntime, Statistics
from autellix.backends.simulated import SimulatedEngine
from autellix.backends.simulated.presets import LLAMA_8B_A100
from autellix.policies import ATLAS, FCFS, MLFQ, PLAS, SRPT, Gittins, ProgramFCFS
from autellix.policies.gittins import SizeModel
from autellix.testing import run_virtual
from autellix.workloads.arrivals import Poisson
from autellix.workloads.prompts import Words
from autellix.workloads.replay import Replay, ReplayedProgram, draw
from autellix.workloads.saturation import offered_ns, saturation_per_s
from autellix.workloads.trace_file import read_trace

if TYPE_CHECKING:
    from autellix.core.ranking import Policy
    from autellix.workloads.trace import TraceProgram

TRACES: Final = Path(__file__).parents[1].parent / "shared" / "traces"
MIXED: Final = ("sharegpt", "bfcl_ref", "lats_hotpot")
SLOTS: Final = 64
KV_TOKENS: Final = 131_072
HOST_TOKENS: Final = 524_288
CONTEXT_TOKENS: Final = 32_768
BASELINES: Final = ("fcfs", "program-fcfs", "mlfq", "plas", "atlas")
POLICIES: Final[Mapping[str, Callable[[SizeModel], Policy]]] = {
    "fcfs": lambda _: FCFS(),
    "program-fcfs": lambda _: ProgramFCFS(),
    "mlfq": lambda _: MLFQ(),
    "plas": lambda _: PLAS(),
    "atlas": lambda _: ATLAS(),
    "gittins": lambda _: Gittins(),
    "gittins-warm": lambda model: Gittins(model=model),
    "gittins-s/token": lambda _: Gittins(objective="s/token"),
    "srpt": lambda _: SRPT(),
}


@attrs.frozen(kw_only=True)
class Setting:
    """One run.

    Attributes:
        trace: Name of a trace; ``mixed`` draws from three with equal chance, and
            ``mixed-unlabelled`` tells the policy nothing of which is which.
        load: Multiple of saturation.
        count: Programs.
        seed: Of programs, arrivals and prompts.
        policy: Name of a policy.
    """

    trace: str
    load: float
    count: int
    seed: int
    policy: str


def programs_of(trace: str) -> list[TraceProgram]:
    """Return the programs of a trace that fit the engine."""
    found = read_trace(TRACES / f"{trace}.jsonl.gz").programs
    return [each for each in found if each.longest_call_tokens <= CONTEXT_TOKENS]


def drawn(setting: Setting) -> tuple[list[TraceProgram], float]:
    """Return the programs of a run, and how many arrive in a second."""
    if not setting.trace.startswith("mixed"):
        pool = programs_of(setting.trace)
        return draw(pool, setting.count, seed=setting.seed), _rate(pool, setting.load)
    chance = random.Random(f"{setting.seed}/mix")
    pools = {name: programs_of(name) for name in MIXED}
    names = chance.choices(MIXED, k=setting.count)
    queues = {
        name: iter(draw(pool, names.count(name), seed=setting.seed))
        for name, pool in pools.items()
    }
    label = (lambda _: "agent") if setting.trace == "mixed-unlabelled" else str
    programs = [
        attrs.evolve(next(queues[name]), program_class=label(name)) for name in names
    ]
    mean_s = statistics.fmean(1 / _rate(pool, 1.0) for pool in pools.values())
    return programs, setting.load / mean_s


def _rate(pool: Sequence[TraceProgram], load: float) -> float:
    return load * saturation_per_s(
        pool, LLAMA_8B_A100, slots=SLOTS, kv_tokens=KV_TOKENS
    )


def size_s(program: TraceProgram) -> float:
    """Return the total work of a program, for the clairvoyant."""
    batch = LLAMA_8B_A100.nominal_batch
    return offered_ns(program, LLAMA_8B_A100, batch=batch) / 1e9


async def simulate(
    programs: Sequence[TraceProgram], per_s: float, seed: int, policy: Policy
) -> tuple[list[ReplayedProgram], Statistics]:
    """Run the programs until all have ended."""
    engine = SimulatedEngine(
        costs=LLAMA_8B_A100,
        slots=SLOTS,
        kv_tokens=KV_TOKENS,
        host_tokens=HOST_TOKENS,
        max_context_tokens=CONTEXT_TOKENS,
        seed=seed,
    )
    replay = Replay(words=Words(seed), size_s=size_s)
    async with AutellixRuntime(engines=[engine], policy=policy) as runtime:
        replayed = await replay.run_all(
            runtime, programs, Poisson(per_s=per_s), seed=seed
        )
        return replayed, runtime.statistics()


def measured(setting: Setting, model: SizeModel) -> tuple[dict[str, Any], Statistics]:
    """Run one setting; return what is to be told of it."""
    programs, per_s = drawn(setting)
    policy = POLICIES[setting.policy](model)
    began_s = time.process_time()
    replayed, seen = run_virtual(
        partial(simulate, programs, per_s, setting.seed, policy)
    )
    cpu_s = time.process_time() - began_s
    latencies_s = [program.latency_s for program in replayed]
    per_token_s = [program.latency_s_per_token for program in replayed]
    (engine,) = (snapshot.counters for snapshot in seen.engines.values())
    prompts = sum(program.prompt_tokens for program in replayed)
    cached = sum(program.cached_tokens for program in replayed)
    tails_s = statistics.quantiles(per_token_s, n=100)
    told = {
        **attrs.asdict(setting),
        "latency_s": statistics.fmean(latencies_s),
        "p99_s": statistics.quantiles(latencies_s, n=100)[98],
        "s_per_token": statistics.fmean(per_token_s),
        "p99_s_per_token": tails_s[98],
        "makespan_s": max(program.ended_s for program in replayed),
        "preemptions": sum(engine.preemptions.values()),
        "promotions": engine.promotions,
        "hits": cached / prompts,
        "versions": seen.ranking_version,
        "cpu_s": cpu_s,
        "thirds_s": [statistics.fmean(part) for part in _thirds(latencies_s)],
    }
    return told, seen


def _thirds(values: Sequence[float]) -> list[Sequence[float]]:
    third = len(values) // 3
    return [values[:third], values[third : 2 * third], values[2 * third :]]


def run(arguments: argparse.Namespace) -> None:
    """Run the policies on one load and print a line for each."""
    for seed in arguments.seed:
        for trace in arguments.trace:
            for load in arguments.load:
                base = Setting(
                    trace=trace,
                    load=load,
                    count=arguments.programs,
                    seed=seed,
                    policy="gittins",
                )
                model = SizeModel()
                if "gittins-warm" in arguments.policy:
                    _, seen = measured(attrs.evolve(base, seed=seed + 1000), model)
                    assert seen.learned is not None
                    model = seen.learned.model
                for policy in arguments.policy:
                    told, _ = measured(attrs.evolve(base, policy=policy), model)
                    print(json.dumps(told), flush=True)


def table(arguments: argparse.Namespace) -> None:
    """Print how the policies of recorded runs compare, and their spread over seeds."""
    runs: dict[tuple[str, float], dict[str, dict[int, dict[str, Any]]]]
    runs = defaultdict(lambda: defaultdict(dict))
    for file in arguments.runs:
        for line in file.read_text().splitlines():
            told = json.loads(line)
            runs[told["trace"], told["load"]][told["policy"]][told["seed"]] = told
    for measure in arguments.measure:
        print(f"\n{measure}: mean over seeds (± standard deviation)")
        print(f"{'load':<22}" + "".join(f"{name:>17}" for name in POLICIES))
        for (trace, load), policies in sorted(runs.items()):
            cells = [_cell(policies[name].values(), measure) for name in POLICIES]
            best = _against(policies, "gittins", BASELINES, measure)
            warm = _against(policies, "gittins-warm", BASELINES, measure)
            print(f"{trace:<17}{load:>5.1f}" + "".join(cells) + f"   {best} {warm}")


def _cell(runs: Iterable[Mapping[str, Any]], measure: str) -> str:
    values = [each[measure] for each in runs]
    if not values:
        return f"{'-':>17}"
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):>9.4g} ±{spread:<6.2g}"


def _against(
    policies: Mapping[str, Mapping[int, Mapping[str, Any]]],
    policy: str,
    others: Iterable[str],
    measure: str,
) -> str:
    """Return the mean of a policy over that of the best other, on the same seeds."""
    seeds = set(policies[policy])
    means = [
        statistics.fmean(policies[other][seed][measure] for seed in seeds)
        for other in others
        if seeds and policies[other].keys() >= seeds
    ]
    if not means:
        return "-"
    own = statistics.fmean(policies[policy][seed][measure] for seed in seeds)
    return f"{own / min(means):.3f}"


def main() -> None:
    """Run or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run", help="simulate, and print a line for each run")
    one.add_argument("--trace", nargs="+", default=["bfcl_run"])
    one.add_argument("--load", nargs="+", type=float, default=[1.0])
    one.add_argument("--seed", nargs="+", type=int, default=[0])
    one.add_argument("--programs", type=int, default=200)
    one.add_argument("--policy", nargs="+", choices=POLICIES, default=list(POLICIES))
    one.set_defaults(do=run)
    other = commands.add_parser("table", help="compare recorded runs")
    other.add_argument("runs", nargs="+", type=Path)
    other.add_argument(
        "--measure", nargs="+", default=["latency_s", "s_per_token", "p99_s_per_token"]
    )
    other.set_defaults(do=table)
    arguments = parser.parse_args()
    # A simulation leaves no cycles behind; looking for them costs a seventh of it.
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)
    arguments.do(arguments)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
