"""The runtime's own queue, in front of engines with an intake limit (rule B4).

Calls that no engine has room for wait here in the policy's order and are bound late.
An engine that schedules its own steps needs no limit; for one that cannot be scheduled
from inside, this queue is where the policy acts. Pure: the runtime brings the time, and
looks again when ``next_change_ns`` says that waiting alone has changed something.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import attrs

from autellix.core.intake_fairness import IntakeFairness
from autellix.core.intake_lanes import Lane, Lanes, Waiting
from autellix.core.ranking import InnerOrder
from autellix.errors import InvariantError

if TYPE_CHECKING:
    from collections.abc import Collection

    from autellix.core.ranking import Placement, Policy, Ranking
    from autellix.core.records import CallSpec, FairnessWindow, ProgramDelta


@attrs.frozen(kw_only=True)
class Leaving:
    """A call that left the queue: taken by an engine, withdrawn, or without engine.

    ``waited_ns`` and ``program`` are for ``ProcessTable.wait_in_intake``, whose answer
    is the fairness window that goes to the engine with the call.

    Attributes:
        call_id: Of the call.
        program_id: Of its program.
        level: The level on which it waited.
        waited_ns: How long it was here.
        program: What was seen here of its program since the last report.
    """

    call_id: int
    program_id: int
    level: int
    waited_ns: int
    program: ProgramDelta


def passes_limit(level: int, worst_running_level: int | None) -> bool:
    """Say whether a call of ``level`` may enter an engine that is at its limit.

    It may where it is better than the engine's worst resident, which the engine will
    then preempt for it. None: nothing is resident, or the engine does not say.
    """
    return worst_running_level is not None and level < worst_running_level


class Intake:
    """Calls waiting in the runtime, in the order of a policy.

    The order is by level, then by the policy's inner order. The level is what the
    ranking gives for the inherited charge; starvation changes it (rule Q3), and another
    ranking may.

    Args:
        policy: Gives the inner order and ``beta``.
        ranking: Gives levels to calls that come in or are promoted.
    """

    def __init__(self, policy: Policy, ranking: Ranking) -> None:
        self._by_program = policy.inner_order is InnerOrder.PROGRAM_ARRIVAL
        self._ranking = ranking
        self._fairness = IntakeFairness(policy.beta)
        self._waiting: dict[int, Waiting] = {}
        self._programs: dict[int, dict[int, Waiting]] = {}
        self._lanes = Lanes()
        self._unbinding: list[tuple[int, int]] = []
        self._places = 0

    def __len__(self) -> int:
        """Return the number of calls that wait."""
        return len(self._waiting)

    def __contains__(self, call_id: int) -> bool:
        """Say whether a call waits here."""
        return call_id in self._waiting

    def add(
        self,
        spec: CallSpec,
        *,
        engines: Collection[str],
        bound_engine: str | None,
        rebuild_ns: int,
        now_ns: int,
    ) -> None:
        """Take a call in.

        Args:
            spec: The call.
            engines: Those it may run on (rule B3); at least one.
            bound_engine: Of its program; ignored when not among ``engines``.
            rebuild_ns: What computing its prefix on another engine costs: so long it
                waits for its own before any may have it.
            now_ns: The instant.

        Raises:
            ValueError: ``engines`` is empty.
            InvariantError: The call waits here already.
        """
        if not engines:
            raise ValueError(f"call {spec.call_id} has no engine to wait for")
        if spec.call_id in self._waiting:
            raise InvariantError(f"call {spec.call_id} waits in the intake already")
        placement = self._ranking.enter(spec.job, spec.inherited_ns)
        bound = bound_engine if bound_engine in engines else None
        call = Waiting(spec, Lane(frozenset(engines), bound), now_ns)
        self._waiting[spec.call_id] = call
        self._programs.setdefault(spec.program_id, {})[spec.call_id] = call
        self._place(call, placement)
        if bound is not None:
            free_ns = now_ns + rebuild_ns + 1
            heapq.heappush(self._unbinding, (free_ns, spec.call_id))
        self._fairness.enter(
            spec,
            is_starvable=call.level > 0,
            first_quantum_ns=self._ranking.first_quantum_ns,
            now_ns=now_ns,
        )

    def take(
        self, engine: str, now_ns: int, *, passing: int | None = None
    ) -> Leaving | None:
        """Hand out the first call in order that ``engine`` may have; None if none is.

        That is the first that is unbound, bound to it, or bound elsewhere and has
        waited for longer than its prefix costs to rebuild.

        Args:
            engine: Which has room for a call, or ``passing`` is given.
            now_ns: The instant.
            passing: When the engine is at its limit: the level of its worst resident.
                Only a call that is better is handed out then.
        """
        self.advance(now_ns)
        call = self._lanes.first(engine)
        if call is None:
            return None
        if passing is not None and not passes_limit(call.level, passing):
            return None
        return self._leave(call, now_ns, is_sent=True)

    def withdraw(self, call_id: int, now_ns: int) -> Leaving:
        """Remove a call that was cancelled while it waited.

        Raises:
            InvariantError: It does not wait here.
        """
        call = self._waiting.get(call_id)
        if call is None:
            raise InvariantError(f"call {call_id} does not wait in the intake")
        return self._leave(call, now_ns, is_sent=False)

    def drop_engine(self, engine: str, now_ns: int) -> list[Leaving]:
        """Forget a lost engine; return the calls that have no other, which leave.

        Calls that were bound to it wait on, unbound (rules B3, B5).
        """
        stranded = []
        for call in list(self._waiting.values()):
            engines = call.lane.engines - {engine}
            if not engines:
                stranded.append(self._leave(call, now_ns, is_sent=False))
            elif engines != call.lane.engines:
                bound = None if call.lane.bound == engine else call.lane.bound
                self._move(call, Lane(engines, bound))
        return stranded

    def sent(self, program_id: int, now_ns: int) -> None:
        """Note that a call of a program went to an engine past this queue."""
        self._fairness.sent(program_id, now_ns)

    def ended(self, program_id: int, window: FairnessWindow, now_ns: int) -> None:
        """Note that a call that was taken, or ``sent``, has ended.

        Args:
            program_id: Of its program.
            window: The program's in the process table, after the call was folded in.
            now_ns: The instant.
        """
        quantum_ns = self._ranking.first_quantum_ns
        self._fairness.ended(
            program_id, window, first_quantum_ns=quantum_ns, now_ns=now_ns
        )

    def advance(self, now_ns: int) -> None:
        """Do what waiting alone has brought about: unbind calls, promote programs."""
        while self._unbinding and self._unbinding[0][0] <= now_ns:
            call = self._waiting.get(heapq.heappop(self._unbinding)[1])
            if call is not None and call.lane.bound is not None:
                self._move(call, Lane(call.lane.engines, None))
        quantum_ns = self._ranking.first_quantum_ns
        for program_id in self._fairness.take_starving(quantum_ns, now_ns):
            self._promote(program_id)

    def next_change_ns(self) -> int | None:
        """Return when ``advance`` next has something to do; None: not by waiting."""
        while self._unbinding and not self._is_bound(self._unbinding[0][1]):
            heapq.heappop(self._unbinding)
        instants = [free_ns for free_ns, _ in self._unbinding[:1]]
        due_ns = self._fairness.next_due_ns()
        if due_ns is not None:
            instants.append(due_ns)
        return min(instants, default=None)

    def update_ranking(self, ranking: Ranking, now_ns: int) -> None:
        """Use another ranking for every placement from now on (rule Q4).

        Calls that wait here stand anew where it says so: see ``Ranking.review``. Some
        programs may starve earlier: ask for ``next_change_ns`` again.
        """
        was_ns = self._ranking.first_quantum_ns
        self._ranking = ranking
        if ranking.first_quantum_ns < was_ns:
            self._fairness.lower_quantum(ranking.first_quantum_ns)
        for call in sorted(self._waiting.values(), key=lambda call: call.order):
            if not call.is_promoted:
                self._review(call, now_ns)
        self._lanes.clean(self._waiting.values())

    def check_invariants(self) -> None:
        """Check what must hold between any two operations; O(calls log calls).

        Raises:
            InvariantError: It does not.
        """
        for call_id, call in self._waiting.items():
            if not self._lanes.holds(call):
                raise InvariantError(f"call {call_id} is in no lane: {call.lane}")
        for program_id, calls in self._programs.items():
            waiting = self._fairness.waiting(program_id)
            if not calls or waiting != len(calls):
                raise InvariantError(
                    f"program {program_id} counts {waiting} waiting calls, "
                    f"there are {len(calls)}"
                )
        if sum(map(len, self._programs.values())) != len(self._waiting):
            raise InvariantError("calls by program are not the calls that wait")

    def _place(self, call: Waiting, placement: Placement) -> None:
        """Give a call its level and a new place in it."""
        self._places += 1
        call.level = placement.level
        arrival = (call.spec.job.program_arrival,) if self._by_program else ()
        call.order = (call.level, *arrival, self._places)
        self._move(call, call.lane)

    def _review(self, call: Waiting, now_ns: int) -> None:
        spec, was = call.spec, call.level
        placement = self._ranking.review(spec.job, spec.inherited_ns, was)
        if placement is None or placement.level == was:
            return
        self._place(call, placement)
        self._fairness.moved(
            spec.program_id,
            (call.level > 0) - (was > 0),
            first_quantum_ns=self._ranking.first_quantum_ns,
            now_ns=now_ns,
        )

    def _move(self, call: Waiting, lane: Lane) -> None:
        call.lane = lane
        self._lanes.put(call)

    def _is_bound(self, call_id: int) -> bool:
        call = self._waiting.get(call_id)
        return call is not None and call.lane.bound is not None

    def _promote(self, program_id: int) -> None:
        below = [call for call in self._programs[program_id].values() if call.level]
        for call in sorted(below, key=lambda call: call.order):
            spec = call.spec
            self._place(call, self._ranking.promote(spec.job, spec.inherited_ns))
            call.is_promoted = True
        self._fairness.promoted(program_id, len(below))

    def _leave(self, call: Waiting, now_ns: int, *, is_sent: bool) -> Leaving:
        spec = call.spec
        del self._waiting[spec.call_id]
        call.has_left = True
        siblings = self._programs[spec.program_id]
        del siblings[spec.call_id]
        if not siblings:
            del self._programs[spec.program_id]
        return Leaving(
            call_id=spec.call_id,
            program_id=spec.program_id,
            level=call.level,
            waited_ns=now_ns - call.since_ns,
            program=self._fairness.leave(
                spec.program_id,
                was_starvable=call.level > 0,
                is_sent=is_sent,
                now_ns=now_ns,
            ),
        )
