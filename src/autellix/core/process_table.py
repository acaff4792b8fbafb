"""Per program: service, critical path, wait, engine and live calls (rules A1-A9).

What engines report is folded in here, and the next call of a program starts from here.
One table for a runtime; all but its overviews is O(1) in programs and calls.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

from autellix.core.program_row import ProgramView, Row
from autellix.core.ranking import ChargeSample, ProgramCharge
from autellix.core.records import (
    CallSpec,
    FairnessWindow,
    Job,
    ProgramDelta,
    WaitReason,
)
from autellix.errors import InvariantError, ProgramClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.core.ranking import Policy
    from autellix.core.records import CallReport

__all__ = ["ProcessTable", "ProgramView"]

SAMPLED_CALLS = 512
"""Ended calls kept for calibration: enough for a quartile, few enough to be recent."""
SAMPLED_PROGRAMS = 256
"""Ended programs kept for calibration: a dozen beyond the 95th percentile."""
LEARNED_PROGRAMS = 2048
"""Ended programs kept one by one: so that a class of one in a hundred has twenty."""

_NOTHING_SEEN = ProgramDelta()


@attrs.frozen
class _LiveCall:
    row: Row
    inherited_ns: int
    path_ns: int  # longest chain of calls that leads to it


class ProcessTable:
    """The rows of all open programs, and of closed ones with live calls (rule A8).

    Ids of programs count up as they arrive, ids of calls as they are submitted.

    Args:
        policy: Says what a call inherits, and which charge ages are counted in.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rows: dict[int, Row] = {}
        self._live: dict[int, _LiveCall] = {}
        self._opened = 0
        self._submitted = 0
        self._calls_ns: deque[int] = deque(maxlen=SAMPLED_CALLS)
        self._programs_ns: deque[int] = deque(maxlen=SAMPLED_PROGRAMS)
        self._ended: deque[ProgramCharge] = deque(maxlen=LEARNED_PROGRAMS)
        self._programs_ended = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __contains__(self, program_id: int) -> bool:
        """Say whether a program has a row."""
        return program_id in self._rows

    def open(
        self, program_class: str, *, now_ns: int, size_ns: int | None = None
    ) -> int:
        """Create a row and return the id of its program.

        Args:
            program_class: What is learned of programs is learned per class.
            now_ns: The instant.
            size_ns: Total charge the program will need, where an oracle knows it.
        """
        program_id = self._opened
        self._opened += 1
        job = Job(
            program_class=program_class, program_arrival=program_id, size_ns=size_ns
        )
        self._rows[program_id] = Row(job, now_ns)
        return program_id

    def submit(
        self,
        program_id: int,
        *,
        prompt: Sequence[int],
        max_tokens: int,
        now_ns: int,
        after: Sequence[int] | None = None,
    ) -> CallSpec:
        """Register a live call; what it inherits is read now, once (rule A5).

        Args:
            program_id: Of the program that makes the call.
            prompt: Token ids; at least one.
            max_tokens: At least one.
            now_ns: The instant.
            after: Paths, as ``end`` returned them, of the calls it follows; empty for
                one that follows none; None where the caller did not say (rule A6).

        Raises:
            ProgramClosed: The program has ended.
        """
        row = self._rows.get(program_id)
        if row is None or row.is_closed:
            raise ProgramClosed(row.job.program_class if row else f"#{program_id}")
        inherited_ns = self._policy.inherited_ns(row.view(), after)
        spec = CallSpec(
            call_id=self._submitted,
            program_id=program_id,
            job=row.job,
            inherited_ns=inherited_ns,
            prompt=prompt,
            max_tokens=max_tokens,
            window=row.window,
        )
        self._submitted += 1
        path_ns = row.critical_path_ns if after is None else max(after, default=0)
        self._live[spec.call_id] = _LiveCall(row, inherited_ns, path_ns)
        row.live_calls += 1
        row.last_arrival_ns = now_ns
        return spec

    def bind(self, program_id: int, engine: str | None) -> None:
        """Make ``engine`` the program's, None to unbind it."""
        self._row(program_id).engine = engine

    def wait_in_intake(
        self, call_id: int, waited_ns: int, program: ProgramDelta = _NOTHING_SEEN
    ) -> FairnessWindow:
        """Fold what a live call waited in the runtime's own queue (rules A9, B4).

        It is no part of the report that the call's engine gives at the end.

        Args:
            call_id: Of a live call that left the queue.
            waited_ns: Its wait there.
            program: What the queue saw of its program.

        Returns:
            The program's fairness window, to go to the engine with the call.
        """
        row = self._live_call(call_id).row
        row.add_wait(WaitReason.INTAKE, waited_ns)
        row.add_delta(program)
        return row.window

    def refuse(self, call_id: int) -> None:
        """Forget a live call that no engine took: it is no call (rules A4, S9)."""
        self._leave(self._live_call(call_id).row, call_id)

    def lose(self, call_id: int, *, now_ns: int) -> None:
        """End a live call whose engine failed; what it used is not folded (A4)."""
        row = self._live_call(call_id).row
        row.last_completion_ns = now_ns
        self._leave(row, call_id)

    def end(self, report: CallReport) -> int:
        """Fold what a call used into its program (rules A4, A5, A7).

        Returns:
            The call's path: the longest chain of charges that ends with it, for the
            ``after`` of those that follow it.

        Raises:
            InvariantError: It is not live, or the report is of another.
        """
        call = self._live_call(report.call_id)
        row = call.row
        if (report.program_id, report.inherited_ns) != (
            row.job.program_arrival,
            call.inherited_ns,
        ):
            raise InvariantError(f"report is not of the call submitted: {report!r}")
        run_ns = report.run_ns(self._policy.charge)
        path_ns = call.path_ns + run_ns
        row.service_ns += report.service_ns
        row.work_ns += report.work_ns
        row.critical_path_ns = max(row.critical_path_ns, path_ns)
        row.calls += 1
        row.output_tokens += report.output_tokens
        row.last_completion_ns = report.ended_ns
        for reason, waited_ns in report.wait_ns.items():
            row.add_wait(reason, waited_ns)
        row.add_delta(report.program)
        row.reached_ns = self._policy.inherited_ns(row.view(), None)
        if run_ns:
            self._calls_ns.append(run_ns)
        self._leave(row, report.call_id)
        return path_ns

    def close(self, program_id: int) -> bool:
        """End a program; its row goes now, or with its last live call (rule A8).

        Returns:
            Whether the row is gone.

        Raises:
            InvariantError: It has been closed before.
        """
        row = self._row(program_id)
        if row.is_closed:
            raise InvariantError(f"program {program_id} was closed twice")
        row.is_closed = True
        return self._drop_if_over(row)

    def view(self, program_id: int) -> ProgramView:
        """Return a snapshot of a program's row; ``InvariantError`` if it has none."""
        return self._row(program_id).view()

    def views(self) -> list[ProgramView]:
        """Return snapshots of all rows, in order of arrival; O(programs)."""
        return [row.view() for row in self._rows.values()]

    def charge_sample(self) -> ChargeSample:
        """Return what was charged lately, for calibration (rule Q4); O(programs).

        Of a program counts what a further call of it would inherit: the age it reached
        in the policy's own terms (for ATLAS its critical path, not the sum over
        branches). Programs and calls that were charged nothing say nothing.
        """
        running = [
            row.charge(has_ended=False) for row in self._rows.values() if row.reached_ns
        ]
        return ChargeSample(
            calls_ns=tuple(self._calls_ns),
            programs_ns=tuple(self._programs_ns),
            running_programs_ns=tuple(program.charge_ns for program in running),
            programs=(*self._ended, *running),
            programs_ended=self._programs_ended,
        )

    def check_invariants(self) -> None:
        """Check what must hold between any two operations; O(programs + calls).

        Raises:
            InvariantError: It does not.
        """
        live = dict.fromkeys(self._rows, 0)
        for call_id, call in self._live.items():
            program_id = call.row.job.program_arrival
            if self._rows.get(program_id) is not call.row:
                raise InvariantError(f"live call {call_id} of dropped row {program_id}")
            live[program_id] += 1
        for program_id, row in self._rows.items():
            if row.live_calls != live[program_id]:
                raise InvariantError(
                    f"program {program_id} counts {row.live_calls} live calls, "
                    f"there are {live[program_id]}"
                )
            if row.is_closed and not row.live_calls:
                raise InvariantError(f"row of ended program {program_id} was kept")

    def _row(self, program_id: int) -> Row:
        row = self._rows.get(program_id)
        if row is None:
            raise InvariantError(f"program {program_id} has no row")
        return row

    def _live_call(self, call_id: int) -> _LiveCall:
        call = self._live.get(call_id)
        if call is None:
            raise InvariantError(
                f"call {call_id} is not live: it ended before, or never was"
            )
        return call

    def _leave(self, row: Row, call_id: int) -> None:
        del self._live[call_id]
        row.live_calls -= 1
        self._drop_if_over(row)

    def _drop_if_over(self, row: Row) -> bool:
        if not row.is_closed or row.live_calls:
            return False
        del self._rows[row.job.program_arrival]
        if row.reached_ns:
            self._programs_ns.append(row.reached_ns)
            self._ended.append(row.charge(has_ended=True))
            self._programs_ended += 1
        return True
