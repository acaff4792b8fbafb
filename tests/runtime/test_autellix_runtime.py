"""The life of a runtime: what it checks, how it begins, how it ends."""

import gc
import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus

from autellix import (
    AutellixRuntime,
    BackendUnavailable,
    EngineLost,
    ModelRefused,
    RuntimeClosed,
)
from autellix.backends.simulated import SimulatedEngine
from autellix.balancers import LocalityAware
from autellix.core.facts import Fact
from autellix.core.ranking import Policy
from autellix.errors import EngineNameTaken, NoEngine
from autellix.policies import ATLAS, FCFS
from autellix.runtime.statistics import Cut
from tests.fakes import FakeEngine


class OwnError(Exception):
    """An error of an application."""


# -- construction ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"engines": []}, NoEngine, "at least one engine"),
        (
            {"engines": [FakeEngine(name="a"), FakeEngine(name="a")]},
            EngineNameTaken,
            "two engines are named 'a'",
        ),
        ({"engines": "torch"}, TypeError, "names are for configuration files: 't'"),
        ({"engines": FakeEngine()}, TypeError, "sequence of engines"),
        ({"engines": [FakeEngine]}, TypeError, "pass an instance, FakeEngine"),
        ({"engines": [FakeEngine()], "policy": ATLAS}, TypeError, "ATLAS(…)"),
        ({"engines": [FakeEngine()], "policy": "atlas"}, TypeError, "files: 'atlas'"),
        ({"engines": [FakeEngine()], "balancer": 7}, TypeError, "7 has no choose"),
        ({"engines": [FakeEngine()], "balancer": LocalityAware}, TypeError, "(…)"),
        ({"engines": [FakeEngine()], "shutdown_s": -1}, ValueError, "-1"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_arguments_are_refused_with_their_value(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    """What cannot work is refused at construction, and the message shows it."""
    with pytest.raises(error) as raised:
        AutellixRuntime(**arguments)
    assert says in str(raised.value)


# -- beginning -------------------------------------------------------------------


async def test_engines_load_at_the_same_time() -> None:
    """Loading takes as long as the slowest engine, not as all of them together."""
    engines = [FakeEngine(name=f"e{n}", load_s=5.0) for n in range(3)]
    began_s = anyio.current_time()
    async with AutellixRuntime(engines=engines):
        assert anyio.current_time() - began_s == pytest.approx(5.0)


async def test_an_engine_that_cannot_load_raises_its_own_error() -> None:
    """The error is not wrapped, and what had loaded is given back."""
    error = BackendUnavailable("no such device", engine="broken")
    good = FakeEngine(name="good", load_s=1.0)
    broken = FakeEngine(name="broken", load_s=2.0, load_error=error)
    slow = FakeEngine(name="slow", load_s=9.0)
    with pytest.raises(BackendUnavailable) as raised:
        async with AutellixRuntime(engines=[good, broken, slow]):
            pytest.fail("the block must not be entered")
    assert raised.value is error
    assert anyio.current_time() < 9.0 + 1.0
    assert good.history == ["entered", "left"]
    assert not slow.history


async def test_two_engines_that_cannot_load_raise_both_errors() -> None:
    """Where there are several errors none is lost: they come as a group."""
    engines = [
        FakeEngine(name=name, load_s=1.0, load_error=ModelRefused("no", engine=name))
        for name in ("a", "b")
    ]
    with pytest.raises((ExceptionGroup, ModelRefused)) as raised:
        async with AutellixRuntime(engines=engines):
            pytest.fail("the block must not be entered")
    # trio cancels the second before it could raise, asyncio does not.
    errors = getattr(raised.value, "exceptions", [raised.value])
    assert {error.engine for error in errors} <= {"a", "b"}


async def test_a_runtime_is_entered_once() -> None:
    """Used up is used up: entering it again is an error, not a surprise."""
    runtime = AutellixRuntime(engines=[FakeEngine()])
    async with runtime:
        pass
    with pytest.raises(RuntimeError, match="entered once"):
        async with runtime:
            pytest.fail("the block must not be entered")


async def test_an_engine_belongs_to_one_runtime_at_a_time() -> None:
    """The second is refused at once, by name of the engine; the first goes on."""
    engine = SimulatedEngine(name="mine")
    async with AutellixRuntime(engines=[engine]) as runtime:
        with pytest.raises(RuntimeError, match="engine 'mine' is in use"):
            async with AutellixRuntime(engines=[engine]):
                pytest.fail("the block must not be entered")
        assert (await runtime.generate("hi", max_tokens=2)).report.output_tokens == 2
    async with AutellixRuntime(engines=[engine]) as runtime:  # it was given back
        await runtime.generate("hi", max_tokens=2)


async def test_an_engine_lost_before_it_serves_keeps_the_runtime_from_beginning() -> (
    None
):
    """Then there is nothing yet that could go on without it."""

    class Stillborn(FakeEngine):
        async def serve(
            self,
            policy: Policy,
            listener: Callable[[Fact], None] | None = None,
            *,
            task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
        ) -> None:
            raise EngineLost("no first step", engine=self.name)

    engine = Stillborn()
    with pytest.raises(EngineLost, match="no first step"):
        async with AutellixRuntime(engines=[engine, FakeEngine(name="other")]):
            pytest.fail("the block must not be entered")
    assert engine.history == ["entered", "left"]


def test_a_configuration_file_makes_a_runtime(tmp_path: Path) -> None:
    """``from_config`` is the constructor with names in the place of instances."""
    path = tmp_path / "autellix.toml"
    path.write_text('[[engines]]\nbackend = "simulated"\nname = "one"\n')
    runtime = AutellixRuntime.from_config(path)
    assert [handle.name for handle in runtime._fleet] == ["one"]


# -- outside of the block --------------------------------------------------------

USES: list[Callable[[AutellixRuntime], Any]] = [
    lambda runtime: runtime.generate("hello"),
    lambda runtime: runtime.chat([{"role": "user", "content": "hello"}]),
    lambda runtime: runtime.stream("hello").__aenter__(),
    lambda runtime: runtime.program("late").__aenter__(),
    lambda runtime: runtime.run(anyio.sleep, 0.0),
]


@pytest.mark.parametrize("use", USES, ids=range(len(USES)))
async def test_outside_of_its_block_a_runtime_is_closed(
    use: Callable[[AutellixRuntime], Any],
) -> None:
    """Before and after the block every use raises ``RuntimeClosed``, and says which."""
    runtime = AutellixRuntime(engines=[FakeEngine()])
    with pytest.raises(RuntimeClosed, match="enter the runtime first"):
        await use(runtime)
    async with runtime:
        pass
    with pytest.raises(RuntimeClosed, match="has been left"):
        await use(runtime)


async def test_statistics_after_the_block_hold_what_leaving_has_cancelled() -> None:
    """A call that was cut is booked before the engines are left; before, nothing is."""
    runtime = AutellixRuntime(engines=[SimulatedEngine()])
    with pytest.raises(RuntimeClosed):
        runtime.statistics()
    with anyio.move_on_after(1.0):
        async with runtime:
            await runtime.generate("hello", max_tokens=2)
            await runtime.generate("hello", max_tokens=1_000)
    last = runtime.statistics()
    assert (last.calls.finished, last.calls.cancelled) == (1, 1)
    assert last.calls.running == last.engines["simulated"].calls == 0
    assert last.output_tokens > 2
    assert last is runtime.statistics()


# -- ending ----------------------------------------------------------------------


async def test_an_error_of_the_block_comes_out_as_itself() -> None:
    """Not in a group, and with the cause it had."""
    engine = FakeEngine()
    error, cause = OwnError(), ValueError()
    with pytest.raises(OwnError) as raised:
        async with AutellixRuntime(engines=[engine]):
            raise error from cause
    assert raised.value is error
    assert raised.value.__cause__ is cause
    assert engine.history == ["entered", "left"]


async def test_a_group_of_the_block_stays_a_group() -> None:
    """What the application itself has grouped is its own business."""
    error = OwnError()
    group = ExceptionGroup("mine", [error])
    with pytest.raises(ExceptionGroup) as raised:
        async with AutellixRuntime(engines=[FakeEngine()]):
            raise group
    assert raised.value.message == "mine"  # trio builds the group anew
    assert raised.value.exceptions == (error,)


async def test_cancelling_the_block_leaves_cleanly() -> None:
    """Cancellation goes through, and engines are left all the same."""
    engine = FakeEngine(exit_s=1.0)
    with anyio.move_on_after(3.0) as scope:
        async with AutellixRuntime(engines=[engine]) as runtime:
            await runtime.generate("hello", max_tokens=1_000 - 5)
    assert scope.cancelled_caught
    assert engine.history == ["entered", "left"]


async def test_leaving_releases_consumers_and_reports_what_was_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A consumer outside the block gets ``RuntimeClosed`` at once; nothing hangs."""
    engine = FakeEngine()
    runtime = AutellixRuntime(engines=[engine])

    async def outsider() -> None:
        async with runtime.program("outside") as program:
            with pytest.raises(RuntimeClosed):
                await program.generate("hello", max_tokens=900)

    async with anyio.create_task_group() as tasks, runtime:
        tasks.start_soon(outsider)
        await anyio.sleep(0.1)
    assert runtime.cut is not None
    assert (runtime.cut.programs, runtime.cut.calls) == (1, 1)
    assert "left with work under way" in caplog.text


async def test_nothing_is_reported_where_nothing_was_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A block that has done its work ends in silence."""
    with caplog.at_level(logging.INFO, logger="autellix"):
        async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
            await runtime.generate("hello", max_tokens=3)
    assert runtime.cut is not None
    assert (runtime.cut.programs, runtime.cut.calls, runtime.cut.engines) == (0, 0, ())
    assert not caplog.records


async def test_an_engine_has_so_long_to_leave_and_no_longer() -> None:
    """``shutdown_s`` bounds the end; the engine that took longer is named."""
    quick, slow = FakeEngine(name="quick"), FakeEngine(name="slow", exit_s=100.0)
    runtime = AutellixRuntime(engines=[quick, slow], shutdown_s=2.0)
    async with runtime:
        pass
    assert anyio.current_time() < 90.0
    assert runtime.cut is not None
    assert runtime.cut.engines == ("slow",)


class AtItsStep(FakeEngine):
    """Cancelled, it first completes a step that takes long, in memory of its own."""

    async def serve(
        self,
        policy: Policy,
        listener: Callable[[Fact], None] | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        task_status.started()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(self.step_s)

    async def __aexit__(self, *_: object) -> None:
        self.history.append("left")  # at once


async def test_an_engine_at_a_step_when_the_time_is_up_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The step is completed; who waits is told at the deadline, and what it was."""
    warned_s: list[float] = []

    class Clocked(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "step under way" in record.getMessage():
                warned_s.append(anyio.current_time())

    quick, slow = FakeEngine(name="quick"), AtItsStep(name="slow", step_s=60.0)
    runtime = AutellixRuntime(engines=[quick, slow], shutdown_s=2.0)
    log, handler = logging.getLogger("autellix"), Clocked()
    log.addHandler(handler)
    try:
        async with runtime:
            began_s = anyio.current_time()
            await anyio.sleep(1.0)
        took_s = anyio.current_time() - began_s
    finally:
        log.removeHandler(handler)
    assert took_s == pytest.approx(60.0)
    assert warned_s == pytest.approx([began_s + 1.0 + 2.0])
    assert "a step under way, after 2 s: 'slow'" in caplog.text
    assert runtime.cut is not None
    assert runtime.cut.engines == ("slow",)
    assert slow.history == ["entered", "left"]


async def test_an_engine_at_a_step_that_ends_in_time_is_not_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Leaving takes what the step takes, and not all of ``shutdown_s``."""
    runtime = AutellixRuntime(engines=[AtItsStep(step_s=3.0)], shutdown_s=100.0)
    async with runtime:
        began_s = anyio.current_time()
    assert anyio.current_time() - began_s == pytest.approx(3.0)
    assert runtime.cut == Cut()
    assert not caplog.records


async def test_an_engine_that_hangs_in_an_await_is_cut_at_once() -> None:
    """What it does not shield is cancelled when the block ends, without a wait."""

    class Hangs(FakeEngine):
        async def serve(
            self,
            policy: Policy,
            listener: Callable[[Fact], None] | None = None,
            *,
            task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
        ) -> None:
            task_status.started()
            await anyio.sleep_forever()

    runtime = AutellixRuntime(engines=[Hangs()], shutdown_s=2.0)
    async with runtime:
        began_s = anyio.current_time()
    assert anyio.current_time() == began_s
    assert runtime.cut == Cut()


async def test_a_slow_engine_is_waited_for_within_the_deadline() -> None:
    """Leaving takes what the engine takes, also when the block is cancelled."""
    engine = FakeEngine(exit_s=1.5)
    with anyio.CancelScope() as scope:
        async with AutellixRuntime(engines=[engine]):
            scope.cancel()
            await anyio.sleep(1.0)
    assert engine.history[-1] == "left"


async def test_a_bug_in_an_engine_ends_the_runtime_with_that_error() -> None:
    """What is neither a call's nor an engine's failure is not swallowed."""

    class Buggy(FakeEngine):
        async def serve(
            self,
            policy: Policy,
            listener: Callable[[Fact], None] | None = None,
            *,
            task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
        ) -> None:
            task_status.started()
            await anyio.sleep(1.0)
            raise OwnError

    with pytest.raises(OwnError):
        async with AutellixRuntime(engines=[Buggy()]):
            await anyio.sleep(60.0)


# -- running agents --------------------------------------------------------------


async def test_run_makes_one_program_of_an_agent() -> None:
    """The agent's calls are of one program, which bears the agent's name."""
    opened: list[str | None] = []

    async def greeter(name: str, mark: str) -> str:
        result = await runtime.generate(f"hello {name}", max_tokens=2)
        return result.text + mark

    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
        with runtime.listen(lambda event: opened.append(event.program_class)):
            assert await runtime.run(greeter, "Ada", "!") == "ab!"
            assert await runtime.run(greeter, "Ada", "?", name="other") == "ab?"
        statistics = runtime.statistics()
    assert set(opened) == {"greeter", "other"}
    assert statistics.programs_ended == 2
    assert statistics.anonymous_calls == 0


async def test_a_call_outside_any_program_is_a_program_of_its_own() -> None:
    """It is counted, and its row goes with it."""
    async with AutellixRuntime(engines=[FakeEngine()], policy=FCFS()) as runtime:
        await runtime.generate("hello", max_tokens=2)
        async with runtime.stream("hello", max_tokens=2) as chunks:
            assert runtime.statistics().programs_open == 1
            assert [chunk.text async for chunk in chunks] == ["a", "b"]
        statistics = runtime.statistics()
    assert statistics.anonymous_calls == 2
    assert (statistics.programs_open, statistics.programs_ended) == (0, 2)
    assert not len(runtime._table)


# -- cost ------------------------------------------------------------------------


async def test_an_idle_program_takes_little_memory() -> None:
    """An open program that does nothing costs at most 10 KiB."""
    async with AutellixRuntime(engines=[SimulatedEngine()]) as runtime:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        programs = [runtime.program("idle") for _ in range(1_000)]
        for program in programs:
            await program.__aenter__()
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        for program in reversed(programs):
            await program.__aexit__(None, None, None)
    assert used / 1_000 < 10 * 1024
