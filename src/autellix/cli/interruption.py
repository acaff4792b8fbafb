"""Ctrl-C while programs run: which of them had not ended by then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio

from autellix.runtime.tasks import Tasks

if TYPE_CHECKING:
    from autellix.runtime.recording import Recording


async def serve_noting_interrupts(
    serve: Callable[[], Awaitable[None]], recording: Recording
) -> None:
    """Await ``serve()``; when Ctrl-C comes, ``recording`` hears of it first.

    Ctrl-C cancels the outermost task, and programs close as that reaches them. So they
    are run in a task below this one: here it is seen while they are still open.
    """
    has_ended = anyio.Event()

    async def run() -> None:
        await serve()
        has_ended.set()

    async with Tasks() as tasks:
        tasks.start_soon(run)
        try:
            await has_ended.wait()
        except anyio.get_cancelled_exc_class():
            recording.interrupt()
            raise
