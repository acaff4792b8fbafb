"""Calls wait in the runtime for engines that want few at a time (rule B4)."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import anyio
import pytest

from autellix import AutellixRuntime, CallFailed, CallRejected, EngineLost
from autellix.backends.protocol import EngineCall
from autellix.backends.stream import CallStream, FinishReason
from autellix.balancers import (
    Choice,
    EngineView,
    LeastLoaded,
    LocalityAware,
    Placing,
)
from autellix.core.cost_model import CostModel
from autellix.core.records import CallReport, Outcome, WaitReason
from autellix.core.snapshot import EngineStatistics
from autellix.errors import PolicyFault
from autellix.policies import FCFS, PLAS, AgeRow, Ladder, Table
from tests.fakes import FakeEngine

LADDER = Ladder.geometric(2.0, 2.0, 4)


async def test_no_more_than_the_limit_are_sent_and_the_rest_wait() -> None:
    """The wait has a reason of its own, and counts in report, row and statistics."""
    engine = FakeEngine(step_s=1.0, intake_limit_calls=2)
    most = 0
    async with AutellixRuntime(engines=[engine], policy=FCFS()) as runtime:
        reports = []

        async def agent() -> None:
            nonlocal most
            async with runtime.program("test") as program:
                result = await program.generate("hi", max_tokens=2)
                reports.append(result.report)
                view = runtime._table.view(program.id)
                waited_s = result.report.wait_s.get(WaitReason.INTAKE, 0.0)
                assert view.wait_ns.get(WaitReason.INTAKE, 0) / 1e9 == waited_s

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(agent)
            for _ in range(12):
                await anyio.sleep(0.5)
                counts = runtime.statistics()
                most = max(most, counts.engines["fake"].calls)
                assert counts.calls.intake + counts.calls.running <= 6
        totals = runtime.statistics()
    assert most == 2
    waited_s = [report.wait_s.get(WaitReason.INTAKE, 0.0) for report in reports]
    assert waited_s == pytest.approx([0, 0, 2, 2, 4, 4])
    assert totals.wait_s[WaitReason.INTAKE] == pytest.approx(12.0)
    for report in reports:
        spent_s = report.service_s + sum(report.wait_s.values())
        assert spent_s == pytest.approx(report.ended_s - report.submitted_s)


async def test_the_queue_is_in_the_order_of_the_policy() -> None:
    """A program that has had little goes before one that has had much."""
    engine = FakeEngine(step_s=1.0, intake_limit_calls=1)
    ended: list[str] = []
    async with AutellixRuntime(engines=[engine], policy=PLAS(ladder=LADDER)) as runtime:

        async def old() -> None:
            async with runtime.program("old") as program:
                await program.generate("hi", max_tokens=9)
                await anyio.sleep(0.5)
                await program.generate("hi", max_tokens=1)
                ended.append("old")

        async def holder() -> None:
            await anyio.sleep(9.2)
            await runtime.generate("hi", max_tokens=3)

        async def new() -> None:
            await anyio.sleep(11.0)
            await runtime.generate("hi", max_tokens=1)
            ended.append("new")

        async with anyio.create_task_group() as tasks:
            for agent in (old, holder, new):
                tasks.start_soon(agent)
    assert ended == ["new", "old"]


async def test_a_lower_first_quantum_wakes_the_queue() -> None:
    """Q3, Q4: who starves by the new ranking is promoted when it says so, not later."""
    engine = FakeEngine(step_s=1.0, intake_limit_calls=1)
    policy = PLAS(ladder=LADDER, beta=8.0)
    async with (
        AutellixRuntime(engines=[engine], policy=policy) as runtime,
        runtime.program("holder") as holder,
        runtime.program("new") as new,
        runtime.program("old") as old,
        anyio.create_task_group() as tasks,
    ):
        await old.generate("old", max_tokens=9)
        tasks.start_soon(holder.generate, "holds the engine")
        await anyio.sleep(0.1)
        tasks.start_soon(old.generate, "old")
        await anyio.sleep(1.0)
        assert runtime._late is not None
        runtime._late.update_ranking(Ladder.geometric(0.5, 2.0, 4))
        await anyio.sleep(3.1)  # 8 times the first quantum, of 0.5 s
        tasks.start_soon(new.generate, "new")
        await anyio.sleep(0.1)
        waiting = runtime._late._intake._waiting.values()
        in_order = sorted(waiting, key=lambda call: call.order)
        assert [call.spec.program_id for call in in_order] == [old.id, new.id]
        tasks.cancel_scope.cancel()


async def test_a_better_call_passes_the_limit() -> None:
    """It enters an engine that is full where that says its worst is worse."""
    engine = FakeEngine(step_s=1.0, intake_limit_calls=1, worst_level=2)
    async with (
        AutellixRuntime(engines=[engine], policy=PLAS(ladder=LADDER)) as runtime,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(runtime.generate, "first")
        await anyio.sleep(0.5)
        tasks.start_soon(runtime.generate, "better")
        await anyio.sleep(0.5)
        assert len(engine.calls) == 2
        engine.worst_level = 0
        tasks.start_soon(runtime.generate, "no better")
        await anyio.sleep(0.5)
        assert len(engine.calls) == 2
        tasks.cancel_scope.cancel()


async def test_a_call_that_has_become_better_passes_the_limit_at_once() -> None:
    """What is learned holds for those who wait, and engines are asked again (Q4)."""
    engine = FakeEngine(step_s=1.0, intake_limit_calls=1, worst_level=1)
    async with (
        AutellixRuntime(engines=[engine], policy=PLAS(ladder=LADDER)) as runtime,
        anyio.create_task_group() as tasks,
    ):
        assert runtime._late is not None
        runtime._late.update_ranking(Table(default=AgeRow(starts_s=[0], levels=[2])))
        tasks.start_soon(runtime.generate, "first")
        tasks.start_soon(runtime.generate, "waits")
        await anyio.sleep(0.5)
        assert len(engine.calls) == 1
        runtime._late.update_ranking(Table(default=AgeRow(starts_s=[0], levels=[0])))
        await anyio.sleep(0.1)
        assert len(engine.calls) == 2
        tasks.cancel_scope.cancel()


async def test_a_fault_found_before_another_ranking_came_is_told_all_the_same() -> None:
    """The call that waits is ended, though the ranking at fault is gone (Q4)."""
    engine, policy = FakeEngine(step_s=1.0, intake_limit_calls=1), PLAS(ladder=LADDER)
    async with (
        AutellixRuntime(engines=[engine], policy=policy) as runtime,
        runtime.program("waits") as program,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(runtime.generate, "holds the engine")
        await anyio.sleep(0.1)

        async def recalibrate() -> None:
            await anyio.sleep(0.1)
            late = runtime._late
            assert late is not None
            fault = PolicyFault(policy, "promote", None, "a Placement")
            late._ranking._faults[program.id] = fault
            late.update_ranking(LADDER)

        tasks.start_soon(recalibrate)
        with pytest.raises(PolicyFault):
            await program.generate("waits")
        tasks.cancel_scope.cancel()


async def test_better_calls_pass_the_limit_one_at_a_time() -> None:
    """An engine has one worst resident: not all that wait can take its place."""
    engine = FakeEngine(step_s=1.0, intake_limit_calls=1, worst_level=0)
    async with (
        AutellixRuntime(engines=[engine], policy=PLAS(ladder=LADDER)) as runtime,
        anyio.create_task_group() as tasks,
    ):
        for number in range(4):
            tasks.start_soon(runtime.generate, [number])
        await anyio.sleep(0.5)
        assert len(engine.calls) == 1
        engine.worst_level = 2
        tasks.start_soon(runtime.generate, "one more arrives")
        await anyio.sleep(0.1)
        assert len(engine.calls) == 2
        tasks.cancel_scope.cancel()


class CatchesUp(FakeEngine):
    """Asked for anything, it first ends the calls that are due."""

    due: Sequence[int] = ()

    def catch_up(self) -> None:
        """End them, as an engine does whose step has ended meanwhile."""
        due, self.due = self.due, ()
        for live in [self._live[call_id] for call_id in due]:
            self._end(live, Outcome.FINISHED)
            live.stream.finish(FinishReason.LENGTH)

    def submit(
        self, call: EngineCall, ended: Callable[[CallReport], None]
    ) -> CallStream:
        self.catch_up()
        return super().submit(call, ended)

    def statistics(self) -> EngineStatistics:
        self.catch_up()
        return super().statistics()


async def test_an_engine_that_ends_calls_as_it_takes_one_gets_them_in_order() -> None:
    """The call being handed over comes before those that its room is for."""
    engine = CatchesUp(step_s=1.0, intake_limit_calls=2)
    async with (
        AutellixRuntime(engines=[engine], policy=FCFS()) as runtime,
        anyio.create_task_group() as tasks,
    ):
        for number in range(4):
            tasks.start_soon(runtime.generate, [number])
            await anyio.sleep(0.1)
        assert [call.spec.prompt[0] for call in engine.calls] == [0, 1]
        engine.due = [0]
        engine._end(engine._live[1], Outcome.CANCELLED)
        assert [call.spec.prompt[0] for call in engine.calls] == [0, 1, 2, 3]
        tasks.cancel_scope.cancel()


async def test_room_that_shows_when_an_engine_is_asked_is_used() -> None:
    """Asking for its worst resident may end a call: then there is room for any."""
    engine = CatchesUp(step_s=1.0, intake_limit_calls=1, worst_level=0)
    async with (
        AutellixRuntime(engines=[engine], policy=FCFS()) as runtime,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(runtime.generate, [0])
        await anyio.sleep(0.5)
        engine.due = [0]
        tasks.start_soon(runtime.generate, [1])
        await anyio.sleep(0.1)
        assert [call.spec.prompt[0] for call in engine.calls] == [0, 1]
        tasks.cancel_scope.cancel()


async def test_a_bound_call_goes_elsewhere_once_its_prefix_is_cheaper_to_rebuild() -> (
    None
):
    """Until then it waits for its own engine, and a free one stays free."""
    engines = [
        FakeEngine(name=name, step_s=20.0, intake_limit_calls=1) for name in ("a", "b")
    ]
    balancer = LocalityAware(threshold_tokens=100)
    async with (
        AutellixRuntime(engines=engines, balancer=balancer) as runtime,
        runtime.program("long") as program,
    ):
        await program.generate([7] * 500, max_tokens=1)
        assert runtime._table.view(program.id).engine == "a"
        cost_s = engines[0].costs.recompute_ns(500) / 1e9
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.generate, "holds a")
            await anyio.sleep(0.1)
            began_s = anyio.current_time()
            result = await program.generate([7] * 500, max_tokens=1)
            tasks.cancel_scope.cancel()
    assert result.report.engine == "b"
    waited_s = result.report.wait_s[WaitReason.INTAKE]
    assert cost_s <= waited_s <= cost_s + 0.001
    assert result.report.submitted_s == pytest.approx(began_s)


async def test_a_call_cancelled_in_the_queue_ends_once_and_was_never_sent() -> None:
    """Its wait is booked, its row and its place are gone."""
    engine = FakeEngine(step_s=1.0, intake_limit_calls=1)
    async with (
        AutellixRuntime(engines=[engine], policy=FCFS()) as runtime,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(runtime.generate, "holds the engine")
        await anyio.sleep(0.5)
        async with runtime.program("test") as program:
            with anyio.move_on_after(2.0) as scope:
                await program.generate("waits", max_tokens=1)
            assert scope.cancelled_caught
            view = runtime._table.view(program.id)
            assert (view.live_calls, view.wait_ns) == (
                0,
                {WaitReason.INTAKE: 2 * 10**9},
            )
        statistics = runtime.statistics()
        tasks.cancel_scope.cancel()
    assert len(engine.calls) == 1
    assert (statistics.calls.intake, statistics.calls.cancelled) == (0, 1)


async def test_leaving_a_program_withdraws_its_calls_from_the_queue() -> None:
    """A8: their consumers are released with ``ProgramClosed``."""
    engine = FakeEngine(step_s=1.0, intake_limit_calls=1)
    errors: list[str] = []
    async with AutellixRuntime(engines=[engine]) as runtime:

        async def ask(program: object) -> None:
            try:
                await program.generate("hi", max_tokens=100)  # type: ignore[attr-defined]
            except Exception as error:  # noqa: BLE001 - looked at below
                errors.append(type(error).__name__)

        async with (
            anyio.create_task_group() as tasks,
            runtime.program("test") as program,
        ):
            for _ in range(3):
                tasks.start_soon(ask, program)
            await anyio.sleep(1.5)
            assert runtime.statistics().calls.intake == 2
        assert runtime.statistics().calls.intake == 0
    assert errors == ["ProgramClosed"] * 3


async def test_calls_that_wait_for_a_lost_engine_go_to_another_or_are_told() -> None:
    """B3, B5: another engine of the model serves them; without one they fail."""
    first = FakeEngine(name="first", step_s=1.0, intake_limit_calls=1)
    second = FakeEngine(name="second", step_s=1.0, intake_limit_calls=1)
    balancer = LeastLoaded()
    async with AutellixRuntime(engines=[first, second], balancer=balancer) as runtime:
        engines: list[str] = []

        async def ask() -> None:
            engines.append((await runtime.generate("hi", max_tokens=2)).report.engine)

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(ask)
            await anyio.sleep(0.5)
            first.crash(OSError("gone"))
        assert engines == ["second"] * 6
        async with anyio.create_task_group() as tasks:

            async def told() -> None:
                with pytest.raises(EngineLost):
                    await runtime.generate("hi", max_tokens=2)

            async def holds() -> None:
                with pytest.raises(Exception, match="failed"):
                    await runtime.generate("hi", max_tokens=2)

            tasks.start_soon(holds)
            await anyio.sleep(0.1)
            tasks.start_soon(told)
            await anyio.sleep(0.1)
            second.crash(OSError("gone"))
        assert not len(runtime._table)


async def test_a_call_bound_to_a_lost_engine_does_not_wait_for_it() -> None:
    """B3: what it would have waited for is gone; a free engine takes it at once."""
    engines = [
        FakeEngine(name=name, step_s=5.0, intake_limit_calls=1) for name in ("a", "b")
    ]
    for engine in engines:
        engine.costs = CostModel(step_ns=0, prefill_ns=10**9, decode_ns=0)
    balancer = LocalityAware(threshold_tokens=1)
    async with (
        AutellixRuntime(engines=engines, balancer=balancer, policy=FCFS()) as runtime,
        runtime.program("long") as program,
    ):
        await program.generate([7] * 500, max_tokens=1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ignoring_loss, runtime, [1])
            await anyio.sleep(6.0)  # it has delivered a token, so it is not retried
            assert engines[0].calls[-1].spec.prompt == (1,)
            engines[0].crash(OSError("gone"))
            result = await program.generate([7] * 500, max_tokens=1)
            tasks.cancel_scope.cancel()
    assert result.report.engine == "b"
    assert result.report.wait_s[WaitReason.INTAKE] < 6.0


async def ignoring_loss(runtime: AutellixRuntime, prompt: list[int]) -> None:
    """Make a call that may fail."""
    with suppress(CallFailed):
        await runtime.generate(prompt, max_tokens=3)


async def test_a_call_taken_by_an_engine_that_is_lost_is_placed_again() -> None:
    """B5: and the queue counts it once only."""
    first = FakeEngine(name="first", step_s=1.0, intake_limit_calls=1)
    second = FakeEngine(name="second", step_s=1.0, intake_limit_calls=1)
    async with (
        AutellixRuntime(engines=[first, second], balancer=LeastLoaded()) as runtime,
        runtime.program("test") as program,
    ):
        first.refusal = EngineLost("gone", engine="first")
        result = await program.generate("hi", max_tokens=2)
        assert result.report.engine == "second"
        assert runtime._late is not None
        assert not len(runtime._late._intake._fairness)


class FirstOfAll:
    """Sends every call to the first engine there is, and binds its program to it."""

    def choose(
        self, placing: Placing, engines: Sequence[EngineView], *, turn: int
    ) -> Choice:
        return Choice(engine=engines[0].name, binds=True)


async def test_a_loss_seen_at_submission_frees_those_who_wait_for_the_engine() -> None:
    """B3: they go where there is room at once, whoever found the engine lost."""
    engines = [
        FakeEngine(name=name, step_s=5.0, intake_limit_calls=1) for name in ("a", "b")
    ]
    engines[0].costs = CostModel(step_ns=0, prefill_ns=10**9, decode_ns=0)
    policy = PLAS(ladder=LADDER, beta=None)
    async with (
        AutellixRuntime(
            engines=engines, balancer=FirstOfAll(), policy=policy
        ) as runtime,
        runtime.program("old") as program,
        anyio.create_task_group() as tasks,
    ):
        await program.generate([7] * 500, max_tokens=1)
        tasks.start_soon(ignoring_loss, runtime, [1])
        await anyio.sleep(0.1)
        tasks.start_soon(program.generate, [8] * 500)
        await anyio.sleep(0.1)
        assert not engines[1].calls
        engines[0].worst_level = 1
        engines[0].refusal = EngineLost("gone", engine="a")
        async with runtime.program("new") as new:
            tasks.start_soon(new.generate, [9])
            await anyio.sleep(0.1)
            assert [call.spec.prompt[0] for call in engines[1].calls] == [8]
            tasks.cancel_scope.cancel()


async def test_an_engine_that_refuses_what_it_took_tells_the_consumer() -> None:
    """A4: the call is none, and its consumer does not wait for ever."""
    engine = FakeEngine(step_s=1.0, intake_limit_calls=1)
    refusal = CallRejected(needed_tokens=3, limit_tokens=2, where="engine 'fake'")
    async with AutellixRuntime(engines=[engine], policy=FCFS()) as runtime:
        async with anyio.create_task_group() as tasks:

            async def refused() -> None:
                with pytest.raises(CallRejected):
                    await runtime.generate("hi", max_tokens=1)

            tasks.start_soon(runtime.generate, [1, 2])
            await anyio.sleep(0.5)
            tasks.start_soon(refused)
            await anyio.sleep(0.5)
            engine.refusal = refusal
            tasks.start_soon(anyio.sleep, 300.0)
        assert runtime.statistics().calls.intake == 0
        assert not len(runtime._table)


async def test_engines_with_and_without_a_limit_serve_together() -> None:
    """The queue stands only in front of those that want one."""
    free = FakeEngine(name="free", step_s=1.0)
    limited = FakeEngine(name="limited", step_s=1.0, intake_limit_calls=1)
    async with AutellixRuntime(
        engines=[limited, free], balancer=LeastLoaded(), policy=FCFS()
    ) as runtime:

        async def agent(_: int) -> str:
            return (await runtime.generate("hi", max_tokens=3)).report.engine

        async with runtime.map(agent, range(9)) as outcomes:
            served = [each.value async for each in outcomes]
    assert len(limited.calls) + len(free.calls) == len(served) == 9
    assert set(served) == {"free", "limited"}
