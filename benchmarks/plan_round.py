"""What one scheduling decision costs, and that waiting calls do not make it dearer.

    python -m benchmarks.plan_round [--rounds 400] [--json]

Two schedulers of 256 slots under PLAS, one with 10,000 waiting calls and one with 100,
take turns, a step each; calls end in most steps and as many arrive, of all levels, so
that some preempt, some age and some are promoted. Once with memory for all 256, once
with so little that calls compete for blocks. What is given is CPU time: of ``plan``,
and of all that the core does in a step (submit, plan, commit). Then Gittins, on sizes
learned from programs like these, takes turns with PLAS, both with 10,000 waiting.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import attrs

from autellix.backends.simulated.presets import LLAMA_8B_A100
from autellix.core.kv_blocks import KVBlocks
from autellix.core.limits import StepLimits
from autellix.core.plan import Plan, Sampled
from autellix.core.ranking import ChargeSample, Policy, ProgramCharge, Ranking
from autellix.core.records import CallSpec, FairnessWindow, Job
from autellix.core.step_scheduler import StepScheduler
from autellix.policies import PLAS, Gittins, Ladder
from benchmarks.figures import Figure, show

T = TypeVar("T")

SLOTS = 256
MANY, FEW = 10_000, 100
BLOCK_TOKENS = 16
PROMPT_TOKENS = (50, 500)
OUTPUT_TOKENS = (50, 400)
MEAN_CALL_BLOCKS = (275 + 112) // BLOCK_TOKENS  # a prompt, and half an output
# What calls inherit, as exponents of 10, seconds. Under PLAS the many that wait are the
# old programs; those that arrive are young and old, and some of them preempt.
OLD, ARRIVING = (1.0, 2.5), (-1.5, 2.5)
LADDER = Ladder.geometric(0.5, 2.5, 8)
_WARM_UP_ROUNDS = 250


@attrs.define
class Load:
    """A scheduler, and calls that keep arriving as others end."""

    waiting: int
    device_blocks: int
    policy: Policy = attrs.field(factory=lambda: PLAS(ladder=LADDER))
    ranking: Ranking = LADDER
    seed: int = 1
    now_ns: int = 0
    submitted: int = 0
    chance: random.Random = attrs.field(init=False)
    words: list[int] = attrs.field(init=False)
    scheduler: StepScheduler = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Fill the slots and the line."""
        self.chance = random.Random(self.seed)
        self.words = [self.chance.randrange(50_000) for _ in range(100_000)]
        self.scheduler = StepScheduler(
            limits=StepLimits(slots=SLOTS, token_budget=2_048),
            blocks=KVBlocks(
                device_blocks=self.device_blocks,
                host_blocks=2 * self.device_blocks,
                block_tokens=BLOCK_TOKENS,
                shares_blocks=True,
            ),
            policy=self.policy,
            ranking=self.ranking,
            costs=LLAMA_8B_A100,
        )
        self.arrive(OLD)

    def arrive(self, exponents: tuple[float, float] = ARRIVING) -> None:
        """Submit calls until as many live as are to run and to wait."""
        while len(self.scheduler.books.calls) < self.waiting + SLOTS:
            self.submitted += 1
            start = self.chance.randrange(90_000)
            prompt = self.words[start : start + self.chance.randint(*PROMPT_TOKENS)]
            program = (
                self.submitted if self.chance.random() < 0.5 else self.submitted // 4
            )
            inherited_ns = round(1e9 * 10 ** self.chance.uniform(*exponents))
            waited_ns = round(self.chance.random() * 8 * inherited_ns)
            spec = CallSpec(
                call_id=self.submitted,
                program_id=program,
                job=Job(program_class="agent", program_arrival=program),
                inherited_ns=inherited_ns,
                window=FairnessWindow(ran_ns=inherited_ns, waited_ns=waited_ns),
                prompt=prompt,
                max_tokens=self.chance.randint(*OUTPUT_TOKENS),
            )
            self.scheduler.submit(spec, self.now_ns)

    def plan(self) -> Plan:
        """Decide."""
        return self.scheduler.plan(self.now_ns)

    def commit(self, plan: Plan) -> None:
        """Book the step as run."""
        samples = {
            call.call_id: Sampled(7)
            for call, tokens in plan.calls
            if call.computed + tokens == len(call.tokens)
        }
        ended_ns = self.now_ns + 20_000_000
        self.scheduler.commit(
            plan, samples, forward_at_ns=self.now_ns, ended_ns=ended_ns
        )
        self.now_ns = ended_ns
        self.scheduler.take_facts()


@attrs.define
class Spent:
    """CPU microseconds of each step."""

    plan_us: list[float] = attrs.field(factory=list)
    step_us: list[float] = attrs.field(factory=list)
    running: list[int] = attrs.field(factory=list)


def step(load: Load, spent: Spent) -> None:
    """Take one step and note what it cost."""
    arriving_us, _ = _timed(load.arrive)
    plan_us, plan = _timed(load.plan)
    commit_us, _ = _timed(lambda: load.commit(plan))
    spent.plan_us.append(plan_us)
    spent.step_us.append(arriving_us + plan_us + commit_us)
    spent.running.append(len(plan.calls))


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start_ns = time.thread_time_ns()
    result = work()
    return (time.thread_time_ns() - start_ns) / 1_000, result


def measure(one: Load, other: Load, rounds: int) -> tuple[Spent, Spent]:
    """Let two loads take turns; return what each costs."""
    for load in (one, other):
        for _ in range(_WARM_UP_ROUNDS):
            step(load, Spent())
    spent = Spent(), Spent()
    for _ in range(rounds):
        step(one, spent[0])
        step(other, spent[1])
    return spent


def ratio_of(one: Spent, other: Spent) -> float:
    """Return by how much decisions of the one are dearer: the median of pairs."""
    pairs = zip(one.plan_us, other.plan_us, strict=True)
    return statistics.median(a / b for a, b in pairs)


def figures(memory: str, device_blocks: int, rounds: int) -> list[Figure]:
    """Measure with so many blocks."""
    loads = Load(MANY, device_blocks), Load(FEW, device_blocks)
    many, few = measure(*loads, rounds)
    plan_us = statistics.median(many.plan_us)
    ratio = ratio_of(many, few)
    return [
        Figure(
            name=f"{memory}: plan, {MANY:,} waiting",
            value=plan_us,
            unit="us",
            at_most=500,
        ),
        Figure(
            name=f"{memory}: plan, {FEW} waiting",
            value=statistics.median(few.plan_us),
            unit="us",
        ),
        Figure(name=f"{memory}: ratio of the two", value=ratio, unit="x", at_most=1.5),
        Figure(
            name=f"{memory}: submit + plan + commit, {MANY:,} waiting",
            value=statistics.median(many.step_us),
            unit="us",
        ),
        Figure(
            name=f"{memory}: calls in a step",
            value=statistics.fmean(many.running),
            unit="",
        ),
    ]


def learned() -> tuple[Policy, Ranking]:
    """Return Gittins, and what it makes of programs as large as these."""
    chance, policy = random.Random(1), Gittins()
    programs = [
        ProgramCharge(
            program_class="agent",
            arrival=number,
            charge_ns=round(1e9 * 10 ** chance.uniform(ARRIVING[0], OLD[1])),
            has_ended=True,
        )
        for number in range(2_000)
    ]
    seen = ChargeSample(
        calls_ns=(), programs_ns=(), programs=programs, programs_ended=len(programs)
    )
    first = policy.ranking(LLAMA_8B_A100.single_step_ns())
    return policy, policy.recalibrated(first, seen) or first


def figures_of_learned(device_blocks: int, rounds: int) -> list[Figure]:
    """Measure what it costs that sizes were learned."""
    policy, ranking = learned()
    loads = Load(MANY, device_blocks, policy, ranking), Load(MANY, device_blocks)
    gittins, plas = measure(*loads, rounds)
    name = "Gittins: plan"
    return [
        Figure(name=name, value=statistics.median(gittins.plan_us), unit="us"),
        Figure(
            name=f"{name}, by PLAS's",
            value=ratio_of(gittins, plas),
            unit="x",
            at_most=1.1,
        ),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    enough = SLOTS * (PROMPT_TOKENS[1] + OUTPUT_TOKENS[1]) // BLOCK_TOKENS
    scarce = round(0.9 * SLOTS * MEAN_CALL_BLOCKS)
    measured = [
        *figures("ample memory", enough, arguments.rounds),
        *figures("scarce memory", scarce, arguments.rounds),
        *figures_of_learned(enough, arguments.rounds),
    ]
    show("plan_round", measured, as_json=arguments.json)


if __name__ == "__main__":
    main()
