"""Many runs of one agent, each a program, yielded as they end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar, cast

import anyio
import anyio.lowlevel
import attrs

from autellix.runtime.tasks import Tasks

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

InputT = TypeVar("InputT")
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class MapOutcome(Generic[InputT, T]):
    """How one run ended: with a value, or with an error.

    Attributes:
        index: Place of its input.
        input: What the agent was given.
        error: What it raised, None if it returned.
    """

    index: int
    input: InputT
    _value: T | None = None
    error: Exception | None = None

    @property
    def value(self) -> T:
        """What the agent returned; where it raised, this raises the same."""
        if self.error is not None:
            raise self.error
        return cast("T", self._value)


class Outcomes(Generic[InputT, T]):
    """Runs of an agent while the block runs; iterate to get them as they end.

    One that fails does not take the others down. Leaving the block cancels those that
    still run, and leaves nothing behind. Made by ``AutellixRuntime.map``.
    """

    def __init__(
        self,
        run: Callable[[InputT], Awaitable[T]],
        inputs: Iterable[InputT],
        limit: int | None,
    ) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1: {limit}")
        self._run = run
        self._inputs = inputs
        self._limit = math.inf if limit is None else limit
        self._tasks = Tasks()
        self._group: TaskGroup | None = None
        self._running = 0
        self._is_fed = False
        self._ended: deque[MapOutcome[InputT, T]] = deque()
        self._news = anyio.Event()

    async def __aenter__(self) -> Self:
        """Begin to run."""
        self._group = await self._tasks.__aenter__()
        self._group.start_soon(self._feed, self._group)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Cancel what still runs."""
        if self._group is not None:
            self._group.cancel_scope.cancel()
        return await self._tasks.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Self:
        """Iterate over outcomes, in the order in which runs end."""
        return self

    async def __anext__(self) -> MapOutcome[InputT, T]:
        """Return the next outcome.

        Raises:
            StopAsyncIteration: All runs have ended, and all is read.
            RuntimeError: It has not been entered.
        """
        if self._group is None:
            raise RuntimeError("enter it first: async with runtime.map(…) as outcomes")
        while not self._ended:
            if self._is_fed and not self._running:
                raise StopAsyncIteration
            await self._news.wait()
        outcome = self._ended.popleft()
        self._tell()
        return outcome

    async def _feed(self, group: TaskGroup) -> None:
        """Start a run for each input, as many at a time as allowed.

        Outcomes nobody takes hold new runs up too, so that endless inputs are fine.
        """
        for index, given in enumerate(self._inputs):
            while max(self._running, len(self._ended)) >= self._limit:
                await self._news.wait()
            self._running += 1
            group.start_soon(self._run_one, index, given)
            if index % 64 == 63:  # endless inputs must not keep the loop
                await anyio.lowlevel.checkpoint()
        self._is_fed = True
        self._tell()

    async def _run_one(self, index: int, given: InputT) -> None:
        try:
            value = await self._run(given)
        except Exception as error:  # noqa: BLE001 - the outcome carries it
            self._ended.append(MapOutcome(index=index, input=given, error=error))
        else:
            self._ended.append(MapOutcome(index=index, input=given, value=value))
        self._running -= 1
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()
