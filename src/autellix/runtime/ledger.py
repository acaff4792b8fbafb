"""Where programs and calls are booked: their rows, their sums, and the word about them.

A call is entered here when it is submitted and struck out when it has ended, exactly
once (rule A4), on whatever path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from autellix.core.records import CallReport, Outcome, ProgramDelta
from autellix.errors import PolicyFault
from autellix.runtime.clock import now_ns
from autellix.runtime.events import EventKind
from autellix.runtime.session import Session

if TYPE_CHECKING:
    from autellix.core.process_table import ProcessTable
    from autellix.runtime.session import OpenCall
    from autellix.runtime.statistics import Totals
    from autellix.runtime.telling import Telling


class Ledger:
    """The process table, and what the runtime keeps beside it."""

    def __init__(self, table: ProcessTable, totals: Totals, telling: Telling) -> None:
        self._table = table
        self._totals = totals
        self._telling = telling
        self._sessions: dict[int, Session] = {}

    def __iter__(self) -> Iterator[Session]:
        """Iterate over programs that are open or have live calls, as they came."""
        return iter(list(self._sessions.values()))

    # -- programs ----------------------------------------------------------------

    def open(self, name: str, size_ns: int | None) -> Session:
        """Give a program its row (rule A8)."""
        at_ns = now_ns()
        session = Session(self._table.open(name, now_ns=at_ns, size_ns=size_ns), name)
        self._sessions[session.program_id] = session
        self._totals.programs_opened += 1
        self._telling.program(EventKind.PROGRAM_OPENED, session, at_ns)
        return session

    def close(self, session: Session) -> None:
        """End a program; its row goes now, or with its last live call (rule A8)."""
        at_ns = now_ns()
        self._table.close(session.program_id)
        self._totals.programs_ended += 1
        self._telling.program(EventKind.PROGRAM_CLOSED, session, at_ns)
        self._drop_if_over(session)

    def bound_engine(self, session: Session) -> str | None:
        """Return the engine a program is bound to."""
        return self._table.view(session.program_id).engine

    def bind(self, session: Session, engine: str) -> None:
        """Bind a program to an engine (rule B1)."""
        self._table.bind(session.program_id, engine)

    def unbind_all(self, engine: str) -> None:
        """Free the programs of a lost engine, to be bound anew (rule B3)."""
        for view in self._table.views():
            if view.engine == engine:
                self._table.bind(view.program_id, None)

    # -- calls -------------------------------------------------------------------

    def submit(self, call: OpenCall) -> None:
        """Enter a call; a retry is entered anew, as another."""
        was = call.spec
        call.submitted_ns = now_ns()
        call.spec = self._table.submit(
            call.session.program_id,
            prompt=call.prompt,
            max_tokens=call.request.max_tokens,
            now_ns=call.submitted_ns,
            after=call.request.after_ns,
        )
        call.session.calls[call.call_id] = call
        if was is None:
            self._telling.submitted(call)
            return
        self._totals.retried += 1
        self._telling.call(EventKind.RETRIED, call, call.submitted_ns, was=was.call_id)

    def sent(self, call: OpenCall, *, binds: bool) -> None:
        """Note that an engine has a call."""
        if binds and call.engine is not None:
            self.bind(call.session, call.engine.name)
        self._telling.call(EventKind.BOUND, call, now_ns(), binds=binds)

    def refuse(self, call: OpenCall) -> None:
        """Strike out a call that no engine took: it was none (rules A4, S9)."""
        self._table.refuse(call.call_id)
        self._forget(call)
        self._telling.call(EventKind.ENDED, call, now_ns(), outcome="refused")
        call.wake()

    def end(self, call: OpenCall, report: CallReport) -> None:
        """Strike out a call, and fold in what it used (rule A4)."""
        if report.outcome is Outcome.FAILED:
            self._table.lose(report.call_id, now_ns=report.ended_ns)
        else:
            try:
                call.path_ns = self._table.end(report)
            except PolicyFault as fault:  # its consumer gets it, not its engine
                call.error = fault
                self._table.lose(report.call_id, now_ns=report.ended_ns)
        call.report = report
        self._totals.add(report, call.intake_ns)
        self._forget(call)
        self._telling.ended(call, report)
        call.wake()

    def end_unsent(self, call: OpenCall, outcome: Outcome) -> None:
        """Strike out a call that only waited; that wait is in its row already."""
        at_ns = now_ns()
        report = CallReport(
            call_id=call.call_id,
            program_id=call.session.program_id,
            outcome=outcome,
            submitted_ns=at_ns,
            ended_ns=at_ns,
            first_token_ns=None,
            inherited_ns=call.the_spec.inherited_ns,
            service_ns=0,
            work_ns=0,
            wait_ns={},
            prompt_tokens=len(call.prompt),
            cached_device_tokens=0,
            cached_host_tokens=0,
            output_tokens=0,
            computed_tokens=0,
            preemptions={},
            level=0,
            program=ProgramDelta(),
        )
        self.end(call, report)

    def _forget(self, call: OpenCall) -> None:
        del call.session.calls[call.call_id]
        self._drop_if_over(call.session)

    def _drop_if_over(self, session: Session) -> None:
        if session.is_closed and not session.calls:
            self._sessions.pop(session.program_id, None)
