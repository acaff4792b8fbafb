"""T and W of each program on one engine, and when a program starves (rules A7, Q3).

T is the time in which at least one of a program's calls was in a step, W the time in
which at least one was live and none was: unions, so that a wide program is not promoted
for being wide. Time is booked lazily; a round costs O(programs that ran or are due).
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

import attrs

from autellix.core.records import FairnessWindow, ProgramDelta
from autellix.core.starvation import allowed_wait_ns

if TYPE_CHECKING:
    from autellix.core.call import Call


@attrs.define(eq=False)
class ProgramClock:
    """What one engine has seen of one program.

    Attributes:
        window: Fairness window as of ``settled_ns``.
        settled_ns: Instant up to which time is booked.
        calls: Live calls of the program here, in order of submission.
        starvable: Of them, those without a slot and below level 0.
        is_in_step: A step that holds one of its calls is under way.
        watch: Number of its entry among the programs that may come due; None: none.
        is_due: It has come due and waits for its turn to be promoted.
    """

    program_id: int
    window_ran_ns: int
    window_waited_ns: int
    settled_ns: int
    calls: dict[int, Call] = attrs.field(factory=dict)
    starvable: int = 0
    is_in_step: bool = False
    watch: int | None = None
    is_due: bool = False
    ran_ns: int = 0
    waited_ns: int = 0
    since_ran_ns: int = 0
    since_waited_ns: int = 0
    was_promoted: bool = False

    @property
    def window(self) -> FairnessWindow:
        """The fairness window as of ``settled_ns``."""
        return FairnessWindow(
            ran_ns=self.window_ran_ns, waited_ns=self.window_waited_ns
        )

    def settle(self, now_ns: int) -> None:
        """Book the time since the last booking as waited; not while in a step."""
        if self.is_in_step:
            return
        waited = now_ns - self.settled_ns
        self.waited_ns += waited
        self.since_waited_ns += waited
        self.window_waited_ns += waited
        self.settled_ns = now_ns

    def ran(self, forward_at_ns: int, ended_ns: int) -> None:
        """Book a step it took part in, and the wait before."""
        self.is_in_step = False
        if forward_at_ns != self.settled_ns:
            self.settle(forward_at_ns)
        spent = ended_ns - forward_at_ns
        self.ran_ns += spent
        self.since_ran_ns += spent
        self.window_ran_ns += spent
        self.settled_ns = ended_ns

    def restart(self) -> None:
        """Begin a new fairness window."""
        self.window_ran_ns = self.window_waited_ns = 0
        self.since_ran_ns = self.since_waited_ns = 0
        self.was_promoted = True

    def take_delta(self) -> ProgramDelta:
        """Return what was booked since the last time this was asked."""
        delta = ProgramDelta(
            ran_ns=self.ran_ns,
            waited_ns=self.waited_ns,
            promoted=self.was_promoted,
            window=FairnessWindow(
                ran_ns=self.since_ran_ns, waited_ns=self.since_waited_ns
            ),
        )
        self.ran_ns = self.waited_ns = self.since_ran_ns = self.since_waited_ns = 0
        self.was_promoted = False
        return delta


class Fairness:
    """The program clocks of one engine.

    Args:
        beta: W/T at which a program is promoted; None: never.
    """

    def __init__(self, beta: float | None) -> None:
        self._beta = beta
        self._clocks: dict[int, ProgramClock] = {}
        self._watched: list[tuple[int, int, int]] = []
        self._due: list[int] = []  # those that starved when last looked at, by id
        self._entries = 0

    def __len__(self) -> int:
        """Return the number of programs with live calls here."""
        return len(self._clocks)

    def clock(self, program_id: int) -> ProgramClock:
        """Return the clock of a program with live calls here."""
        return self._clocks[program_id]

    def enter(self, call: Call, now_ns: int) -> None:
        """Count a submitted call in; its window counts if it is the only one here."""
        clock = self._clocks.get(call.spec.program_id)
        if clock is None:
            clock = self._clocks[call.spec.program_id] = ProgramClock(
                call.spec.program_id,
                call.spec.window.ran_ns,
                call.spec.window.waited_ns,
                now_ns,
            )
        clock.calls[call.call_id] = call
        call.clock = clock

    def leave(self, call: Call, now_ns: int) -> ProgramDelta:
        """Count an ended call out; return what is to be reported of its program."""
        clock = call.clock
        clock.settle(now_ns)
        del clock.calls[call.call_id]
        if not clock.calls:
            del self._clocks[call.spec.program_id]
            if clock.is_due:
                del self._due[bisect_left(self._due, clock.program_id)]
        return clock.take_delta()

    def add_starvable(self, call: Call, first_quantum_ns: int) -> None:
        """Note that ``call`` waits below level 0; cost is O(log programs)."""
        clock = call.clock
        clock.starvable += 1
        if clock.watch is None and not clock.is_due and self._beta is not None:
            self._watch(clock, first_quantum_ns)

    def remove_starvable(self, call: Call) -> None:
        """Undo ``add_starvable``."""
        call.clock.starvable -= 1

    def lower_quantum(self, first_quantum_ns: int) -> None:
        """Look earlier at those watched: a new ranking has a lower floor of T."""
        for clock in self._clocks.values():
            if clock.watch is not None:
                self._watch(clock, first_quantum_ns)

    def next_due_ns(self) -> int | None:
        """Return the first instant at which a program may starve; None: not by waiting.

        It may lie in the past, where one starves already.
        """
        if self._due:
            return 0
        return self._watched[0][0] if self._watched else None

    def look(self, first_quantum_ns: int, now_ns: int) -> None:
        """Note who starves by now; no step may be under way."""
        while self._watched and self._watched[0][0] <= now_ns:
            _, program_id, entry = heapq.heappop(self._watched)
            clock = self._clocks.get(program_id)
            if clock is None or clock.watch != entry:
                continue
            clock.watch = None
            if clock.starvable and self._starves(clock, first_quantum_ns, now_ns):
                clock.is_due = True
                insort(self._due, program_id)

    def take_starving(self, first_quantum_ns: int, now_ns: int) -> ProgramClock | None:
        """Return the program that came first of those that starve; its window restarts.

        Ask ``look`` before, at the same instant.
        """
        while self._due:
            clock = self._clocks[self._due.pop(0)]
            clock.is_due = False
            if clock.starvable and self._starves(clock, first_quantum_ns, now_ns):
                clock.restart()
                self._watch(clock, first_quantum_ns)  # not all its calls may have room
                return clock
        return None

    def _starves(self, clock: ProgramClock, first_quantum_ns: int, now_ns: int) -> bool:
        """Say whether a program starves; it is watched again if it does not."""
        clock.settle(now_ns)
        if self._due_ns(clock, first_quantum_ns) <= now_ns:
            return True
        self._watch(clock, first_quantum_ns)  # it ran meanwhile
        return False

    def _due_ns(self, clock: ProgramClock, first_quantum_ns: int) -> int:
        """Return since when it starves, or will if it waits from now on."""
        assert self._beta is not None  # noqa: S101 - nobody is watched without it
        allowed = allowed_wait_ns(clock.window_ran_ns, self._beta, first_quantum_ns)
        return clock.settled_ns + allowed - clock.window_waited_ns

    def _watch(self, clock: ProgramClock, first_quantum_ns: int) -> None:
        """Look again when it can be due at the earliest."""
        self._entries += 1
        clock.watch = self._entries
        due_ns = self._due_ns(clock, first_quantum_ns)
        heapq.heappush(self._watched, (due_ns, clock.program_id, self._entries))
