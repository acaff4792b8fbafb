"""An engine that fails takes with it what it delivered, and nothing else (B3, B5)."""

from collections.abc import Callable, Sequence

import anyio
import pytest
from anyio.abc import TaskStatus

from autellix import AutellixRuntime, CallFailed, EngineLost, Event
from autellix.backends.simulated import SimulatedEngine
from autellix.balancers import (
    Choice,
    EngineView,
    LocalityAware,
    Placing,
    RoundRobin,
)
from autellix.core.facts import Fact
from autellix.core.ranking import Policy
from autellix.policies import PLAS
from tests.fakes import FakeEngine

BREAK = OSError("the card fell off the bus")


async def test_a_call_without_a_token_is_sent_to_another_engine_once() -> None:
    """B5: the consumer sees nothing of it; what was destroyed is not folded in (A4)."""
    first, second = FakeEngine(name="first", step_s=1.0), FakeEngine(name="second")
    events: list[Event] = []
    async with AutellixRuntime(engines=[first, second], policy=PLAS()) as runtime:
        with runtime.listen(events.append):
            async with runtime.program("test") as program:
                first.crash(BREAK)
                result = await program.generate("hi", max_tokens=2)
                view = runtime._table.view(program.id)
                assert view.service_ns == 2 * 10_000_000
                assert view.calls == 1
        statistics = runtime.statistics()
    assert result.text == "ab"
    assert result.report.engine == "second"
    assert statistics.calls.failed == statistics.calls.retried == 1
    assert not statistics.engines["first"].is_up
    told = [event.kind.value for event in events if event.call is not None]
    assert told == [
        *("submitted", "bound", "ended", "retried", "bound", "first_token", "ended")
    ]
    (retried,) = (event for event in events if event.kind == "retried")
    assert (retried.call, retried.details) == (1, {"was": 0})
    lost = [event.engine for event in events if event.kind == "engine_lost"]
    assert lost == ["first"]


async def test_a_call_that_has_delivered_fails_with_the_cause() -> None:
    """B5: its tokens cannot be taken back, so it is not made again."""
    first, second = FakeEngine(name="first", step_s=1.0), FakeEngine(name="second")
    async with (
        AutellixRuntime(engines=[first, second]) as runtime,
        runtime.stream("hi", max_tokens=50) as chunks,
    ):
        assert (await anext(chunks)).text == "a"
        first.crash(BREAK)
        with pytest.raises(CallFailed) as raised:
            await anext(chunks)
    assert raised.value.engine == "first"
    assert raised.value.__cause__ is BREAK
    assert not second.calls


async def test_a_call_is_sent_again_only_once() -> None:
    """B5: where the second engine is lost too, the call fails."""
    steps_s = {"a": 1.0, "b": 1.5, "c": 0.01}
    engines = [FakeEngine(name=name, step_s=step) for name, step in steps_s.items()]
    async with AutellixRuntime(engines=engines) as runtime:
        engines[0].crash(BREAK)
        engines[1].crash(BREAK)
        with pytest.raises(CallFailed):
            await runtime.generate("hi", max_tokens=5)
        assert not engines[2].calls
        assert (await runtime.generate("hi", max_tokens=1)).report.engine == "c"


class KnowsNoOther(RoundRobin):
    """Has a bug: cannot do without engine a."""

    def choose(
        self, placing: Placing, engines: Sequence[EngineView], *, turn: int
    ) -> Choice:
        if engines[0].name != "a":
            raise LookupError("where is a?")
        return super().choose(placing, engines, turn=turn)


@pytest.mark.parametrize("limit", [None, 1])
async def test_a_call_that_cannot_be_sent_again_ends_with_the_reason(
    limit: int | None,
) -> None:
    """B5: the chain leads to the first failure, and asking again does not hang."""
    engines = [
        FakeEngine(name=name, step_s=1.0, intake_limit_calls=limit) for name in "ab"
    ]
    async with AutellixRuntime(engines=engines, balancer=KnowsNoOther()) as runtime:
        engines[0].crash(BREAK)
        async with (
            runtime.program("test") as program,
            program.stream("hi", max_tokens=2) as chunks,
        ):
            with pytest.raises(CallFailed) as raised:
                await anext(chunks)
            with anyio.fail_after(60.0), pytest.raises(CallFailed) as again:
                await anext(chunks)
        assert not len(runtime._table)
    assert again.value is raised.value
    assert raised.value.engine == "a"
    reason = raised.value.__cause__
    assert isinstance(reason, LookupError)
    first = reason.__context__
    assert isinstance(first, CallFailed)
    assert first.__cause__ is BREAK
    assert not engines[1].calls


async def test_a_call_that_finds_the_other_engine_lost_too_is_told_so() -> None:
    """B5: the consumer gets ``CallFailed``, with the loss of both behind it."""
    engines = [FakeEngine(name=name, step_s=1.0) for name in "ab"]
    async with AutellixRuntime(engines=engines) as runtime:
        engines[0].crash(BREAK)
        engines[1].refusal = EngineLost("gone", engine="b")
        with pytest.raises(CallFailed) as raised:
            await runtime.generate("hi")
        assert not len(runtime._table)
    assert isinstance(raised.value.__cause__, EngineLost)
    assert isinstance(raised.value.__cause__.__context__, CallFailed)


async def test_a_call_is_not_sent_to_another_model_or_a_smaller_engine() -> None:
    """B3: only an engine of its model that it fits is another."""
    first = FakeEngine(name="first", step_s=1.0)
    small = FakeEngine(name="small", max_call_tokens=5)
    other = FakeEngine(name="other", model="other")
    async with AutellixRuntime(engines=[first, small, other]) as runtime:
        first.crash(BREAK)
        with pytest.raises(CallFailed):
            await runtime.generate("hello there", max_tokens=5, model="fake")
    assert not small.calls
    assert not other.calls


async def test_the_others_go_on() -> None:
    """Calls and programs on other engines notice nothing."""
    first, second = FakeEngine(name="first"), FakeEngine(name="second")
    failed: list[CallFailed] = []
    async with AutellixRuntime(
        engines=[first, second], balancer=RoundRobin()
    ) as runtime:

        async def streamed() -> None:
            try:
                async with runtime.stream("hi", max_tokens=50) as chunks:
                    async for _ in chunks:
                        first.crash(BREAK)
            except CallFailed as error:
                failed.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(streamed)
            await anyio.sleep(0.001)
            result = await runtime.generate("hi", max_tokens=50)
    assert len(failed) == 1
    assert (result.report.engine, len(result.token_ids)) == ("second", 50)


async def test_with_no_engine_left_calls_are_told_so_at_once() -> None:
    """The loss is its own class of error and keeps the engine's; nothing hangs."""
    engine = FakeEngine()
    async with AutellixRuntime(engines=[engine]) as runtime:
        engine.crash(BREAK)
        with pytest.raises(CallFailed):
            await runtime.generate("hi")
        with pytest.raises(EngineLost, match="'fake' was lost") as raised:
            await runtime.generate("hi")
        assert runtime.statistics().programs_open == 0
    loss = raised.value.__cause__
    assert isinstance(loss, EngineLost)
    assert loss.__cause__ is BREAK


async def test_an_engine_found_lost_at_submission_is_passed_over() -> None:
    """The call goes to the next one, and no later call tries the lost one."""
    first, second = FakeEngine(name="first"), FakeEngine(name="second")
    first.refusal = EngineLost("gone", engine="first")
    async with AutellixRuntime(engines=[first, second]) as runtime:
        async with runtime.program("test") as program:
            result = await program.generate("hi", max_tokens=1)
            assert result.report.engine == "second"
            assert runtime._table.view(program.id).calls == 1
        assert not runtime.statistics().engines["first"].is_up


async def test_a_program_bound_to_a_lost_engine_is_bound_anew() -> None:
    """B3: dear calls bind to an engine that is there, and stay with it."""
    engines = [FakeEngine(name=name) for name in ("a", "b")]
    balancer = LocalityAware(threshold_tokens=1)
    async with (
        AutellixRuntime(engines=engines, balancer=balancer) as runtime,
        runtime.program("test") as program,
    ):
        await program.generate("a long prompt", max_tokens=1)
        assert runtime._table.view(program.id).engine == "a"
        engines[0].crash(BREAK)
        await anyio.sleep(1.0)
        assert runtime._table.view(program.id).engine is None
        await program.generate("a long prompt", max_tokens=1)
        assert runtime._table.view(program.id).engine == "b"


async def test_an_engine_that_stops_serving_by_itself_is_lost() -> None:
    """Whatever its reason was, it takes no more calls."""

    class Quitter(FakeEngine):
        async def serve(
            self,
            policy: Policy,
            listener: Callable[[Fact], None] | None = None,
            *,
            task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
        ) -> None:
            task_status.started()
            await anyio.sleep(1.0)

    async with AutellixRuntime(engines=[Quitter(name="quitter")]) as runtime:
        await anyio.sleep(2.0)
        with pytest.raises(EngineLost, match="'quitter' was lost"):
            await runtime.generate("hi")


async def test_consumers_get_one_error_for_a_failed_call_whatever_the_engine_says() -> (
    None
):
    """It is ``CallFailed``, with what the engine said as its cause."""
    engine = FakeEngine(failure=EngineLost)
    async with AutellixRuntime(engines=[engine]) as runtime:
        engine.crash(BREAK)
        with pytest.raises(CallFailed) as raised:
            await runtime.generate("hi")
    assert isinstance(raised.value.__cause__, EngineLost)


async def test_a_failed_call_of_a_program_that_has_ended_is_not_sent_again() -> None:
    """B5 is for programs that still want the result."""
    first, second = FakeEngine(name="first"), FakeEngine(name="second")
    async with AutellixRuntime(engines=[first, second]) as runtime:
        program = runtime.program("test")
        await program.__aenter__()

        def leave(event: Event) -> None:
            if event.kind == "ended":
                runtime._dispatch.close_program(program._entered())

        first.crash(BREAK)
        with runtime.listen(leave), pytest.raises(CallFailed):
            await program.generate("hi")
    assert not second.calls


async def test_a_simulated_engine_that_crashes_is_lost_in_the_same_way() -> None:
    """What holds for the fake holds for an engine with a step loop."""
    engines = [SimulatedEngine(name="a"), SimulatedEngine(name="b")]
    async with AutellixRuntime(engines=engines) as runtime:
        async with runtime.program("test") as program:
            engines[0].crash(BREAK)
            result = await program.generate("hi", max_tokens=30)
            assert result.report.engine == "b"
            async with program.stream("hi", max_tokens=1_000) as chunks:
                await anext(chunks)
                engines[1].crash(BREAK)
                with pytest.raises(CallFailed) as raised:
                    _ = [chunk async for chunk in chunks]
            assert raised.value.__cause__ is BREAK
        assert not len(runtime._table)
