"""T and W of programs with calls in the runtime's own queue (rules A7, Q3, B4).

Here a program waits while one of its calls is in the queue and none is on an engine.
What engines see of it they report themselves; the process table adds both up.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import attrs

from autellix.core.records import FairnessWindow, ProgramDelta
from autellix.core.starvation import due_ns

if TYPE_CHECKING:
    from autellix.core.records import CallSpec

_NEW_WINDOW = FairnessWindow()


@attrs.define(eq=False)
class _Clock:
    """What is known of one program.

    ``base`` is its window as the process table has it; ``since_ns`` is the wait in the
    window, ``waited_ns`` all wait, that the table has not been told of yet;
    ``starvable`` counts its waiting calls below level 0.
    """

    base: FairnessWindow
    settled_ns: int
    waiting: int = 0
    starvable: int = 0
    on_engines: int = 0
    since_ns: int = 0
    waited_ns: int = 0
    was_promoted: bool = False
    watch: int | None = None

    def settle(self, now_ns: int) -> None:
        if self.waiting and not self.on_engines:
            waited_ns = now_ns - self.settled_ns
            self.since_ns += waited_ns
            self.waited_ns += waited_ns
        self.settled_ns = now_ns

    def window(self) -> FairnessWindow:
        return attrs.evolve(self.base, waited_ns=self.base.waited_ns + self.since_ns)

    def restart(self) -> None:
        self.base = _NEW_WINDOW
        self.since_ns = 0
        self.was_promoted = True

    def take_delta(self) -> ProgramDelta:
        delta = ProgramDelta(
            waited_ns=self.waited_ns,
            promoted=self.was_promoted,
            window=FairnessWindow(waited_ns=self.since_ns),
        )
        self.base = self.window()
        self.since_ns = self.waited_ns = 0
        self.was_promoted = False
        return delta


class IntakeFairness:
    """Clocks of the programs that have a call in the queue or on an engine.

    Args:
        beta: W/T at which a program is promoted; None: never.
    """

    def __init__(self, beta: float | None) -> None:
        self._beta = beta
        self._clocks: dict[int, _Clock] = {}
        self._watched: list[tuple[int, int, int]] = []
        self._entries = 0

    def __len__(self) -> int:
        """Return the number of programs."""
        return len(self._clocks)

    def waiting(self, program_id: int) -> int:
        """Return how many calls of a program wait."""
        clock = self._clocks.get(program_id)
        return clock.waiting if clock else 0

    def enter(
        self, spec: CallSpec, *, is_starvable: bool, first_quantum_ns: int, now_ns: int
    ) -> None:
        """Count a call in; its window counts if no other call of the program waits."""
        clock = self._clock(spec.program_id, now_ns)
        if not clock.waiting:
            clock.base = spec.window
        clock.waiting += 1
        clock.starvable += is_starvable
        self._watch(spec.program_id, clock, first_quantum_ns)

    def leave(
        self, program_id: int, *, was_starvable: bool, is_sent: bool, now_ns: int
    ) -> ProgramDelta:
        """Count a call out; return what is to be reported of its program."""
        clock = self._clock(program_id, now_ns)
        clock.waiting -= 1
        clock.starvable -= was_starvable
        clock.on_engines += is_sent
        delta = clock.take_delta()
        self._drop_if_idle(program_id, clock)
        return delta

    def sent(self, program_id: int, now_ns: int) -> None:
        """Note that a call went to an engine past the queue."""
        self._clock(program_id, now_ns).on_engines += 1

    def ended(
        self,
        program_id: int,
        window: FairnessWindow,
        *,
        first_quantum_ns: int,
        now_ns: int,
    ) -> None:
        """Note that a call on an engine ended, with the table's window after it."""
        clock = self._clock(program_id, now_ns)
        clock.on_engines -= 1
        if not clock.was_promoted:  # else the table's window is about to be replaced
            clock.base = window
        self._watch(program_id, clock, first_quantum_ns)
        self._drop_if_idle(program_id, clock)

    def promoted(self, program_id: int, calls: int) -> None:
        """Note that so many waiting calls of a program were put to level 0."""
        self._clocks[program_id].starvable -= calls

    def moved(
        self, program_id: int, starvable: int, *, first_quantum_ns: int, now_ns: int
    ) -> None:
        """Note that so many more, or fewer, of its waiting calls are below level 0."""
        clock = self._clock(program_id, now_ns)
        clock.starvable += starvable
        self._watch(program_id, clock, first_quantum_ns)

    def lower_quantum(self, first_quantum_ns: int) -> None:
        """Look earlier at those watched: a new ranking has a lower floor of T."""
        for program_id, clock in self._clocks.items():
            if clock.watch is not None:
                self._watch(program_id, clock, first_quantum_ns)

    def next_due_ns(self) -> int | None:
        """Return the first instant at which a program may starve."""
        while self._watched:
            due, program_id, entry = self._watched[0]
            clock = self._clocks.get(program_id)
            if clock is not None and clock.watch == entry:
                if clock.starvable and not clock.on_engines:
                    return due
                clock.watch = None
            heapq.heappop(self._watched)
        return None

    def take_starving(self, first_quantum_ns: int, now_ns: int) -> list[int]:
        """Return the programs that starve now, by id; their windows restart."""
        starving = []
        while (due := self.next_due_ns()) is not None and due <= now_ns:
            _, program_id, _ = heapq.heappop(self._watched)
            clock = self._clocks[program_id]
            clock.watch = None
            clock.settle(now_ns)
            if self._due_ns(clock, first_quantum_ns) > now_ns:
                self._watch(program_id, clock, first_quantum_ns)
                continue
            clock.restart()
            starving.append(program_id)
        return sorted(starving)

    def _clock(self, program_id: int, now_ns: int) -> _Clock:
        clock = self._clocks.get(program_id)
        if clock is None:
            clock = self._clocks[program_id] = _Clock(_NEW_WINDOW, now_ns)
        clock.settle(now_ns)
        return clock

    def _drop_if_idle(self, program_id: int, clock: _Clock) -> None:
        if not clock.waiting and not clock.on_engines:
            del self._clocks[program_id]

    def _due_ns(self, clock: _Clock, first_quantum_ns: int) -> int:
        assert self._beta is not None  # noqa: S101 - nobody is watched without it
        return due_ns(clock.window(), self._beta, first_quantum_ns, clock.settled_ns)

    def _watch(self, program_id: int, clock: _Clock, first_quantum_ns: int) -> None:
        """Look at a settled program again when it is due, if it waits until then."""
        if self._beta is None or not clock.starvable or clock.on_engines:
            return
        self._entries += 1
        clock.watch = self._entries
        due = self._due_ns(clock, first_quantum_ns)
        heapq.heappush(self._watched, (due, program_id, self._entries))
