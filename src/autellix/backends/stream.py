"""The stream of one call: a deque and an event between an engine and a consumer.

No memory object stream and no task per call: at thousands of tokens a second they
would cost more than the scheduling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import attrs

if TYPE_CHECKING:
    from autellix.backends.protocol import Chunk


class FinishReason(StrEnum):
    """Why a call ended well (OpenAI's words)."""

    STOP = "stop"
    LENGTH = "length"


@attrs.define(eq=False, init=False)
class CallStream:
    """Chunks of one call, in order; leaving the block aborts what still runs.

    Engine side: ``push`` any number of times, then ``finish`` or ``fail`` once.
    Consumer side: ``async with`` it and iterate. ``abort`` is for whoever ends the
    consumer's program.

    Attributes:
        finish_reason: Set once the iteration has ended.
    """

    finish_reason: FinishReason | None
    _chunks: deque[Chunk]
    _news: anyio.Event | None
    _failure: BaseException | None
    _is_done: bool
    _abort: Callable[[], None]

    def __init__(self, abort: Callable[[], None]) -> None:
        self.finish_reason = None
        self._chunks = deque()
        self._news = None
        self._failure = None
        self._is_done = False
        self._abort = abort

    def push(self, chunk: Chunk) -> None:
        """Hand a chunk to the consumer; never waits."""
        self._chunks.append(chunk)
        self._wake()

    def finish(self, reason: FinishReason) -> None:
        """Say that no more chunks come."""
        self.finish_reason = reason
        self._is_done = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Say that the call failed; the consumer gets ``error`` after the chunks."""
        self._failure = error
        self._is_done = True
        self._wake()

    def abort(self, error: BaseException) -> None:
        """Abort the call from outside of its consumer, who gets ``error``."""
        if not self._is_done:
            self._is_done = True
            self._abort()
            self.fail(error)

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    async def __aenter__(self) -> Self:
        """Enter; the call has been submitted already."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Abort the call if it has not ended; never waits for the engine."""
        if not self._is_done:
            self._is_done = True
            self._abort()

    def __aiter__(self) -> Self:
        """Iterate over chunks."""
        return self

    async def __anext__(self) -> Chunk:
        """Return the next chunk; ``CallFailed`` if the engine failed in this call.

        Raises:
            StopAsyncIteration: No more come.
        """
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._is_done:
                raise StopAsyncIteration
            self._news = anyio.Event()
            await self._news.wait()
        return self._chunks.popleft()
