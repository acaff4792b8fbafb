"""What asyncio and anyio leave to chance, in order: so two runs are the same run.

Timers of one instant, tasks of a group that is cancelled and scopes below a cancelled
scope are kept in heaps and sets, whose order depends on where things lie in memory.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from anyio._backends import _asyncio as anyio_asyncio

T = TypeVar("T")


class OrderedTimer(asyncio.TimerHandle):
    """A timer that knows its turn among those of the same instant."""

    __slots__ = ("turn",)

    turn: int
    _scheduled: bool
    _when: float

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, OrderedTimer):
            return NotImplemented
        if self._when == other._when:
            return self.turn < other.turn
        return self._when < other._when


class OrderedTask(asyncio.Task[T]):
    """A task whose place in a set does not depend on where it lies in memory.

    asyncio cancels the tasks of a group in the order of a set.
    """

    def __init__(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        turn: int,
        **options: Any,
    ) -> None:
        self._turn = turn  # first: the task is put into a set as it is made
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._turn

    __eq__ = object.__eq__


class OrderedSet(dict[T, None]):
    """A set that keeps the order of arrival."""

    def add(self, item: T) -> None:
        """Add ``item`` at the end."""
        self[item] = None

    def remove(self, item: T) -> None:
        """Remove ``item``; ``KeyError`` if it is not there."""
        del self[item]

    def discard(self, item: T) -> None:
        """Remove ``item`` if it is there."""
        self.pop(item, None)


def keep_order_of_scopes(of_loop: type[asyncio.AbstractEventLoop]) -> None:
    """Let anyio cancel the tasks and scopes below a scope in order of their arrival.

    It keeps them in sets, whose order depends on where things lie in memory. Scopes of
    other event loops than ``of_loop`` stay as they are.
    """
    plain_init = anyio_asyncio.CancelScope.__init__

    def init(
        scope: anyio_asyncio.CancelScope,
        deadline: float = math.inf,
        shield: bool = False,  # noqa: FBT001, FBT002 - anyio's signature
    ) -> None:
        plain_init(scope, deadline, shield)
        loop = asyncio._get_running_loop()  # noqa: SLF001 - documented, but for its name
        if isinstance(loop, of_loop):
            # No public way leads to them, and what keeps an order is no built-in set.
            scope._tasks = OrderedSet()  # type: ignore[assignment] # noqa: SLF001
            scope._child_scopes = OrderedSet()  # type: ignore[assignment] # noqa: SLF001

    # One method is put in place of another: that is the point.
    anyio_asyncio.CancelScope.__init__ = init  # type: ignore[method-assign, assignment]
