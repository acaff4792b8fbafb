"""Draw what Gittins learns of three loads: where each simple order is right, and wrong.

    python -m benchmarks.gittins_curves docs/gittins.png

Sizes are those of recorded programs, in seconds of work on an 8B model and an A100; the
model is what 300 of them that ended teach.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from autellix.backends.simulated.presets import LLAMA_8B_A100
from autellix.core.ranking import ChargeSample, ProgramCharge
from autellix.policies import Gittins
from autellix.policies.gittins import IndexTable, LearnedRow
from autellix.workloads.saturation import offered_ns
from autellix.workloads.trace_file import read_trace
from benchmarks.gittins.__main__ import TRACES
from benchmarks.gittins.plan import CONTEXT_TOKENS

LOADS: Final[Mapping[str, tuple[str, ...]]] = {
    "chat (sharegpt): sizes vary wildly": ("sharegpt",),
    "tool use (bfcl_run): sizes are alike": ("bfcl_run",),
    "both under one name": ("sharegpt", "bfcl_run"),
}


def sizes_of(trace: str) -> list[float]:
    """Return the work of the programs of a trace that fit the context, seconds."""
    batch = LLAMA_8B_A100.nominal_batch
    return [
        offered_ns(program, LLAMA_8B_A100, batch=batch) / 1e9
        for program in read_trace(TRACES / f"{trace}.jsonl.gz").programs
        if program.longest_call_tokens <= CONTEXT_TOKENS
    ]


def learned(traces: tuple[str, ...]) -> LearnedRow:
    """Return what is learned from 300 programs of some traces under one name."""
    chance = random.Random(0)
    pools = [sizes_of(name) for name in traces]
    sizes_s = [chance.choice(pools[n % len(pools)]) for n in range(300)]
    policy = Gittins()
    programs = [
        ProgramCharge(
            program_class="one", arrival=n, charge_ns=round(s * 1e9), has_ended=True
        )
        for n, s in enumerate(sizes_s)
    ]
    seen = ChargeSample(
        calls_ns=(), programs_ns=(), programs=programs, programs_ended=len(programs)
    )
    table = policy.recalibrated(policy.ranking(LLAMA_8B_A100.single_step_ns()), seen)
    assert isinstance(table, IndexTable)
    return table.rows["one"]


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    figure = Figure(figsize=(12, 6))
    axes = figure.subplots(2, len(LOADS), sharex=True)
    for column, (title, traces) in enumerate(LOADS.items()):
        row = learned(traces)
        above, below = axes[0][column], axes[1][column]
        above.semilogx(row.ages_s[1:], row.survival[1:])
        above.set_title(title, fontsize=10)
        below.loglog(row.ages_s[1:], row.rank_s[1:], drawstyle="steps-post", lw=2)
        below.loglog(row.ages_s[1:], row.ages_s[1:], ":", color="grey")
        below.axhline(row.rank_s[0], ls="--", color="grey", lw=1)
        below.set_xlim(0.03, 60)
        below.set_ylim(0.05, 60)
        below.set_xlabel("age: work so far, s")
    axes[0][0].set_ylabel("share that goes on")
    axes[1][0].set_ylabel("rank, s (low goes first)")
    axes[1][0].legend(
        ["Gittins", "least attained service", "program-level FCFS"], fontsize=8
    )
    figure.tight_layout()
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    main()
