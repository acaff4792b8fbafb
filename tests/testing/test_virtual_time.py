"""The virtual clock jumps exactly, waits for threads, and never hangs."""

import asyncio  # noqa: TID251 - the loop under test is asyncio's
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio._backends import _asyncio as anyio_asyncio
from hypothesis import given
from hypothesis import strategies as st

from autellix.testing import DeadlockError, VirtualTimeLoop, run_virtual


def work_for_a_while() -> int:
    """Keep a thread busy for some real milliseconds."""
    return sum(range(300_000))


async def time_after(wait: Callable[[], Awaitable[object]]) -> tuple[float, int]:
    """Run ``wait`` beside a ticking task; return the time it took and the ticks."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.001)
            ticks += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        start = anyio.current_time()
        await wait()
        took = anyio.current_time() - start
        tasks.cancel_scope.cancel()
    return took, ticks


def test_a_day_of_sleep_is_exact_and_instant() -> None:
    """The clock stands at the end of the sleep, to the bit, from zero."""

    async def main() -> list[float]:
        times = [anyio.current_time()]
        for seconds in (0.1, 86_400.0, 3e-9):
            await anyio.sleep(seconds)
            times.append(anyio.current_time())
        return times

    start = 0.0 + 0.1
    assert run_virtual(main) == [
        0.0,
        start,
        start + 86_400.0,
        start + 86_400.0 + 3e-9,
    ]


@given(st.lists(st.integers(min_value=1, max_value=10**15), max_size=8))
def test_timers_fire_at_their_nanosecond_in_order(nanoseconds: list[int]) -> None:
    """Every timer fires at its own instant, ties in the order they were set."""

    async def main() -> list[tuple[int, int]]:
        fired: list[tuple[int, int]] = []

        async def sleeper(index: int, duration_ns: int) -> None:
            await anyio.sleep(duration_ns / 1e9)
            fired.append((round(anyio.current_time() * 1e9), index))

        async with anyio.create_task_group() as tasks:
            for index, duration_ns in enumerate(nanoseconds):
                tasks.start_soon(sleeper, index, duration_ns)
        return fired

    assert run_virtual(main) == sorted((n, i) for i, n in enumerate(nanoseconds))


def test_many_timers_of_one_instant_fire_in_order() -> None:
    """Ties are first come, first served, also where a heap would shuffle them."""

    async def main() -> list[int]:
        fired: list[int] = []
        loop = asyncio.get_running_loop()
        for index in range(50):
            loop.call_at(1.0, fired.append, index)
            loop.call_at(0.5, fired.append, -index).cancel()
        await anyio.sleep(2)
        return fired

    assert run_virtual(main) == list(range(50))


def test_timeouts_are_virtual() -> None:
    """``fail_after`` and ``move_on_after`` live in virtual time too."""

    async def main() -> float:
        with anyio.move_on_after(3600):
            await anyio.sleep_forever()
        with pytest.raises(TimeoutError), anyio.fail_after(100):
            await anyio.sleep(101)
        return anyio.current_time()

    assert run_virtual(main) == 3700.0


@pytest.mark.parametrize(
    "wait",
    [anyio.sleep_forever, lambda: anyio.Event().wait()],
    ids=["sleep forever", "event"],
)
def test_a_deadlock_is_an_error(wait: Callable[[], Awaitable[None]]) -> None:
    """Where nothing can ever happen the loop says so and names who waits."""

    async def waits_in_vain() -> None:
        await wait()

    with pytest.raises(DeadlockError, match="waits_in_vain") as caught:
        run_virtual(waits_in_vain)
    assert len(caught.value.tasks) == 1


def test_tasks_are_cleaned_up_after_a_deadlock() -> None:
    """The deadlocked tasks are cancelled, so that their ``finally`` runs."""
    cleaned: list[str] = []

    async def main() -> None:
        try:
            await anyio.Event().wait()
        finally:
            cleaned.append("up")

    with pytest.raises(DeadlockError):
        run_virtual(main)
    assert cleaned == ["up"]


async def _in_anyio_thread() -> None:
    assert await anyio.to_thread.run_sync(work_for_a_while)


async def _in_executor() -> None:
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, work_for_a_while)


async def _in_asyncio_thread() -> None:
    assert await asyncio.to_thread(work_for_a_while)


async def _in_threads_of_own_limiter() -> None:
    limiter = anyio.CapacityLimiter(2)
    run = functools.partial(anyio.to_thread.run_sync, limiter=limiter)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(run, work_for_a_while)


@pytest.mark.parametrize(
    "wait",
    [_in_anyio_thread, _in_executor, _in_asyncio_thread, _in_threads_of_own_limiter],
)
def test_the_clock_stands_while_threads_work(
    wait: Callable[[], Awaitable[None]],
) -> None:
    """A worker thread takes no virtual time, and a ticking task does not tick."""
    assert run_virtual(time_after, wait) == (0.0, 0)


def test_the_clock_moves_while_a_thread_waits_for_the_loop() -> None:
    """A thread that sleeps on the loop takes virtual time, its own work none."""

    async def hop() -> None:
        def in_thread() -> None:
            work_for_a_while()
            anyio.from_thread.run(anyio.sleep, 1)
            work_for_a_while()
            anyio.from_thread.run(anyio.sleep, 2)
            work_for_a_while()

        await anyio.to_thread.run_sync(in_thread)

    took, ticks = run_virtual(time_after, hop)
    assert took == pytest.approx(3)
    assert ticks == pytest.approx(3000, abs=2)


def test_the_clock_moves_while_an_executor_job_waits_for_the_loop() -> None:
    """The same holds for asyncio's own way back from a thread."""

    async def hop() -> None:
        loop = asyncio.get_running_loop()

        def in_thread() -> None:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(1), loop).result()
            work_for_a_while()

        await loop.run_in_executor(None, in_thread)

    took, ticks = run_virtual(time_after, hop)
    assert took == pytest.approx(1)
    assert ticks == pytest.approx(1000, abs=2)


def test_a_thread_unknown_to_the_loop_can_wake_it() -> None:
    """Before a deadlock is declared, foreign threads get a moment to call in."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def foreign() -> None:
            work_for_a_while()
            loop.call_soon_threadsafe(future.set_result, "woken")

        thread = threading.Thread(target=foreign)
        thread.start()
        result: str = await future
        thread.join()
        return result

    assert run_virtual(main) == "woken"


def test_a_thread_that_never_comes_back_is_an_error() -> None:
    """Patience with working threads has an end in real time."""
    release = threading.Event()

    async def in_thread() -> None:
        await anyio.to_thread.run_sync(release.wait)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_thread)
            try:
                await anyio.sleep(1)
            finally:
                release.set()

    with pytest.raises(DeadlockError, match=r"1 worker thread.* 0\.01 s"):
        anyio.run(
            main,
            backend_options={
                "loop_factory": functools.partial(
                    VirtualTimeLoop, thread_patience_s=0.01
                )
            },
        )


@pytest.mark.parametrize("uses_threads", [False, True], ids=["tasks", "threads"])
def test_two_runs_are_the_same_run(uses_threads: bool) -> None:
    """Same program, same events at the same times; without threads in one order."""

    async def main() -> list[tuple[float, int]]:
        log: list[tuple[float, int]] = []

        async def agent(number: int) -> None:
            for turn in range(4):
                await anyio.sleep((number * 7 + turn * 3) % 5 / 10)
                if uses_threads and number % 3 == 0:
                    await anyio.to_thread.run_sync(work_for_a_while)
                log.append((anyio.current_time(), number))

        async with anyio.create_task_group() as tasks:
            for number in range(9):
                tasks.start_soon(agent, number)
        # Which of two threads of one instant returns first is the machine's choice.
        return sorted(log) if uses_threads else log

    assert run_virtual(main) == run_virtual(main)


def test_results_arguments_and_errors_pass() -> None:
    """``run_virtual`` is ``anyio.run``: arguments in, result or error out."""

    async def divide(a: int, b: int) -> float:
        await anyio.sleep(1)
        return a / b

    assert run_virtual(divide, 6, 3) == 2
    with pytest.raises(ZeroDivisionError):
        run_virtual(divide, 1, 0)


def test_what_the_loop_leans_on_is_still_there() -> None:
    """Canary: the private parts of asyncio and anyio that the clock needs."""

    async def main() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(10, print)
        await anyio.to_thread.run_sync(int)
        workers = anyio_asyncio._threadpool_workers.get()
        idle = anyio_asyncio._threadpool_idle_workers.get()
        seen: dict[str, Any] = vars(loop) | {
            "timers": list(vars(loop)["_scheduled"]),
            "marked": vars(asyncio.TimerHandle)["_scheduled"].__get__(timer),
            "workers": set(workers),
            "idle": set(idle),
        }
        timer.cancel()
        return seen | {"cancelled": vars(loop)["_timer_cancelled_count"]}

    plain = anyio.run(main)
    assert len(plain["timers"]) == 1, "asyncio keeps its timers elsewhere"
    assert plain["marked"] is True, "asyncio marks set timers otherwise"
    assert plain["cancelled"] == 1, "asyncio counts cancelled timers otherwise"
    assert plain["_clock_resolution"] > 0
    assert plain["workers"] == plain["idle"], "anyio keeps its threads elsewhere"
    assert len(plain["workers"]) == 1
    virtual = run_virtual(main)
    assert virtual["cancelled"] == 1
    assert len(virtual["timers"]) == 1


@pytest.mark.parametrize("is_anyio", [True, False], ids=["anyio", "asyncio"])
def test_a_group_is_cancelled_in_the_same_order_in_every_run(is_anyio: bool) -> None:
    """Tasks are told in an order that does not depend on where they lie in memory."""

    async def main() -> list[int]:
        told: list[int] = []

        async def waits(number: int) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                told.append(number)

        async def fails() -> None:
            await anyio.sleep(1)
            raise OSError

        async def in_anyio_group() -> None:
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(waits, number)
                tasks.start_soon(fails)

        async def in_asyncio_group() -> None:
            async with asyncio.TaskGroup() as tasks:
                for number in range(50):
                    tasks.create_task(waits(number))
                tasks.create_task(fails())

        with pytest.raises(ExceptionGroup):
            await (in_anyio_group() if is_anyio else in_asyncio_group())
        return told

    junk = [object() for _ in range(10_001)]
    first = run_virtual(main)
    del junk[::3]
    assert sorted(first) == list(range(50))
    assert run_virtual(main) == first
