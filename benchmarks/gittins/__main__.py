"""Run what is missing, in parallel; write the table and the picture of regret.

    python -m benchmarks.gittins --out gittins
    python -m benchmarks.gittins --seeds 6 --programs 400 --out docs/recordings

On simulated engines in virtual time. Interrupted and asked again, it goes on where it
was; ``--jobs 0`` runs nothing and shows what there is. In the folder are
``results.jsonl`` (as ``autellix bench`` writes it), ``bounds.md`` (also printed) and
``regret.png``; those of engines that evict by use alone, ``--without-retention``, have
that in their names.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from autellix.cli.bench import run_sweeps
from autellix.cli.exit_codes import ExitCode
from autellix.errors import AutellixError
from autellix.evaluation import Store, Sweep
from benchmarks.gittins.bounds import report
from benchmarks.gittins.plan import CHOSEN_ON, REPORTED, Plan
from benchmarks.gittins.regret import draw

TRACES = Path(__file__).parents[2].parent / "shared" / "traces"


def main() -> ExitCode:
    """Run, and tell."""
    typed = arguments(sys.argv[1:])
    plan = plan_of(typed)
    store = Store.open(typed.out / "results.jsonl", to_add=typed.jobs > 0)
    code = ExitCode.OK
    for stage in (plan.first, lambda: plan.second(store)):
        if typed.jobs and code is not ExitCode.INTERRUPTED:
            sweep = Sweep(name="gittins", points=list(stage().values()))
            code = max(code, run_sweeps([sweep], store, jobs=typed.jobs))
    results = plan.results(store)
    if results:
        command = shlex.join(["python", "-m", "benchmarks.gittins", *sys.argv[1:]])
        text = report(plan, results, command)
        suffix = "" if plan.retains_prefixes else "-without-retention"
        path = typed.out / f"bounds{suffix}.md"
        path.write_text(text, encoding="utf-8")
        print(text)
        draw(plan, results, typed.out / f"regret{suffix}.png")
    return code


def plan_of(typed: argparse.Namespace) -> Plan:
    """Return what is asked for."""
    return Plan(
        traces=typed.traces,
        workloads=typed.workloads,
        loads=typed.loads,
        seeds=typed.seeds,
        programs=typed.programs,
        retains_prefixes=not typed.without_retention,
    )


def arguments(typed: Sequence[str]) -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the results")
    add("--traces", type=Path, default=TRACES, help="folder of the recordings")
    known = [*REPORTED, *CHOSEN_ON]
    add("--workloads", nargs="+", choices=known, default=list(REPORTED))
    add("--loads", nargs="+", type=float, default=[0.7, 1.0, 1.3])
    add("--seeds", type=int, default=10)
    add("--programs", type=int, default=1_000, help="in each run; searches 0.3 of it")
    add("--without-retention", action="store_true", help="evict by use alone")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time; 0: none")
    parsed = parser.parse_args(typed)
    if parsed.seeds < 2:
        parser.error(f"--seeds: a warm start takes another seed's: {parsed.seeds}")
    return parsed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AutellixError as error:
        sys.exit(f"benchmarks.gittins: {error}")
