"""A policy of your own: programs of some classes go before all others.

A policy says what a call inherits from its program, how age is ranked into levels, and
who goes first inside a level; docs/writing-a-policy.md says more.
"""

from collections.abc import Sequence

import anyio
import attrs

from autellix import AutellixRuntime
from autellix.backends.simulated import SimulatedEngine
from autellix.core.process_table import ProgramView
from autellix.core.ranking import ChargeSample, InnerOrder, Ranking
from autellix.core.records import Charge
from autellix.policies import AgeRow, Table
from autellix.testing import run_virtual


@attrs.frozen(kw_only=True)
class Favour:
    classes: tuple[str, ...]
    charge: Charge = Charge.SERVICE
    inner_order: InnerOrder = InnerOrder.LEVEL_ARRIVAL
    beta: float | None = 8.0  # who waited 8 times what it ran is promoted

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        return 0

    def ranking(self, step_ns: int) -> Ranking:
        first, second = (AgeRow(starts_s=(0,), levels=(level,)) for level in (0, 1))
        return Table(rows=dict.fromkeys(self.classes, first), default=second)

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        return None


async def ask(runtime: AutellixRuntime, name: str) -> None:
    async with runtime.program(name) as program:
        report = (await program.generate(f"I am {name}.", max_tokens=100)).report
        times = sum(report.preemptions.values())
        print(f"{name:6} ended after {report.ended_s:.2f} s, preempted {times} times")


async def main() -> None:
    policy = Favour(classes=("person",))
    runtime = AutellixRuntime(engines=[SimulatedEngine(slots=2)], policy=policy)
    async with runtime, anyio.create_task_group() as tasks:
        for name in ("batch", "batch", "batch", "person"):
            tasks.start_soon(ask, runtime, name)


if __name__ == "__main__":
    run_virtual(main)
