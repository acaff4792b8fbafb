"""Policies on real engines, and the same runs simulated with costs fitted to them.

    autellix calibrate --config benchmarks/real_torch.toml --out real/costs.toml
    python -m benchmarks.real_against_simulated --costs real/costs.toml --out real

Chat and Mixed, scaled down (``benchmarks/real_workloads.py``), past saturation; every
policy serves the programs and arrivals of each seed, one policy after the other, so
that what the machine does meanwhile meets all of them. Simulated runs come first, and
say how long the real ones will take. Interrupted, the same command goes on where it
was. What comes out stands in OUT/comparison-CLOCK.md: by how much simulations are off,
and whether they rank policies as real engines do.

``--clock cpu`` is for a machine that does other work: torch engines compute one after
the other under virtual time, and a step lasts the CPU time it really takes
(``benchmarks/cpu_time_engine.py``). It measures and fits the costs of such an engine
itself, into OUT/costs.toml.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from autellix.backends.simulated.preset_file import read_preset
from autellix.cli.numbers import positive, whole
from autellix.cli.toml_text import toml_lines
from autellix.evaluation import Point, Store, run_missing
from autellix.evaluation.calibration import Clock, calibrated
from autellix.evaluation.fidelity import told
from autellix.evaluation.measures import measures
from autellix.evaluation.point import label
from autellix.evaluation.setups import setup_from
from autellix.evaluation.sweep import sweep_from
from autellix.evaluation.trial import serve_point
from autellix.testing import run_virtual
from benchmarks.real_workloads import small_workload

if TYPE_CHECKING:
    from autellix.evaluation import Result

# The vLLM environment has no torch engine's packages, so that is imported where needed.
_LADDER: Final = {"first_s": 0.25, "ratio": 2.0, "levels": 6}
"""Of programs of a few seconds; the default's first level is longer than most."""
_POLICIES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        name: name
        if name in {"fcfs", "program-fcfs"}
        else {"kind": name, "ladder": _LADDER}
        for name in ("fcfs", "program-fcfs", "mlfq", "plas", "atlas")
    }
    | {"gittins": "gittins"}  # its steps follow from what a step costs
)
_LIMITS: Final = {"slots": 4, "token_budget": 256}
_KV: Final = {"kv_tokens": 16_384, "host_tokens": 32_768, "block_tokens": 16}
_REAL: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "torch": {**_LIMITS, **_KV, "threads": 1, "max_context_tokens": 2_048},
        "vllm": {
            **_LIMITS,
            "dtype": "float32",
            "kv_mib": 384,
            "max_context_tokens": 1_024,
        },
    }
)
_SIMULATED: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "torch": {**_LIMITS, **_KV, "max_context_tokens": 2_048},
        # 384 MiB hold so many tokens of 46,080 bytes; on the CPU vLLM swaps nothing.
        "vllm": {
            **_LIMITS,
            "kv_tokens": 8_736,
            "host_tokens": 0,
            "block_tokens": 32,
            "max_context_tokens": 1_024,
        },
    }
)
_ENGINES: Final[Mapping[str, int]] = MappingProxyType({"torch": 2, "vllm": 1})
_COMPARED: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {
        "torch": ("fcfs", "program-fcfs", "mlfq", "plas", "atlas"),
        "vllm": ("fcfs", "plas"),
    }
)
_CHAINS: Final = frozenset({"chat"})
"""Workloads of chains: ATLAS is PLAS there, and is left out."""
_START_S: Final[Mapping[str, float]] = MappingProxyType({"torch": 2.5, "vllm": 5.0})
"""What loading the engines of a run takes, about."""


def main() -> None:
    """Run what is missing, and tell what came out."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    costs_file = arguments.costs or arguments.out / "costs.toml"
    if not costs_file.exists() and arguments.clock is Clock.CPU:
        _measure_cpu_time(costs_file, arguments.rounds)
    try:
        costs = attrs.asdict(read_preset(costs_file))
    except ValueError as error:
        sys.exit(f"{error}; autellix calibrate makes it, see --help")
    store = Store.open(arguments.out / f"results-{arguments.clock}.jsonl")
    pairs = _pairs(arguments, costs)
    simulated = [other for _, other in pairs]
    simulate = partial(
        run_missing, simulated, store, jobs=os.cpu_count() or 1, tell=lambda _: None
    )
    try:
        failures = anyio.run(simulate)
        if failures:
            sys.exit("\n".join(failures))
        if not arguments.rehearse:
            _run_real([real for real, _ in pairs], store, arguments, pairs)
    except KeyboardInterrupt:
        print("interrupted: what has ended is kept; the same command goes on there")
    done = [
        (found[0], found[1])
        for real, other in pairs
        if len(found := store.of([real, other])) == 2
    ]
    if arguments.rehearse:
        _tell_length(store.of(simulated), arguments)
    text = "\n".join(told(done)) if done else "no real run has ended yet"
    head = f"Command: `{_command()}`\n\nCosts: `{costs}`\n"
    (arguments.out / f"comparison-{arguments.clock}.md").write_text(f"{head}\n{text}")
    print(text)


def _pairs(
    arguments: argparse.Namespace, costs: Mapping[str, int]
) -> list[tuple[Point, Point]]:
    """Return every point with its simulation; policies change fastest, then loads."""
    backend = arguments.backend
    policies = arguments.policies or _COMPARED[backend]
    real_setup, simulated_setup = (
        setup_from(
            {"backend": name, **options, "costs": costs},
            engines=arguments.engines or _ENGINES[backend],
            path="engine",
        )
        for name, options in (
            (backend, _REAL[backend]),
            ("simulated", _SIMULATED[backend]),
        )
    )
    points: list[Point] = []
    for name, programs in (
        ("chat", arguments.chat_programs),
        ("mixed", arguments.mixed_programs),
    ):
        compared = [
            _POLICIES[policy]
            for policy in policies
            if policy != "atlas" or name not in _CHAINS
        ]
        if not programs or not compared:
            continue
        sweep = sweep_from(
            {
                "workloads": [str(small_workload(name, arguments.out))],
                "policies": compared,
                "loads": [arguments.load],
                "seeds": arguments.seeds,
                "programs": programs,
            }
        )
        points += sweep.points
    points.sort(key=lambda point: point.seed)
    return [
        (
            attrs.evolve(point, setup=real_setup),
            attrs.evolve(point, setup=simulated_setup),
        )
        for point in points
    ]


def _run_real(
    points: Sequence[Point],
    store: Store,
    arguments: argparse.Namespace,
    pairs: Sequence[tuple[Point, Point]],
) -> None:
    """Run real points one at a time, telling how long the rest will take."""
    expected_s = {
        real.key: _expected_s(store.of([other])[0], arguments.backend)
        for real, other in pairs
    }
    missing = store.missing(points)
    began_s, spent_s = time.perf_counter(), 0.0
    for number, point in enumerate(missing, start=1):
        left_s = sum(expected_s[one.key] for one in missing[number - 1 :])
        pace = (time.perf_counter() - began_s) / spent_s if spent_s else 1.0
        print(
            f"{number} of {len(missing)}: {label(point.policy)} on "
            f"{point.workload.name}, seed {point.seed}; {pace * left_s:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
        if arguments.clock is Clock.CPU:
            store.add(run_virtual(_in_cpu_time, point))
        else:
            store.add(anyio.run(serve_point, point))
        spent_s += expected_s[point.key]


async def _in_cpu_time(point: Point) -> Result:
    from benchmarks.cpu_time_engine import (  # noqa: PLC0415 - needs torch
        cpu_time_engines,
    )

    return await serve_point(point, cpu_time_engines(point.setup))


def _measure_cpu_time(path: Path, rounds: int) -> None:
    """Fit the costs of an engine whose steps last their CPU time."""
    from benchmarks.cpu_time_engine import (  # noqa: PLC0415 - needs torch
        cpu_time_engines,
    )

    nothing = {"step_ns": 0, "prefill_ns": 0, "decode_ns": 0}
    table = {"backend": "torch", **_REAL["torch"], "saturation_costs": nothing}
    found = run_virtual(
        partial(
            calibrated,
            cpu_time_engines(setup_from(table, engines=1, path="engine")),
            longest_tokens=256,
            rounds=rounds,
            clock=Clock.WALL,  # which here is virtual, and goes by CPU time
            tell=lambda told: print(f"costs: {told.share:.0%}", file=sys.stderr),
        )
    )
    errors = {
        name: found.errors(held_out=is_held_out)
        for name, is_held_out in (("fitted", False), ("held_out", True))
    }
    table = {"costs": attrs.asdict(found.costs), "errors": errors}
    path.write_text("\n".join(toml_lines(table)) + "\n")


def _expected_s(result: Result, backend: str) -> float:
    return measures(result.rows).makespan_s + _START_S[backend]


def _tell_length(results: Sequence[Result], arguments: argparse.Namespace) -> None:
    total_s = sum(_expected_s(one, arguments.backend) for one in results)
    print(f"{len(results)} real runs would take about {total_s / 60:.1f} min of wall")
    for one in results:
        found = measures(one.rows)
        print(
            f"  {one.point.workload.name} seed {one.point.seed} "
            f"{label(one.point.policy):40} mean {found.latency_mean_s:6.2f} s, "
            f"P95 {found.latency_p95_s:6.2f}, all {found.makespan_s:6.2f}"
        )


def _command() -> str:
    return " ".join(["python -m benchmarks.real_against_simulated", *sys.argv[1:]])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--costs", type=Path, help="made by autellix calibrate (OUT/costs.toml)")
    add("--out", type=Path, required=True, help="folder of results")
    add("--backend", choices=tuple(_REAL), default="torch")
    add("--clock", type=Clock, choices=tuple(Clock), default=Clock.WALL)
    known = ", ".join(_POLICIES)
    add("--policies", type=_policies, help=f"of {known} (as the backend has)")
    add("--engines", type=positive, help="how many (torch 2, vllm 1)")
    add("--load", type=float, default=4.0, help="multiple of saturation (4)")
    add("--seeds", type=int, default=7)
    add("--chat-programs", type=whole, default=18, help="in each run (18); 0: no chat")
    add("--mixed-programs", type=whole, default=9, help="(9)")
    add("--rounds", type=int, default=5, help="of the calibration of --clock cpu")
    add("--rehearse", action="store_true", help="only simulate, and tell how long")
    arguments = parser.parse_args()
    if arguments.clock is Clock.CPU and arguments.backend != "torch":
        parser.error("--clock cpu is for torch engines")
    if not arguments.chat_programs + arguments.mixed_programs:
        parser.error("no programs are left: see --chat-programs, --mixed-programs")
    return arguments


def _policies(text: str) -> Sequence[str]:
    names = text.split(",")
    for name in names:
        if name not in _POLICIES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {list(_POLICIES)}")
    return names


if __name__ == "__main__":
    main()
