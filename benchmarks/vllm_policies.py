"""Programs of mixed length on vLLM past saturation: when they end, by policy.

    python -m benchmarks.vllm_policies [--pairs N] [--json]

20 short programs and 20 long ones on one in-process engine with SmolLM2-135M and six
slots. A program comes in after so many steps of the engine, so that arrivals do not
depend on what else the machine does; more work comes in than the engine can do. Every
policy serves the same programs with the same ladder, one after the other, in each of N
rounds with other arrivals. Times are CPU-seconds of the process, and engine steps.

``stock`` is first come, first served; ``static`` sets levels at submission and leaves
them, as vLLM's own ``priority`` can.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from autellix import AutellixRuntime
from autellix.backends.vllm import VllmEngine
from autellix.core.cost_model import CostModel
from autellix.core.ranking import Placement
from autellix.policies import FCFS, MLFQ, PLAS, Ladder

if TYPE_CHECKING:
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import Job

SLOTS = 6
COSTS = CostModel(step_ns=50_000_000, prefill_ns=1_200_000, decode_ns=3_000_000)
"""As measured on two quiet AVX512 cores; fixed, so that all runs decide alike."""
LADDER = Ladder.geometric(0.8, 2.5, 4)
"""The first bound is about ten steps of six calls."""
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31}


@attrs.frozen(kw_only=True)
class Work:
    """One program: calls, tokens each, and the step of the engine it comes in at."""

    calls: int
    tokens: int
    prompt_tokens: int
    at_step: int

    @property
    def is_short(self) -> bool:
        """Whether it belongs to the short half."""
        return self.calls == 2


@attrs.frozen(kw_only=True)
class Ended:
    """When a program ended after it came in, and what it cost to get there."""

    is_short: bool
    cpu_s: float
    steps: int


@attrs.frozen(kw_only=True)
class Still:
    """A ladder on which nobody moves."""

    ladder: Ladder

    @property
    def levels(self) -> int:
        """As many as the ladder has."""
        return self.ladder.levels

    @property
    def first_quantum_ns(self) -> int:
        """Of the ladder."""
        return self.ladder.first_quantum_ns

    def enter(self, job: Job, age_ns: int) -> Placement:
        """Place by what is inherited, for good."""
        return Placement(self.ladder.enter(job, age_ns).level, None)

    def expire(self, job: Job, age_ns: int, level: int) -> Placement:
        """Stay."""
        return Placement(level, None)

    def review(self, job: Job, age_ns: int, level: int) -> None:
        """Stay."""

    def promote(self, job: Job, age_ns: int) -> Placement:
        """Go to level 0, for good."""
        return Placement(0, None)


@attrs.frozen(kw_only=True)
class Static(PLAS):
    """Program-level attained service, looked at when a call is submitted only."""

    def ranking(self, step_ns: int) -> Ranking:
        """Return the ladder, on which nobody moves."""
        return Still(ladder=LADDER)

    def recalibrated(self, old: Ranking, seen: Any) -> None:
        """Keep it."""


POLICIES: dict[str, tuple[Policy, bool]] = {
    "stock": (FCFS(), False),
    "static": (Static(), False),
    "mlfq": (MLFQ(ladder=LADDER), True),
    "plas": (PLAS(ladder=LADDER), True),
}
"""Each with whether it preempts."""


def programs(seed: int) -> list[Work]:
    """Return 40 programs in order of arrival, Poisson in engine steps."""
    draw = random.Random(seed)
    kinds = [True] * 20 + [False] * 20
    draw.shuffle(kinds)
    step, made = 0.0, []
    for is_short in kinds:
        step += draw.expovariate(1 / 2)
        calls, tokens = (2, draw.randint(4, 8)) if is_short else (3, 24)
        made.append(
            Work(
                calls=calls,
                tokens=tokens,
                prompt_tokens=draw.randint(12, 28),
                at_step=int(step),
            )
        )
    return made


async def run(name: str, seed: int) -> tuple[list[Ended], int]:
    """Serve all programs under a policy; return their ends, and all preemptions."""
    policy, preempts = POLICIES[name]
    engine = VllmEngine(
        slots=SLOTS,
        kv_mib=256,
        max_context_tokens=1024,
        costs=COSTS,
        preempts=preempts,
    )
    ends: list[Ended] = []
    async with AutellixRuntime(engines=[engine], policy=policy) as runtime:
        live = 0

        def steps() -> int:
            return engine.statistics().steps

        async def agent(number: int, work: Work) -> None:
            nonlocal live
            while steps() < work.at_step and live:  # noqa: ASYNC110 - steps tell nobody
                await anyio.sleep(0.02)
            live += 1
            draw = random.Random(1_000 * seed + number)
            came_s, came = time.process_time(), steps()
            async with runtime.program("program") as program:
                prompt: list[int] = []
                for _ in range(work.calls):
                    prompt += [draw.randrange(1_000, 40_000) for _ in range(20)]
                    result = await program.generate(
                        tuple(prompt), max_tokens=work.tokens, ignore_end=True
                    )
                    prompt += result.token_ids
            live -= 1
            ends.append(
                Ended(
                    is_short=work.is_short,
                    cpu_s=time.process_time() - came_s,
                    steps=steps() - came,
                )
            )

        async with anyio.create_task_group() as agents:
            for number, work in enumerate(programs(seed)):
                agents.start_soon(agent, number, work)
        preemptions = sum(engine.statistics().preemptions.values())
    return ends, preemptions


def mean(ends: Sequence[Ended], field: str, *, short_only: bool) -> float:
    """Return the mean of a field over programs."""
    chosen = [end for end in ends if end.is_short or not short_only]
    return statistics.fmean(getattr(end, field) for end in chosen)


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of ratios and its 95 % interval, by logarithms."""
    logs = [math.log(ratio) for ratio in ratios]
    middle = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(middle), 0.0, math.inf
    wide = T_95.get(len(logs), 2.26) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - wide), math.exp(middle + wide)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.pairs):
        row: dict[str, Any] = {"seed": seed}
        for name in POLICIES:
            ends, preemptions = anyio.run(run, name, seed)
            row[name] = {
                "short_cpu_s": mean(ends, "cpu_s", short_only=True),
                "all_cpu_s": mean(ends, "cpu_s", short_only=False),
                "short_steps": mean(ends, "steps", short_only=True),
                "all_steps": mean(ends, "steps", short_only=False),
                "preemptions": preemptions,
            }
        rows.append(row)
        print(json.dumps(row) if arguments.json else _line(row), flush=True)
    print("ratio of mean completion, with its 95 % interval")
    for name, against in [
        *((name, "stock") for name in POLICIES if name != "stock"),
        ("plas", "static"),
    ]:
        for field in ("short_cpu_s", "all_cpu_s", "short_steps", "all_steps"):
            ratios = [row[name][field] / row[against][field] for row in rows]
            middle, low, high = interval(ratios)
            label = f"{name} / {against}, {field}"
            print(f"  {label:<32} {middle:.3f}  [{low:.3f}, {high:.3f}]")


def _line(row: dict[str, Any]) -> str:
    parts = [
        f"{name} {row[name]['short_cpu_s']:.1f}/{row[name]['all_cpu_s']:.1f} s"
        f" ({row[name]['preemptions']} preempted)"
        for name in POLICIES
    ]
    return f"round {row['seed']}: short/all: " + ", ".join(parts)


if __name__ == "__main__":
    main()
