"""The thread of an engine, awaited from either event loop."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what it does on its own is tested
import os
import threading

import anyio
import pytest
import torch

from autellix.backends.torch.worker import Worker, physical_cores, share

pytestmark = pytest.mark.both_loops


async def test_work_is_done_in_one_thread_of_its_own() -> None:
    """The same for each job, and gone once it is stopped."""
    worker = Worker("one", threads=1)
    worker.start()
    threads = [await worker.run(threading.current_thread) for _ in range(3)]
    worker.stop()
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert not threads[0].is_alive()


async def test_what_the_work_raises_is_raised_where_it_is_awaited() -> None:
    """And the thread goes on."""

    def fail() -> None:
        raise ZeroDivisionError("in the worker")

    worker = Worker("one", threads=1)
    worker.start()
    with pytest.raises(ZeroDivisionError, match="in the worker"):
        await worker.run(fail)
    assert await worker.run(lambda: 5) == 5
    worker.stop()


async def test_cancelled_it_returns_only_after_the_work_is_done() -> None:
    """A step under way completes, whoever is tired of waiting."""
    worker = Worker("one", threads=1)
    worker.start()
    go = threading.Event()
    done = []

    def work() -> None:
        go.wait(60)
        done.append(True)

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run, work)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
            assert not done
            go.set()
    assert done
    worker.stop()


async def test_work_that_may_be_left_is_left() -> None:
    """Loading does not hold up whoever gives up on it; the thread ends afterwards."""
    worker = Worker("one", threads=1)
    worker.start()
    thread = await worker.run(threading.current_thread)
    go = threading.Event()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def load() -> None:
                await worker.run(go.wait, may_be_left=True)

            tasks.start_soon(load)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    worker.stop()
    assert thread.is_alive()
    go.set()
    await anyio.to_thread.run_sync(thread.join, 60)
    assert not thread.is_alive()


async def test_two_workers_work_at_the_same_time() -> None:
    """Each waits for the other, so one after the other would never end."""
    barrier = threading.Barrier(2, timeout=60)
    workers = [Worker(name, threads=1) for name in ("one", "two")]
    async with anyio.create_task_group() as tasks:
        for worker in workers:
            worker.start()
            tasks.start_soon(worker.run, barrier.wait)
    for worker in workers:
        worker.stop()


async def test_each_worker_has_the_number_of_cores_it_was_given() -> None:
    """Torch keeps the number for each thread; the caller's own is not touched."""
    own = torch.get_num_threads()
    workers = {threads: Worker(f"of {threads}", threads=threads) for threads in (2, 3)}
    for worker in workers.values():
        worker.start()
    for _ in range(2):
        for threads, worker in workers.items():
            assert await worker.run(torch.get_num_threads) == threads
    for worker in workers.values():
        worker.stop()
    assert torch.get_num_threads() == own


async def test_workers_without_a_number_share_the_cores_as_they_come_and_go() -> None:
    """Looked at before each job."""
    first, second = Worker("one"), Worker("two")
    first.start()
    cores = await first.run(physical_cores)
    assert 1 <= cores <= (os.cpu_count() or 1)
    assert await first.run(torch.get_num_threads) == share(cores, 1)
    second.start()
    assert await first.run(torch.get_num_threads) == share(cores, 2)
    assert await second.run(torch.get_num_threads) == share(cores, 2)
    second.stop()
    assert await first.run(torch.get_num_threads) == share(cores, 1)
    first.stop()


@pytest.mark.parametrize(
    ("cores", "engines", "each"),
    [(8, 1, 7), (8, 2, 3), (2, 1, 1), (2, 2, 1), (1, 1, 1), (4, 9, 1)],
)
def test_engines_share_the_cores_but_one(cores: int, engines: int, each: int) -> None:
    """One is left to the event loop; every engine has at least one."""
    assert share(cores, engines) == each


def test_asyncio_cancelling_the_task_itself_waits_for_the_work_too() -> None:
    """Its own ``cancel`` passes shields; what is under way completes all the same."""

    async def main() -> bool:
        worker = Worker("one", threads=1)
        worker.start()
        go, done = threading.Event(), threading.Event()

        def work() -> None:
            go.wait(60)
            done.set()

        task = asyncio.ensure_future(worker.run(work))
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        worker.stop()
        return done.is_set()

    assert anyio.run(main)
