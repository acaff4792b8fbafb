"""What a pass has not come to yet: calls that it keeps, or preempts for better ones."""

from __future__ import annotations

from heapq import merge
from operator import attrgetter
from typing import TYPE_CHECKING

from autellix.core.call import CallState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autellix.core.books import Books
    from autellix.core.call import Call

_order = attrgetter("order")


class Ahead:
    """The running calls that a pass has not come to, and all resident ones with them.

    Args:
        books: The engine's, at the start of the pass.

    Attributes:
        running: What ran before the pass and was not preempted in it, best first.
        next: Index of the first of these that the pass has not come to.
    """

    def __init__(self, books: Books) -> None:
        self.running = books.running
        self.running.sort(key=_order)
        self.next = 0
        self._books = books

    def __len__(self) -> int:
        """Return how many running calls are still to come."""
        return len(self.running) - self.next

    @property
    def first(self) -> Call | None:
        """The running call that comes next."""
        return self.running[self.next] if self.next < len(self.running) else None

    @property
    def last(self) -> Call | None:
        """The running call that comes last."""
        return self.running[-1] if self.next < len(self.running) else None

    def remove(self, call: Call) -> None:
        """Take a running call out that is preempted, if it is still to come."""
        if call in self.running[self.next :]:
            self.running.remove(call)

    def residents(self) -> Iterator[Call]:
        """Return the resident calls the pass has not kept, the last in order first."""
        line = self._books.line
        preempted = self._books.preempted
        just_paused = [c for c in preempted if c.state is CallState.PAUSED]
        return merge(
            reversed(self.running[self.next :]),
            (line[place] for place in reversed(line.paused)),
            sorted(just_paused, key=_order, reverse=True),
            key=_order,
            reverse=True,
        )

    def worst_level(self) -> int:
        """Return the level of the last of ``residents``; -1 without any."""
        levels = [c.level for c in self._books.preempted if c.is_resident]
        if self.last is not None:
            levels.append(self.last.level)
        if self._books.line.paused:
            levels.append(self._books.line.paused[-1][0])
        return max(levels, default=-1)
