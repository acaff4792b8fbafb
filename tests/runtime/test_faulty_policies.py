"""A policy with a bug costs what it must, and nothing else: nobody hangs."""

import math
import re
from collections.abc import Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import cast

import anyio
import attrs
import pytest

from autellix import AutellixRuntime
from autellix.backends.simulated import SimulatedEngine
from autellix.core.process_table import ProgramView
from autellix.core.ranking import ChargeSample, Placement, Policy, Ranking
from autellix.core.records import Job
from autellix.errors import PolicyFault
from autellix.policies import PLAS, Ladder
from autellix.policies.checked import CheckedRanking
from autellix.testing import run_virtual
from tests.fakes import FakeEngine

CALLS = 80
LADDER = Ladder(bounds_s=(1.0,), quanta_s=(1.0, 1.0))


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


def test_a_ranking_that_lacks_a_method_is_told_at_the_start() -> None:
    """Not when it is first asked, in the middle of a step."""
    for missing in ("enter", "expire", "review", "promote"):
        has = {"enter", "expire", "review", "promote"} - {missing}
        methods = dict.fromkeys(has, LADDER.enter)
        ranking = SimpleNamespace(levels=2, first_quantum_ns=1, **methods)
        with pytest.raises(PolicyFault, match=rf"with {missing}\(\)"):
            CheckedRanking.of(PLAS(), "ranking", ranking)


@pytest.mark.parametrize("name", ["levels", "first_quantum_ns", "review"])
def test_a_ranking_that_cannot_be_read_is_its_policys_fault(name: str) -> None:
    """The error says which policy, what of its ranking, and why."""

    def fails(_: object) -> object:
        raise ZeroDivisionError("a bug")

    broken = type("Broken", (Ladder,), {name: property(fails)})
    with pytest.raises(PolicyFault, match=f"PLAS.*{name}.*a bug") as fault:
        CheckedRanking.of(PLAS(), "ranking", broken(bounds_s=(1.0,), quanta_s=(1, 1)))
    assert isinstance(fault.value.__cause__, ZeroDivisionError)


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
                with pytest.raises(PolicyFault, match="unheard of") as raised:
                    await program.generate("Hello.", max_tokens=2)
                assert isinstance(raised.value.__cause__, LookupError)
            await runtime.generate("Hello.", max_tokens=2)
            await anyio.sleep(3600)  # would not come back from an engine that spins

    run_virtual(main)


@attrs.frozen(kw_only=True)
class Faulty(Ladder):
    """Has a bug: asked one thing about one class of programs it answers nonsense."""

    asked: str
    answer: object

    def enter(self, job: Job, age_ns: int) -> Placement:
        return self._say("enter", job, super().enter(job, age_ns))

    def expire(self, job: Job, age_ns: int, level: int) -> Placement:
        return self._say("expire", job, super().expire(job, age_ns, level))

    def promote(self, job: Job, age_ns: int) -> Placement:
        return self._say("promote", job, super().promote(job, age_ns))

    def review(self, job: Job, age_ns: int, level: int) -> Placement:
        return self._say("review", job, super().enter(job, age_ns))

    def _say(self, asked: str, job: Job, right: Placement) -> Placement:
        if asked != self.asked or job.program_class != "faulty":
            return right
        if isinstance(self.answer, Exception):
            raise self.answer
        return cast("Placement", self.answer)


@attrs.frozen(kw_only=True)
class Misreckons(PLAS):
    """Has a bug: says nonsense of what one class of programs inherits."""

    answer: object
    from_call: int = 0

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        if program.program_class != "faulty" or program.calls < self.from_call:
            return super().inherited_ns(program, after)
        if isinstance(self.answer, Exception):
            raise self.answer
        return cast("int", self.answer)


def faulty_among_others(policy: Policy, limit: int | None) -> PolicyFault:
    """Run a program the policy fails about beside one it does not; return the fault."""

    async def main() -> PolicyFault:
        engine = SimulatedEngine(slots=1, intake_limit_calls=limit)
        async with AutellixRuntime(engines=[engine], policy=policy) as runtime:

            async def others() -> None:
                async with runtime.program("sound") as program:
                    result = await program.generate("Hello.", max_tokens=500)
                    assert result.report.output_tokens == 500

            async def faulty() -> None:
                async with runtime.program("faulty") as program:
                    for _ in range(2):
                        await program.generate("Hello.", max_tokens=20)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(others)
                with anyio.fail_after(60.0), pytest.raises(PolicyFault) as raised:
                    await faulty()
            await runtime.generate("Hello.", max_tokens=2)
            await anyio.sleep(3600)  # would not come back from an engine that spins
            seen = runtime.statistics()
            assert seen.engines["simulated"].is_up
            assert seen.engines["simulated"].calls == seen.calls.intake == 0
            assert seen.engines["simulated"].counters.device.referenced == 0
            assert not len(runtime._table)
            return raised.value

    return run_virtual(main)


ANSWERS = [
    None,
    Placement(2, None),
    Placement(-1, None),
    Placement(0.0, None),  # type: ignore[arg-type]
    Placement(0, 1.5),  # type: ignore[arg-type]
    ZeroDivisionError("bug"),
]


@pytest.mark.parametrize("limit", [None, 1], ids=["free", "limited"])
@pytest.mark.parametrize("answer", ANSWERS, ids=str)
@pytest.mark.parametrize("asked", ["enter", "expire", "promote"])
def test_a_placement_that_cannot_be_ends_its_program_alone(
    asked: str, answer: object, limit: int | None
) -> None:
    """Its calls end with a fault that names policy and answer; the engine lives."""
    ladder = Faulty(
        bounds_s=(0.05,), quanta_s=(0.05, math.inf), asked=asked, answer=answer
    )
    fault = faulty_among_others(PLAS(ladder=ladder, beta=0.5), limit)
    assert isinstance(fault.policy, PLAS)
    assert (fault.asked, fault.answer) == (asked, answer)
    assert f"policy PLAS: {asked}()" in str(fault)
    assert repr(answer) in str(fault)
    assert fault.__cause__ is (answer if isinstance(answer, Exception) else None)


@pytest.mark.parametrize("answer", ANSWERS[1:], ids=str)
def test_a_review_that_cannot_be_ends_its_program_alone(answer: object) -> None:
    """A call that waits when another ranking comes is ended; who runs goes on."""

    async def main() -> PolicyFault:
        quanta_s = (50.0, math.inf)
        sound = Ladder(bounds_s=(50.0,), quanta_s=quanta_s)
        engine = SimulatedEngine(slots=1)
        async with (
            AutellixRuntime(engines=[engine], policy=PLAS(ladder=sound)) as runtime,
            runtime.program("sound") as program,
            runtime.program("faulty") as faulty,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(partial(program.generate, "Hello.", max_tokens=500))
            await anyio.sleep(0.1)

            async def recalibrate() -> None:
                await anyio.sleep(0.1)
                bug = Faulty(
                    bounds_s=(50.0,), quanta_s=quanta_s, asked="review", answer=answer
                )
                engine.update_ranking(1, bug)

            tasks.start_soon(recalibrate)
            with pytest.raises(PolicyFault) as raised:
                await faulty.generate("Hello.", max_tokens=2)
            assert runtime.statistics().engines["simulated"].calls == 1
        return raised.value

    fault = run_virtual(main)
    assert (fault.asked, fault.answer) == ("review", answer)


def test_a_promotion_leads_to_level_0() -> None:
    """Any other level is a fault."""
    ladder = Faulty(
        bounds_s=(0.05,),
        quanta_s=(0.05, math.inf),
        asked="promote",
        answer=Placement(1, None),
    )
    fault = faulty_among_others(PLAS(ladder=ladder, beta=0.5), None)
    assert "level in 0..0" in str(fault)


@pytest.mark.parametrize("from_call", [0, 1], ids=["at first", "as it ends"])
@pytest.mark.parametrize("answer", [None, 1.5, -1, ZeroDivisionError("bug")], ids=str)
def test_a_program_whose_inheritance_cannot_be_is_told_so(
    answer: object, from_call: int
) -> None:
    """When the call is submitted, or when it is booked: never at the engine's cost."""
    fault = faulty_among_others(Misreckons(answer=answer, from_call=from_call), None)
    assert (fault.asked, fault.answer) == ("inherited_ns", answer)
    assert repr(answer) in str(fault)


def test_a_call_that_cannot_be_booked_ends_with_the_fault() -> None:
    """It has been answered, but what it leaves to its program cannot be said."""

    async def main() -> None:
        policy = Misreckons(answer=None, from_call=1)
        async with (
            AutellixRuntime(engines=[SimulatedEngine()], policy=policy) as runtime,
            runtime.program("faulty") as program,
        ):
            with pytest.raises(PolicyFault, match="inherited_ns"):
                await program.generate("Hello.", max_tokens=2)
            assert runtime._table.view(program.id).live_calls == 0
            assert runtime.statistics().calls.finished == 1

    run_virtual(main)


def test_a_fault_about_a_call_that_waits_for_an_engine_ends_it_there() -> None:
    """It leaves the runtime's own queue when it is to be promoted, and is not sent."""

    async def main() -> None:
        engine = FakeEngine(step_s=1.0, intake_limit_calls=1)
        ladder = Faulty(
            bounds_s=(2.0,), quanta_s=(2.0, 2.0), asked="promote", answer=None
        )
        policy = PLAS(ladder=ladder, beta=8.0)
        async with (
            AutellixRuntime(engines=[engine], policy=policy) as runtime,
            runtime.program("holder") as holder,
            runtime.program("faulty") as faulty,
            anyio.create_task_group() as tasks,
        ):
            await faulty.generate("first", max_tokens=3)
            tasks.start_soon(holder.generate, "holds the engine")
            await anyio.sleep(0.1)
            began_s = anyio.current_time()
            with anyio.fail_after(60.0), pytest.raises(PolicyFault, match="promote"):
                await faulty.generate("second", max_tokens=3)
            assert anyio.current_time() - began_s == pytest.approx(8.0 * 2.0)
            assert len(engine.calls) == 2
            assert runtime.statistics().calls.intake == 0
            assert runtime._table.view(faulty.id).live_calls == 0
            tasks.cancel_scope.cancel()

    run_virtual(main)


@pytest.mark.parametrize("ranking", [None, 7, ZeroDivisionError("bug")], ids=str)
def test_without_a_ranking_the_runtime_does_not_begin(ranking: object) -> None:
    """It says which policy, and what that answered."""

    @attrs.frozen(kw_only=True)
    class Without(PLAS):
        def ranking(self, step_ns: int) -> Ranking:
            if isinstance(ranking, Exception):
                raise ranking
            return cast("Ranking", ranking)

    async def main() -> None:
        with pytest.raises(PolicyFault, match=re.escape(repr(ranking))):
            async with AutellixRuntime(engines=[SimulatedEngine()], policy=Without()):
                pytest.fail("the block must not be entered")

    run_virtual(main)


@pytest.mark.parametrize("new", [7, Ladder(bounds_s=(1.0,), quanta_s=(1.0, 1.0))])
def test_a_fit_that_is_none_changes_nothing(
    new: object, caplog: pytest.LogCaptureFixture
) -> None:
    """No ranking, or one of another number of levels: the one in force stays."""

    @attrs.frozen(kw_only=True)
    class Misfits(PLAS):
        def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
            return cast("Ranking", new)

    async def main() -> int:
        async with AutellixRuntime(
            engines=[SimulatedEngine()], policy=Misfits()
        ) as runtime:
            for _ in range(CALLS):
                await runtime.generate("Hello.", max_tokens=2)
            return runtime.statistics().ranking_version

    assert run_virtual(main) == 0
    assert "policy Misfits: recalibrated() answered" in caplog.text


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
