"""Who asks is known from the context."""

import asyncio  # noqa: TID251 - its own helpers carry the context too
import gc
import sys
import weakref
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from autellix import AutellixRuntime, ProgramClosed, current_program
from autellix.backends.simulated import SimulatedEngine
from tests.fakes import FakeEngine


async def test_a_program_is_current_inside_its_block_and_only_there() -> None:
    """Before, inside, after: none, itself, none; also when the block fails."""
    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
        assert current_program() is None
        with suppress(ZeroDivisionError):
            async with runtime.program("test") as program:
                assert current_program() is program
                _ = 1 / 0
        assert current_program() is None


async def test_programs_nest_each_with_a_row_of_its_own() -> None:
    """The innermost is the current one, and its calls are its own."""
    engine = FakeEngine()
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("outer") as outer,
    ):
        await runtime.generate("hi", max_tokens=1)
        async with runtime.program("inner") as inner:
            assert current_program() is inner
            await runtime.generate("hi", max_tokens=1)
            assert outer.id in runtime._table
            assert inner.id in runtime._table
        assert current_program() is outer
        await runtime.generate("hi", max_tokens=1)
    owners = [call.spec.program_id for call in engine.calls]
    assert owners == [outer.id, inner.id, outer.id]


async def test_child_tasks_belong_to_the_program_they_were_started_in() -> None:
    """Concurrent programs do not see each other's children."""
    engine = FakeEngine()
    async with AutellixRuntime(engines=[engine]) as runtime:

        async def child(prompt: int) -> None:
            await runtime.generate([prompt], max_tokens=2)

        async def agent(number: int) -> None:
            async with runtime.program("test") as program:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(child, program.id)
                    tasks.start_soon(child, program.id)
                assert current_program() is program

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(agent, number)
        assert runtime.statistics().anonymous_calls == 0
    owners = [(call.spec.program_id, call.spec.prompt[0]) for call in engine.calls]
    assert sorted(owners) == [(n, n) for n in range(3) for _ in range(2)]


async def test_worker_threads_of_anyio_belong_to_the_program() -> None:
    """A thread knows its program, and calls it makes from there are the program's."""
    engine = SimulatedEngine()
    async with AutellixRuntime(engines=[engine]) as runtime:

        def tool() -> tuple[Any, str]:
            ask = partial(runtime.generate, "from a thread", max_tokens=3)
            return current_program(), anyio.from_thread.run(ask).text

        async with runtime.program("test") as program:
            seen, text = await anyio.to_thread.run_sync(tool)
            assert seen is program
            assert len(text) == 3
            assert runtime._table.view(program.id).calls == 1
        assert runtime.statistics().anonymous_calls == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_helpers_keep_the_program(anyio_backend: str) -> None:
    """Tasks, ``gather`` and ``asyncio.to_thread`` are what agents are written with."""
    async with (
        AutellixRuntime(engines=[FakeEngine(step_s=0.001)]) as runtime,
        runtime.program("test") as program,
    ):
        await asyncio.gather(
            runtime.generate("a", max_tokens=1),
            asyncio.create_task(runtime.generate("b", max_tokens=1)),
        )
        assert await asyncio.to_thread(current_program) is program
        assert runtime._table.view(program.id).calls == 2


async def test_an_explicit_program_wins_over_the_context() -> None:
    """Inside one program, a call made from another is the other's."""
    engine = FakeEngine()
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("outer") as outer,
        runtime.program("inner"),
    ):
        await outer.generate("hi", max_tokens=1)
    assert engine.calls[0].spec.program_id == outer.id


async def test_a_program_of_another_runtime_is_not_asked() -> None:
    """Two runtimes in one process: each counts the calls made from itself."""
    first, second = FakeEngine(), FakeEngine()
    async with (
        AutellixRuntime(engines=[first]) as one,
        AutellixRuntime(engines=[second]) as two,
        one.program("test"),
    ):
        await two.generate("hi", max_tokens=1)
        assert two.statistics().anonymous_calls == 1
        assert one.statistics().anonymous_calls == 0
    assert (len(first.calls), len(second.calls)) == (0, 1)


async def test_a_task_that_outlives_its_program_is_told_so() -> None:
    """Its calls are neither billed to the ended program nor to nobody."""
    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
        left = anyio.Event()

        async def straggler() -> None:
            await left.wait()
            with pytest.raises(ProgramClosed, match="'short'"):
                await runtime.generate("hi")

        async with anyio.create_task_group() as tasks:
            async with runtime.program("short"):
                tasks.start_soon(straggler)
            left.set()


async def test_an_ended_program_holds_on_to_no_other() -> None:
    """A nested program that is kept does not keep the one around it."""
    async with AutellixRuntime(engines=[FakeEngine()]) as runtime:
        async with runtime.program("outer") as outer, runtime.program("inner") as inner:
            pass
        gone = weakref.ref(outer)
        del outer
        gc.collect()
        assert gone() is None
        assert inner.is_closed


async def test_the_runtimes_own_tasks_belong_to_no_program() -> None:
    """A runtime entered inside a program does not hold on to it."""
    seen: list[object] = []

    class Curious(FakeEngine):
        async def serve(self, *args: Any, **options: Any) -> None:
            seen.append(current_program())
            await super().serve(*args, **options)

    async with AutellixRuntime(engines=[FakeEngine()]) as outside:
        runtime = AutellixRuntime(engines=[Curious(intake_limit_calls=1)])
        async with outside.program("test") as program:
            await runtime.__aenter__()
            assert current_program() is program
        gone = weakref.ref(program)
        del program
        gc.collect()
        assert gone() is None
        await runtime.__aexit__(*sys.exc_info())
    assert seen == [None]
