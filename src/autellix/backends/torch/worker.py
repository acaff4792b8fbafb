"""A thread of its own for each engine, awaited from any event loop.

Not anyio's pool of threads: torch keeps the number of its threads for each thread that
uses it, and two engines must not change it for one another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import attrs

T = TypeVar("T")

_PREFIX = "autellix-torch-"


@attrs.define(eq=False)
class _Job(Generic[T]):
    """Work on its way through the worker's thread."""

    work: Callable[[], T]
    token: anyio.lowlevel.EventLoopToken
    done: anyio.Event = attrs.field(factory=anyio.Event)
    results: list[T] = attrs.field(factory=list)
    error: BaseException | None = None

    def run(self, prepare: Callable[[], None]) -> None:
        try:
            prepare()
            self.results.append(self.work())
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            self.error = error
        try:
            anyio.from_thread.run_sync(self.done.set, token=self.token)
        except anyio.RunFinishedError:
            return  # the loop is gone, and with it whoever waited


class Worker:
    """One thread that does one thing at a time.

    Args:
        name: Of the engine; seen in stack dumps.
        threads: Cores torch may use for a job. None: the physical cores but one, which
            is left to the event loop, shared among the workers that are running; it
            is looked at before each job, so engines that come later get their share.
    """

    def __init__(self, name: str, *, threads: int | None = None) -> None:
        self._threads = threads
        self._used: int | None = None
        self._was_left = False
        self._jobs: SimpleQueue[_Job[object] | None] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._serve, name=_PREFIX + name, daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; one that is at a job which was left ends after it."""
        self._jobs.put(None)
        if not self._was_left:
            self._thread.join()  # it is idle

    async def run(self, work: Callable[[], T], *, may_be_left: bool = False) -> T:
        """Return what ``work`` returns; raise what it raises.

        Cancelled, it waits until the work is done, so that no work goes on that nobody
        knows of; the next checkpoint is cancelled. With ``may_be_left`` it leaves it.
        """
        job = _Job(work, anyio.lowlevel.current_token())
        self._jobs.put(job)  # type: ignore[arg-type]  # of any type, only run here
        if may_be_left:
            self._was_left = True
            await job.done.wait()
            self._was_left = False
        else:
            await _wait_through_cancellation(job.done)
        if job.error is not None:
            raise job.error
        return job.results[0]

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run(self._set_threads)

    def _set_threads(self) -> None:
        import torch  # noqa: PLC0415 - takes seconds: not on the event loop's thread

        threads = self._threads or share(physical_cores(), _running())
        if threads != self._used:
            torch.set_num_threads(threads)
            self._used = threads


async def _wait_through_cancellation(done: anyio.Event) -> None:
    cancelled: BaseException | None = None
    with anyio.CancelScope(shield=True):
        while not done.is_set():
            try:
                await done.wait()
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error  # asyncio's own task.cancel() passes every shield
    if cancelled is not None:
        raise cancelled


def _running() -> int:
    return sum(t.name.startswith(_PREFIX) for t in threading.enumerate())


def share(cores: int, engines: int) -> int:
    """Return how many of ``cores`` each of ``engines`` uses.

    One core is left free: a thread of torch's that has to wait for a core makes all
    the others spin (2 threads beside another busy process: a quarter of the speed).
    """
    return max(1, (cores - 1) // engines)


def physical_cores() -> int:
    """Return the physical cores this process may run on."""
    import torch  # noqa: PLC0415 - takes seconds: only where it is loaded anyway

    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    capabilities: dict[str, int] = getattr(torch.cpu, "get_capabilities", dict)()
    return min(allowed, capabilities.get("num_physical_cores", allowed))
