"""Virtual time: real agent code, a simulated day in seconds, twice the same way.

The one place of this library that knows asyncio. Everything else reads time through
anyio, so under this loop the whole runtime lives in virtual time. On trio the same is
had with ``trio.testing.MockClock(autojump_threshold=0)``, but not twice the same way:
trio shuffles its tasks on purpose.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import selectors
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import anyio
from anyio._backends import _asyncio as anyio_asyncio

from autellix.testing.loop_order import (
    OrderedTask,
    OrderedTimer,
    keep_order_of_scopes,
)

if TYPE_CHECKING:
    import concurrent.futures
    from contextvars import Context

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_GRACE_S = 0.5  # real seconds in which a thread unknown to us may still call in


class DeadlockError(RuntimeError):
    """Nothing is ready, no timer is set and no thread works: nothing can ever happen.

    Attributes:
        tasks: Names of the tasks that wait.
    """

    def __init__(self, reason: str, tasks: list[str]) -> None:
        self.tasks = tasks
        super().__init__(f"{reason}; waiting: {', '.join(tasks) or 'no task'}")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose clock jumps to the next timer when all wait.

    Starts at 0 s. Between jumps the clock stands still, also while a worker thread
    of anyio or of ``run_in_executor`` works, unless that thread itself waits for a
    coroutine on this loop. Timers of one instant fire in the order they were set, and
    tasks of one group are cancelled in the same order in every run.
    Sockets and processes live in real time and have no place under this loop.

    When nothing can happen any more, ``DeadlockError`` comes out of ``run_forever``,
    and so out of ``anyio.run``.

    Args:
        thread_patience_s: Real seconds without a sign of life from working threads
            after which the loop gives up.
    """

    # Private to asyncio and stable for years; tests/testing/test_virtual_time.py
    # has a canary for each.
    _scheduled: list[asyncio.TimerHandle]
    _clock_resolution: float

    def __init__(self, *, thread_patience_s: float = 60.0) -> None:
        self._now_s = 0.0
        self._thread_patience_s = thread_patience_s
        self._timers_set = itertools.count()
        self._tasks_started = itertools.count()
        self._executor_jobs = 0
        self._calls_from_threads: Counter[int] = Counter()
        self._calling_thread: int | None = None
        super().__init__(_JumpingSelector(self))
        self._clock_resolution = math.ulp(0.0)

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._now_s

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer; asyncio's own does not order timers of one instant."""
        timer = OrderedTimer(when, callback, args, self, context)
        timer.turn = next(self._timers_set)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # noqa: SLF001 - asyncio counts those it cancels
        return timer

    def advance(self) -> None:
        """Jump to the next timer.

        Raises:
            DeadlockError: There is none.
        """
        next_s = self._scheduled[0].when() if self._scheduled else math.inf
        if next_s == math.inf:  # how anyio sleeps for ever
            raise DeadlockError(
                "virtual time: nothing is ready and no timer is set", self._waiting()
            )
        self._now_s = max(self._now_s, next_s)
        # asyncio fires what lies before now + resolution: exactly what is due.
        self._clock_resolution = math.ulp(self._now_s)

    def real_wait_s(self) -> float:
        """Return the real seconds to wait for threads before the clock may move."""
        if threading.active_count() == 1 and not self._executor_jobs:
            return 0.0  # there is none: nearly always, and asked at every jump
        if self._working_threads() > 0:
            return self._thread_patience_s
        has_timer = bool(self._scheduled) and self._scheduled[0].when() < math.inf
        if has_timer or threading.active_count() == 1 + len(self._anyio_threads()[1]):
            return 0.0
        return _GRACE_S

    def give_up(self) -> None:
        """Say that working threads gave no sign of life for too long, if any works.

        Raises:
            DeadlockError: A thread is at work.
        """
        working = self._working_threads()
        if working:
            raise DeadlockError(
                f"virtual time: {working} worker thread(s) gave no sign of life for "
                f"{self._thread_patience_s} s of real time",
                self._waiting(),
            )

    def _waiting(self) -> list[str]:
        return sorted(task.get_name() for task in asyncio.all_tasks(self))

    # Threads: who works for this loop, and who of them waits for it.

    def _anyio_threads(self) -> tuple[set[int | None], set[int | None]]:
        """Return the idents of anyio's worker threads that work, and of idle ones."""
        workers = anyio_asyncio._threadpool_workers.get(set())  # noqa: SLF001 - no public way
        idle = anyio_asyncio._threadpool_idle_workers.get(None) or ()  # noqa: SLF001 - no public way
        idle_idents = {thread.ident for thread in idle}
        return {thread.ident for thread in workers} - idle_idents, idle_idents

    def _working_threads(self) -> int:
        waiting = set(self._calls_from_threads)
        anyio_working = self._anyio_threads()[0]
        executor_working = self._executor_jobs - len(waiting - anyio_working)
        return len(anyio_working - waiting) + max(0, executor_working)

    def run_in_executor(
        self,
        executor: concurrent.futures.Executor | None,
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Run ``func`` in a thread; the clock stands still until it returns."""
        future = super().run_in_executor(executor, func, *args)
        self._executor_jobs += 1
        future.add_done_callback(self._executor_job_done)
        return future

    def _executor_job_done(self, _: asyncio.Future[Any]) -> None:
        self._executor_jobs -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Shut the executor down; a thread does it, so the clock stands still."""
        self._executor_jobs += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._executor_jobs -= 1

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Call back on the loop; remembers which thread asked."""
        thread = threading.get_ident()

        def call() -> None:
            self._calling_thread = thread
            try:
                callback(*args)
            finally:
                self._calling_thread = None

        return super().call_soon_threadsafe(call, context=context)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """Start a task; a thread that started it waits for it, and does not work."""
        turn = next(self._tasks_started)
        task = OrderedTask(coro, turn, loop=self, name=name, context=context, **options)
        thread = self._calling_thread
        if thread is not None:
            self._calls_from_threads[thread] += 1
            task.add_done_callback(lambda _: self._call_from_thread_done(thread))
        return task

    def _call_from_thread_done(self, thread: int) -> None:
        self._calls_from_threads[thread] -= 1
        self._calls_from_threads += Counter()  # drops what is zero


keep_order_of_scopes(VirtualTimeLoop)  # at import: it must be done once, and early


class _JumpingSelector(selectors.DefaultSelector):
    """Moves the clock where another selector would sleep."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; else wait for threads, else move the clock."""
        if timeout == 0 and threading.active_count() == 1:
            return []  # callbacks are due, and there is nobody else to hear
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        real_wait_s = self._loop.real_wait_s()
        if real_wait_s:
            ready = super().select(real_wait_s)
            if ready:
                return ready
            self._loop.give_up()
        self._loop.advance()
        return ready


def run_virtual(async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Run ``async_fn(*args)`` under a fresh virtual clock and return its result.

    The counterpart of ``anyio.run`` for tests and simulations: sleeping costs nothing
    and the same program takes the same virtual time, to the bit, in every run. When
    everything waits and nothing can happen any more, ``DeadlockError`` comes out.
    """
    return anyio.run(
        async_fn,
        *args,
        backend="asyncio",
        backend_options={"loop_factory": VirtualTimeLoop},
    )
