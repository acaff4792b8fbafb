"""Policies that learn see what calls under way have been charged."""

import anyio
import attrs

from autellix import AutellixRuntime
from autellix.backends.simulated import LLAMA_8B_A100, SimulatedEngine
from autellix.balancers import RoundRobin
from autellix.core.ranking import ChargeSample, Ranking
from autellix.policies import Gittins
from autellix.testing import run_virtual


async def ages_s() -> list[float]:
    """Return the ages of two long calls after a short one has ended."""
    engine = SimulatedEngine(costs=LLAMA_8B_A100)
    async with AutellixRuntime(engines=[engine], policy=Gittins()) as runtime:

        async def call(tokens: int) -> None:
            async with runtime.program("chat") as program:
                await program.generate("hi", max_tokens=tokens, ignore_end=True)

        async with anyio.create_task_group() as tasks:
            for tokens in (20, 400, 400):
                tasks.start_soon(call, tokens)
            await anyio.sleep(2.0)
            calibration = runtime._calibration
            assert calibration is not None
            sample = calibration._sample()
        running = [each for each in sample.programs if not each.has_ended]
        assert len(sample.programs) == 3
        return [each.charge_ns / 1e9 for each in running]


def test_a_program_of_one_long_call_is_older_than_one_that_ended() -> None:
    """Though none of its calls has."""
    first, second = run_virtual(ages_s)
    assert first == second
    assert 0.05 < first < 2.0


@attrs.frozen(kw_only=True)
class Watched(Gittins):
    """Keeps what it is shown."""

    shown: list[ChargeSample] = attrs.field(factory=list)

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        self.shown.append(seen)
        return super().recalibrated(old, seen)


async def shown_at_one_instant() -> list[int]:
    """Return how many programs each fit saw, of two that end at the same instant."""
    policy = Watched()
    engines = [SimulatedEngine(name=name, costs=LLAMA_8B_A100) for name in "ab"]
    async with AutellixRuntime(
        engines=engines, policy=policy, balancer=RoundRobin()
    ) as runtime:

        async def call() -> None:
            async with runtime.program("chat") as program:
                await program.generate("hi", max_tokens=20, ignore_end=True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            tasks.start_soon(call)
    return [len(seen.programs) for seen in policy.shown]


def test_no_call_is_lost_between_two_engines() -> None:
    """An engine that is asked for live work may find that its calls have ended."""
    assert run_virtual(shown_at_one_instant) == [2, 2]
