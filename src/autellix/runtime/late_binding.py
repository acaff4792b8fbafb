"""Calls that wait in the runtime, in front of engines with an intake limit (rule B4).

The order is the intake's (pure, ``core/intake.py``); this is its shell: it knows the
clock, asks again when waiting alone has changed something, and hands calls on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio
import attrs

from autellix.core.intake import Intake
from autellix.core.records import FairnessWindow
from autellix.policies.checked import CheckedRanking
from autellix.runtime.clock import NS_PER_S, now_ns

if TYPE_CHECKING:
    from autellix.core.intake import Leaving
    from autellix.core.process_table import ProcessTable
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallReport
    from autellix.runtime.engine_handle import EngineHandle
    from autellix.runtime.fleet import Fleet
    from autellix.runtime.session import OpenCall


class LateBinding:
    """The queue, and the engines it stands in front of.

    Args:
        policy: Orders the queue.
        ranking: Its levels, to begin with.
        table: Is told what calls wait here.
        fleet: All engines.
        taken: Sends a call to the engine that has taken it; says whether it kept it.
        gave_up: Ends a call that no engine has, with the error for its consumer.
    """

    def __init__(
        self,
        policy: Policy,
        ranking: Ranking,
        *,
        table: ProcessTable,
        fleet: Fleet,
        taken: Callable[[OpenCall, EngineHandle], bool],
        gave_up: Callable[[OpenCall, Exception], None],
    ) -> None:
        self._taken = taken
        self._gave_up = gave_up
        self._policy = policy
        self._ranking = CheckedRanking.of(policy, "ranking", ranking)
        self._intake = Intake(policy, self._ranking)
        self._table = table
        self._limited = [handle for handle in fleet if handle.intake_limit is not None]
        self._waiting: dict[int, OpenCall] = {}
        self._served: set[EngineHandle] = set()
        self._changed = anyio.Event()

    def __len__(self) -> int:
        """Return the number of calls that wait."""
        return len(self._waiting)

    def __contains__(self, call: OpenCall) -> bool:
        """Say whether a call waits here."""
        return self._waiting.get(call.call_id) is call

    def stands_before(self, handle: EngineHandle) -> bool:
        """Say whether calls for this engine go through the queue."""
        return handle in self._limited

    def add(
        self,
        call: OpenCall,
        chosen: EngineHandle,
        eligible: Sequence[EngineHandle],
        *,
        is_bound: bool,
    ) -> None:
        """Let a call wait until an engine takes it, which may be at once.

        Args:
            call: Which has been submitted.
            chosen: The balancer's choice, which is asked first.
            eligible: All engines that may take it.
            is_bound: Whether ``chosen`` is worth waiting for: it is its program's.
        """
        self._intake.add(
            call.the_spec,
            engines=[handle.name for handle in eligible if handle in self._limited],
            bound_engine=chosen.name if is_bound else None,
            rebuild_ns=chosen.engine.costs.recompute_ns(len(call.prompt)),
            now_ns=now_ns(),
        )
        self._waiting[call.call_id] = call
        self._changed.set()
        self.serve(chosen)
        for handle in eligible:
            if handle is not chosen:
                self.serve(handle)

    def serve(self, handle: EngineHandle) -> None:
        """Let an engine take what it has room for, and one call past its limit.

        Asked for anything an engine may first say that calls have ended, which leads
        here again: that is left to the one who is at it, for the order of the calls.
        """
        if handle.intake_limit is None or handle in self._served:
            return
        self._served.add(handle)
        try:
            self._serve(handle, handle.intake_limit)
        finally:
            self._served.remove(handle)
        self._end_faulty()

    def _serve(self, handle: EngineHandle, limit: int) -> None:
        has_passed = False
        while self._waiting and handle.is_up:
            passing = None
            if handle.calls >= limit:
                if has_passed:
                    return
                passing = handle.engine.statistics().worst_running_level
                if handle.calls < limit:
                    continue  # being asked, it has ended a call
                if passing is None:
                    return
                has_passed = True
            leaving = self._intake.take(handle.name, now_ns(), passing=passing)
            if leaving is None:
                return
            if not self._taken(self._left(leaving), handle):
                self._note_end(leaving.program_id)

    def _end_faulty(self) -> None:
        """End the calls of programs about which the policy gave no usable answer."""
        faults = self._ranking.take_faults()
        for call in list(self._waiting.values()) if faults else ():
            fault = faults.get(call.the_spec.job.program_arrival)
            if fault is not None:
                self.withdraw(call)
                self._gave_up(call, fault)

    def withdraw(self, call: OpenCall) -> None:
        """Remove a call whose consumer has left."""
        self._left(self._intake.withdraw(call.call_id, now_ns()))

    def drop(self, handle: EngineHandle) -> list[OpenCall]:
        """Forget a lost engine; return the calls that no other can take."""
        stranded = self._intake.drop_engine(handle.name, now_ns())
        self._serve_all()  # calls that waited for this one may go to another now
        return [self._left(leaving) for leaving in stranded]

    def sent(self, program_id: int) -> None:
        """Note that a call went to an engine past this queue."""
        self._intake.sent(program_id, now_ns())

    def ended(self, report: CallReport, handle: EngineHandle) -> None:
        """Note that a call ended on an engine, which may take another."""
        self._note_end(report.program_id)
        self.serve(handle)

    def _note_end(self, program_id: int) -> None:
        has_row = program_id in self._table
        window = self._table.view(program_id).window if has_row else FairnessWindow()
        self._intake.ended(program_id, window, now_ns())
        self._changed.set()  # the program waits now, if others of its calls do

    def update_ranking(self, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""
        checked = CheckedRanking.of(self._policy, "recalibrated", ranking)
        checked.take_over(self._ranking)
        self._ranking = checked
        self._intake.update_ranking(checked, now_ns())
        self._changed.set()
        self._serve_all()

    async def watch(self) -> None:
        """Serve the engines again whenever waiting alone has changed something."""
        while True:
            self._changed = anyio.Event()
            change_ns = self._intake.next_change_ns()
            deadline_s = float("inf") if change_ns is None else change_ns / NS_PER_S
            with anyio.CancelScope(deadline=deadline_s):
                await self._changed.wait()
                continue
            self._intake.advance(now_ns())
            self._serve_all()

    def _serve_all(self) -> None:
        for handle in self._limited:
            self.serve(handle)

    def _left(self, leaving: Leaving) -> OpenCall:
        call = self._waiting.pop(leaving.call_id)
        call.intake_ns += leaving.waited_ns
        window = self._table.wait_in_intake(
            leaving.call_id, leaving.waited_ns, leaving.program
        )
        call.spec = attrs.evolve(call.the_spec, window=window)
        return call
