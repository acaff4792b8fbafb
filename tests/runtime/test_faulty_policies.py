"""A policy with a bug costs what it must, and nothing else: nobody hangs."""

from collections.abc import Iterator

import anyio
import attrs
import pytest

from autellix import AutellixRuntime
from autellix.backends.simulated import SimulatedEngine
from autellix.core.ranking import ChargeSample, Placement, Ranking
from autellix.core.records import Job
from autellix.policies import PLAS, Ladder
from autellix.testing import run_virtual

CALLS = 80


@attrs.frozen(kw_only=True)
class NeverFitted(PLAS):
    """Fails when it is to be fitted."""

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        raise ZeroDivisionError("fit")


@attrs.frozen(kw_only=True)
class Picky(Ladder):
    """Knows no class but one."""

    def enter(self, job: Job, age_ns: int) -> Placement:
        if job.program_class == "unheard of":
            raise LookupError(job.program_class)
        return super().enter(job, age_ns)


def test_a_fit_that_fails_costs_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """All calls end, the engine lives, and the log says what failed."""

    async def main() -> int:
        async with AutellixRuntime(
            engines=[SimulatedEngine()], policy=NeverFitted()
        ) as runtime:
            for _ in range(CALLS):
                await runtime.generate("Hello.", max_tokens=2)
            return runtime.statistics().programs_open

    assert run_virtual(main) == 0
    assert "could not be fitted" in caplog.text


def test_a_ranking_that_refuses_a_call_leaves_none_behind() -> None:
    """The caller gets the error, others go on, and the engine comes to rest."""

    async def main() -> None:
        policy = PLAS(ladder=Picky(bounds_s=(1.0,), quanta_s=(1.0, 1.0)))
        async with AutellixRuntime(
            engines=[SimulatedEngine()], policy=policy
        ) as runtime:
            async with runtime.program("unheard of") as program:
                with pytest.raises(LookupError, match="unheard of"):
                    await program.generate("Hello.", max_tokens=2)
            await runtime.generate("Hello.", max_tokens=2)
            await anyio.sleep(3600)  # would not come back from an engine that spins

    run_virtual(main)


def test_outcomes_are_entered_before_they_are_read() -> None:
    """Without ``async with`` nothing would ever come: it says so."""

    async def main() -> None:
        async with AutellixRuntime(engines=[SimulatedEngine()]) as runtime:

            async def agent(number: int) -> int:
                return number

            with pytest.raises(RuntimeError, match="async with"):
                await anext(runtime.map(agent, [1]))

    run_virtual(main)


def test_endless_inputs_without_a_limit_can_be_left() -> None:
    """Feeding them gives others, and cancellation, a chance."""

    async def main() -> int:
        async with AutellixRuntime(engines=[SimulatedEngine()]) as runtime:

            async def agent(number: int) -> int:
                return number

            def numbers() -> Iterator[int]:
                number = 0
                while True:
                    yield number
                    number += 1

            async with runtime.map(agent, numbers()) as outcomes:
                async for outcome in outcomes:
                    return outcome.index
        return -1

    assert run_virtual(main) == 0
